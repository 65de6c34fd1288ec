// The paused launcher (native/launcher): what the command gets, and what is said when it cannot be had.
//
// Owns the launcher's contract alone: no BPF, no treesnoop. The witnesses are the kernel (/proc/self of the
// command itself), strace for what happens after the pause, and exit codes a shell would give.
// Runs beside others.
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable, Writable } from "node:stream";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const launcher = fileURLToPath(new URL("../launcher", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "treesnoop-launcher-"));
chmodSync(folder, 0o755); // nobody looks into it, too
after(() => {
  rmSync(folder, { recursive: true });
});

interface Options {
  /** put before the launcher, e.g. strace */
  before?: string[];
  /** launcher options before the descriptors */
  options?: string[];
  uid?: string;
  gid?: string;
  groups?: string;
  env?: Record<string, string>;
  cwd?: string;
  /** done while the command waits */
  paused?: (child: ChildProcess) => void | Promise<void>;
  /** what ends the pause */
  end?: "go" | "close";
}

interface Outcome {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
  status: string;
}

async function all(stream: Readable | Writable | null | undefined): Promise<string> {
  assert.ok(stream instanceof Readable);
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

async function launch(command: string[], o: Options = {}): Promise<Outcome> {
  const words = [
    ...(o.before ?? []),
    launcher,
    ...(o.options ?? []),
    ...["3", "4", o.uid ?? "-1", o.gid ?? "-1", o.groups ?? "-", "--"],
    ...command,
  ];
  const [file = "", ...args] = words;
  const child = spawn(file, args, {
    stdio: ["ignore", "pipe", "pipe", "pipe", "pipe"],
    env: o.env ?? process.env,
    cwd: o.cwd ?? folder,
  });
  const exited = once(child, "close") as Promise<[number | null, NodeJS.Signals | null]>;
  const outputs = Promise.all([all(child.stdout), all(child.stderr)]);
  const go = child.stdio[3];
  const statusPipe = child.stdio[4];
  assert.ok(go instanceof Writable && statusPipe instanceof Readable);
  go.on("error", () => undefined); // a launcher that failed before the pause is gone already
  let status = "";
  for await (const chunk of statusPipe) {
    const first = status === "";
    status += (chunk as Buffer).toString();
    if (!first || !status.startsWith("R\n")) continue;
    await o.paused?.(child);
    if (o.end === "close") go.destroy();
    else go.end("g");
  }
  const [code, signal] = await exited;
  go.destroy();
  const [stdout, stderr] = await outputs;
  return { code, signal, stdout, stderr, status };
}

function file(name: string, text: string, mode = 0o755): string {
  const path = join(folder, name);
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

/** Fields of /proc/self/status as the command sees them. */
async function kernelStatus(o: Options): Promise<Record<string, string>> {
  const { stdout, code, status } = await launch(["cat", "/proc/self/status"], o);
  assert.deepEqual([code, status], [0, "R\n"]);
  return Object.fromEntries(
    stdout
      .trimEnd()
      .split("\n")
      .map((line) => line.split(":").map((part) => part.trim().replaceAll("\t", " ")))
      .map(([key, value]) => [key, value]),
  ) as Record<string, string>;
}

test("a command that is found runs, and its exit code is its own", async () => {
  const outcome = await launch(["sh", "-c", "echo out; echo err >&2; exit 7"]);
  assert.deepEqual(outcome, {
    code: 7,
    signal: null,
    stdout: "out\n",
    stderr: "err\n",
    status: "R\n",
  });
});

test("it does not run before it is told to", async () => {
  const marker = join(folder, "ran");
  await launch(["touch", marker], {
    paused: async (child) => {
      // Waiting in read() is all it does: state S, in the launcher's own image.
      const stat = () => readFileSync(`/proc/${child.pid ?? 0}/stat`, "utf8").split(" ");
      while (stat()[2] !== "S") await new Promise(setImmediate);
      assert.equal(stat()[1], "(launcher)");
      assert.equal(existsSync(marker), false);
    },
  });
  assert.equal(existsSync(marker), true);
});

test("a command killed by a signal is seen as that", async () => {
  const outcome = await launch(["sh", "-c", "kill -KILL $$"]);
  assert.deepEqual([outcome.code, outcome.signal, outcome.status], [null, "SIGKILL", "R\n"]);
});

test("a command that does not exist is 127, without a pause", async () => {
  for (const command of ["no-such-command", "./no-such-command", "/dev/null/x", ""]) {
    const { code, status, stderr } = await launch([command]);
    assert.equal(code, 127, command);
    assert.equal(stderr, "");
    assert.match(status, /^E (2|20) find /, "ENOENT, or ENOTDIR");
    assert.ok(status.endsWith(` ${command}\n`));
  }
});

test("a file that may not be executed is 126, as is a folder", async () => {
  const plain = file("plain", "text", 0o644);
  for (const command of [plain, "./plain", folder, "/", ".", "./"]) {
    const { code, status } = await launch([command]);
    assert.deepEqual([code, status], [126, `E 13 find ${command}\n`]);
  }
});

test("a script without #! is run by sh, as execvp does", async () => {
  const script = file("bare-script", `printf "%s|" "$0" "$@" "$(readlink /proc/$$/exe)"\n`);
  const sh = spawnSync("readlink", ["-f", "/bin/sh"], { encoding: "utf8" }).stdout.trim();
  const { code, stdout, status } = await launch([script, "a b", ""]);
  assert.deepEqual([code, stdout, status], [0, `${script}|a b||${sh}|`, "R\n"]);
});

test("a binary that this machine cannot run is not given to sh", async () => {
  for (const [name, content, code] of [
    ["foreign", "\x7fELF of another machine", 126],
    ["nul-in-first-line", "echo a\0b\necho c\n", 126],
    ["nul-only", "\0", 126],
    ["nul-later", "exit 5\n\0", 5],
    ["empty", "", 0],
    ["one-long-line", `exit ${"0".repeat(90)}6`, 6],
  ] as const) {
    const binary = file(name, content);
    const outcome = await launch([binary]);
    assert.equal(outcome.code, code, name);
    assert.equal(outcome.status, code === 126 ? `R\nE 8 execve ${binary}\n` : "R\n");
    assert.equal(spawnSync("bash", ["-c", binary]).status, code, "as bash has it");
  }
});

test("a failure of execve itself is reported after the pause", async () => {
  const orphan = file("orphan", "#!/no/such/interpreter\n");
  assert.deepEqual(await launch([orphan]), {
    code: 127,
    signal: null,
    stdout: "",
    stderr: "",
    status: `R\nE 2 execve ${orphan}\n`,
  });
  const looped = file("folder-as-interpreter", "#!/\n");
  const { code, status } = await launch([looped]);
  assert.deepEqual([code, status], [126, `R\nE 13 execve ${looped}\n`]);
  const going = file("going", "#!/bin/sh\n");
  const gone = await launch([going], {
    paused: () => {
      rmSync(going);
    },
  });
  assert.deepEqual([gone.code, gone.status], [127, `R\nE 2 execve ${going}\n`]);
});

test("when the go pipe closes unread, it leaves without a word", async () => {
  const marker = join(folder, "must-not-run");
  const outcome = await launch(["touch", marker], { end: "close" });
  assert.deepEqual(outcome, { code: 125, signal: null, stdout: "", stderr: "", status: "R\n" });
  assert.equal(existsSync(marker), false);
});

test("it leaves as well when the monitor is killed", async () => {
  const marker = join(folder, "must-not-run-either");
  const monitor = `
    const child = require("node:child_process").spawn(${JSON.stringify(launcher)},
      ["3", "4", "-1", "-1", "-", "--", "touch", ${JSON.stringify(marker)}],
      { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    child.stdio[4].once("data", () => console.log(child.pid));`;
  const parent = spawn(process.execPath, ["-e", monitor], { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = (await once(parent.stdout, "data")) as [Buffer];
  const pid = Number(line.toString());
  assert.equal(readFileSync(`/proc/${pid}/comm`, "utf8"), "launcher\n");
  parent.kill("SIGKILL");
  await once(parent, "close");
  const deadline = Date.now() + 10_000;
  const alive = () => {
    try {
      // An orphan may stay a zombie for as long as whoever inherits it likes.
      return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
    } catch {
      return false;
    }
  };
  while (alive() && Date.now() < deadline) await new Promise((resume) => setTimeout(resume, 5));
  assert.equal(alive(), false);
  assert.equal(existsSync(marker), false);
});

test("user, group and supplementary groups are those asked for", async () => {
  const ids = await kernelStatus({ uid: "65534", gid: "65533", groups: "7,65532,42" });
  assert.equal(ids.Uid, "65534 65534 65534 65534");
  assert.equal(ids.Gid, "65533 65533 65533 65533");
  assert.equal(ids.Groups, "7 42 65532");
  assert.equal(ids.CapEff, "0000000000000000");
  const none = await kernelStatus({ uid: "65534", gid: "65534", groups: "" });
  assert.deepEqual([none.Uid, none.Groups], ["65534 65534 65534 65534", ""]);
});

test("without being asked it changes neither user nor groups", async () => {
  const same = await kernelStatus({});
  const own = readFileSync("/proc/self/status", "utf8");
  for (const field of ["Uid", "Gid", "Groups", "CapEff", "NoNewPrivs", "Umask"]) {
    const expected = new RegExp(`^${field}:[ \\t]*(.*?)[ \\t]*$`, "m").exec(own)?.[1];
    assert.equal(same[field], expected?.replaceAll("\t", " "), field);
  }
});

test("credentials that cannot be had are a failure before the pause", async () => {
  const nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
  for (const [asked, operation] of [
    [{ uid: "0" }, "setresuid 0"],
    [{ gid: "0" }, "setresgid 0"],
    [{ groups: "0" }, "setgroups"],
  ] as const) {
    const { code, status } = await launch(["true"], { ...asked, before: nobody });
    assert.equal(code, 125);
    assert.match(status, new RegExp(`^E 1 ${operation} ?\\n$`));
  }
  const { code, status } = await launch(["true"], { uid: "root" });
  assert.deepEqual([code, status], [125, "E 22 argument root\n"]);
});

test("the command is looked for as the user it will run as", async () => {
  file("closed/tool", "#!/bin/sh\necho closed\n");
  file("open/tool", "#!/bin/sh\necho open\n");
  chmodSync(join(folder, "closed"), 0o700);
  const path = (...names: string[]) => ({ PATH: names.map((n) => join(folder, n)).join(":") });
  const nobody = { uid: "65534", gid: "65534", groups: "" };
  const asRoot = await launch(["tool"], { env: path("closed", "open") });
  assert.equal(asRoot.stdout, "closed\n");
  const asNobody = await launch(["tool"], { env: path("closed", "open"), ...nobody });
  assert.deepEqual([asNobody.stdout, asNobody.status], ["open\n", "R\n"]);
  const refused = await launch(["tool"], { env: path("closed", "none"), ...nobody });
  assert.deepEqual([refused.code, refused.status], [126, "E 13 find tool\n"]);
});

test("PATH is searched as execvp searches it", async () => {
  file("first/tool", "not executable", 0o644);
  mkdirSync(join(folder, "second/tool"), { recursive: true });
  file("third/tool", "#!/bin/sh\necho third\n");
  file("here", "#!/bin/sh\necho here\n");
  const path = (names: string) => ({ PATH: names.replaceAll("@", folder) });
  const passed = await launch(["tool"], { env: path("@/none:@/first:@/second:@/third") });
  assert.equal(passed.stdout, "third\n");
  const denied = await launch(["tool"], { env: path("@/first:@/second:@/none") });
  assert.deepEqual([denied.code, denied.status], [126, "E 13 find tool\n"]);
  for (const list of [":/bin", "/bin:", "/bin::/usr/bin", "", "."]) {
    const { stdout } = await launch(["here"], { env: path(list) });
    assert.equal(stdout, "here\n", `an empty element in "${list}" is the working directory`);
  }
  const elsewhere = await launch(["here"], { env: path("/bin:/usr/bin") });
  assert.equal(elsewhere.code, 127);
  const unset = await launch(["sh", "-c", "echo ${NOTHING-unset}"], { env: {} });
  assert.equal(unset.stdout, "unset\n");
});

test("arguments arrive byte for byte", async () => {
  const words = ["", "a b", "new\nline\n", "", "ünï ✓ 木", "\"'`$(false)\\", "--", "-n", "*", ""];
  // The shell stays (the colon) and shows what the kernel has stored of its own command line.
  const command = ["sh", "-c", "cat /proc/$$/cmdline; :", ...words];
  const { stdout } = await launch(command);
  assert.deepEqual(stdout.split("\0").slice(0, -1), command);
});

test("the environment arrives untouched and in order", async () => {
  const env = { Z: "1", A: "", PATH: "/usr/bin:/bin", MULTI: "a\nb", "odd.name": "ü", _: "x" };
  const { stdout } = await launch(["cat", "/proc/self/environ"], { env });
  assert.deepEqual(
    stdout.split("\0").slice(0, -1),
    Object.entries(env).map(([name, value]) => `${name}=${value}`),
  );
});

test("the command starts with default signals, an empty mask and no pipe of ours", async () => {
  const before = ["env", "--ignore-signal=PIPE,HUP,USR2", "--block-signal=USR1,TERM"];
  const clean = await kernelStatus({ before });
  const zero = "0000000000000000";
  assert.deepEqual([clean.SigIgn, clean.SigBlk, clean.SigCgt], [zero, zero, zero]);
  const { stdout } = await launch(["sh", "-c", "readlink /proc/$$/fd/3 /proc/$$/fd/4; :"]);
  assert.equal(stdout, "");
});

test("what node takes away from its children can be given back", async () => {
  const nohup = await kernelStatus({ options: ["-i", "0000000000000001"] });
  assert.equal(nohup.SigIgn, "0000000000000001");
  const { stdout } = await launch(["sh", "-c", "ulimit -Sn; ulimit -Hn"], {
    before: ["sh", "-c", 'ulimit -n 300; exec "$@"', "sh"],
    options: ["-n", "77"],
  });
  assert.equal(stdout, "77\n300\n");
});

test("strace: execve is the one call that follows the read", async () => {
  const log = join(folder, "strace");
  const { status } = await launch(["true", "x"], { before: ["strace", "-f", "-o", log] });
  assert.equal(status, "R\n");
  const calls = readFileSync(log, "utf8")
    .split("\n")
    .map((line) => line.replace(/^\d+ +/, ""));
  const read = calls.findIndex((call) => call.startsWith("read(3, "));
  assert.match(calls[read] ?? "", /^read\(3, "g", 1\) += 1$/);
  assert.match(calls[read - 1] ?? "", /^write\(4, "R\\n", 2\) += 2$/);
  assert.match(calls[read + 1] ?? "", /^execve\("[^"]*\/true", \["true", "x"\], .*\) = 0$/);
  assert.equal(calls.filter((call) => call.startsWith("execve(")).length, 2); // the launcher's and this
});

test("a call that makes no sense runs nothing", () => {
  for (const args of [[], ["3", "4", "-1", "-1", "-"], ["3", "4", "-1", "-1", "-", "--"], ["-x"]]) {
    assert.equal(spawnSync(launcher, args).status, 125, args.join(" "));
  }
  const closed = ["1000", "1001", "-1", "-1", "-", "--", "true"];
  assert.equal(spawnSync(launcher, closed).status, 125, "the descriptors are not open");
});
