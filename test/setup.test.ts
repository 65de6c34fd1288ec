// tools/setup.sh and run.sh: what they do to a clone, and what they leave alone.
//
// Owns the two scripts. Does not own what is built: the clones here have the real BPF programs and launcher, but a binding
// and a main program of a few lines, and package managers that only write down what they were asked. The witnesses are the
// files (inode and time), strace for what was executed, readelf for what was compiled, and the real sudo.
// Runs beside others.
import assert from "node:assert/strict";
import {
  appendFileSync,
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { test, type TestContext } from "node:test";
import { root, scratch } from "./support/paths.js";
import { execute, type CommandOptions, type Outcome } from "./support/run.js";

const nobody = 65534;
const readyMessage = "treesnoop: setting up, once; this takes about a minute\n";

/** Prints what it was started with, as the real one would hand it on to the target. */
const mainProgram = `
import { readFileSync, statSync } from "node:fs";
const args = process.argv.slice(2);
const inherited = args[0] === "--inherited" ? args.splice(0, 2)[1] : undefined;
const read = (path: string) => readFileSync(path, "utf8").split("\\0").slice(0, -1);
const file = args[0] === "--user-environment" ? args[1] : undefined;
console.log(JSON.stringify({
  args, inherited, cwd: process.cwd(), uid: process.getuid?.(), environment: read(file ?? "/proc/self/environ"),
  input: readFileSync(0, "utf8"), mode: file && (statSync(file).mode & 0o777), owner: file && statSync(file).uid,
}));
`;

interface Started {
  args: string[];
  /** soft limit of open files, ignored signals */
  inherited?: string;
  cwd: string;
  uid: number;
  environment: string[];
  input: string;
  mode?: number;
  owner?: number;
}

class Clone {
  constructor(
    readonly t: TestContext,
    readonly folder: string,
  ) {}

  path(...names: string[]): string {
    return join(this.folder, ...names);
  }

  write(name: string, text: string): void {
    mkdirSync(dirname(this.path(name)), { recursive: true });
    writeFileSync(this.path(name), text);
  }

  setup(args: string[] = [], options: CommandOptions = {}): Promise<Outcome> {
    return execute(this.t, [this.path("tools/setup.sh"), ...args], { deadline: 120, ...options });
  }

  run(args: string[], options: CommandOptions = {}): Promise<Outcome> {
    return execute(this.t, [this.path("run.sh"), ...args], options);
  }

  /** Changes whenever a file is written anew, whatever its time is set to. */
  identity(name: string): string {
    const { ino, ctimeNs } = statSync(this.path(name), { bigint: true });
    return `${ino} ${ctimeNs}`;
  }
}

function clone(t: TestContext): Clone {
  const folder = join(scratch(t), "clone");
  const made = new Clone(t, folder);
  mkdirSync(made.path("native"), { recursive: true });
  chmodSync(dirname(folder), 0o755);
  for (const name of ["run.sh", "tools/setup.sh", "tsconfig.base.json", "package.json", "package-lock.json", "bpf", "native/launcher"])
    cpSync(join(root, name), made.path(name), { recursive: true });
  const options = { rootDir: ".", outDir: "../dist", tsBuildInfoFile: "../dist/.tsbuildinfo" };
  const project = (name: string, to: object) => {
    made.write(name, JSON.stringify(to));
  };
  project("tsconfig.json", { files: [], references: [{ path: "native/libbpf-ts" }, { path: "src" }] });
  project("src/tsconfig.json", { extends: "../tsconfig.base.json", compilerOptions: options, include: ["**/*.ts"] });
  made.write("src/main.ts", mainProgram);
  project("native/libbpf-ts/tsconfig.json", {
    extends: "../../tsconfig.base.json",
    compilerOptions: { rootDir: "lib", outDir: "dist", tsBuildInfoFile: "dist/.tsbuildinfo" },
    include: ["lib"],
  });
  made.write("native/libbpf-ts/lib/index.ts", "export const nothing = 0;\n");
  made.write("native/libbpf-ts/src/addon.cc", "");
  project("native/libbpf-ts/package.json", {
    name: "libbpf-ts",
    version: "0.1.0",
    type: "module",
    scripts: { "build:native": "mkdir -p build/Release && echo built >>build/Release/stub.node" },
  });
  // Of node_modules what the compiler needs; a folder of our own, because `npm ci` would begin with deleting it.
  made.write("node_modules/.package-lock.json", "{}");
  for (const name of [".bin", "typescript", "@types", "undici-types"])
    symlinkSync(join(root, "node_modules", name), made.path("node_modules", name));
  return made;
}

async function readyClone(t: TestContext): Promise<Clone> {
  const made = clone(t);
  const { code, stdout, stderr } = await made.setup();
  assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: "", stderr: readyMessage });
  return made;
}

const silence = { code: 0, signal: null, stdout: "", stderr: "" };
const built = [
  "build/treesnoop.bpf.o",
  "build/launcher",
  "dist/main.js",
  "native/libbpf-ts/dist/index.js",
  "native/libbpf-ts/build/Release/stub.node",
];

function started(outcome: Outcome): Started {
  assert.equal(outcome.stderr, "");
  assert.equal(outcome.code, 0);
  return JSON.parse(outcome.stdout) as Started;
}

/** A PATH of one folder: every program of this machine but those named, and ours. */
function programs(t: TestContext, without: RegExp, ours: Record<string, string> = {}): string {
  const folder = join(scratch(t), "bin");
  mkdirSync(folder);
  chmodSync(dirname(folder), 0o755);
  for (const from of ["/usr/bin", "/usr/sbin"])
    for (const name of readdirSync(from))
      if (!without.test(name) && !(name in ours) && !existsSync(join(folder, name))) symlinkSync(join(from, name), join(folder, name));
  for (const [name, text] of Object.entries(ours)) {
    rmSync(join(folder, name), { force: true });
    writeFileSync(join(folder, name), text);
    chmodSync(join(folder, name), 0o755);
  }
  if (!("node" in ours) && !without.test("node")) {
    rmSync(join(folder, "node"), { force: true });
    symlinkSync(process.execPath, join(folder, "node"));
  }
  return folder;
}

test("the second set-up does nothing, says nothing and starts no builder", async (t) => {
  const c = await readyClone(t);
  for (const name of built) assert.ok(existsSync(c.path(name)), name);
  const before = built.map((name) => c.identity(name));
  const log = c.path("../strace");
  const outcome = await execute(t, ["strace", "-f", "-qq", "-e", "trace=execve", "-e", "signal=none", "-o", log, c.path("tools/setup.sh")]);
  assert.deepEqual(outcome, silence);
  assert.deepEqual(
    built.map((name) => c.identity(name)),
    before,
  );
  const executed = [...readFileSync(log, "utf8").matchAll(/execve\("[^"]*\/([^"/]+)", .* = 0$/gm)].map((m) => m[1]);
  assert.ok(executed.includes("find"));
  const harmless = new Set(["setup.sh", "env", "bash", "readlink", "dirname", "find"]);
  assert.deepEqual(
    executed.filter((name) => !harmless.has(name ?? "")),
    [],
  );
});

test("a changed, added or removed BPF source builds the object anew, and nothing else", async (t) => {
  const c = await readyClone(t);
  const [object = "", ...others] = built;
  const identities = (names: string[]) => names.map((name) => c.identity(name));
  const untouched = identities(others);
  const compiled = async (name: string) => {
    const { stdout } = await execute(t, ["readelf", "-SW", c.path(object)]);
    return stdout.includes(name);
  };
  const first = readdirSync(c.path("bpf/include"))[0] ?? "";

  let before = c.identity(object);
  utimesSync(c.path("bpf/include", first), new Date(), new Date());
  assert.deepEqual(await c.setup(), silence);
  assert.notEqual(c.identity(object), before, "touched a header");

  c.write("bpf/modules/zzz.bpf.c", 'SEC("tp_btf/added_program") int zzz(void *ctx) { return 0; }\n');
  assert.equal(await compiled("added_program"), false);
  assert.deepEqual(await c.setup(), silence);
  assert.equal(await compiled("added_program"), true);

  rmSync(c.path("bpf/modules/zzz.bpf.c"));
  assert.deepEqual(await c.setup(), silence);
  assert.equal(await compiled("added_program"), false);

  before = c.identity(object);
  assert.deepEqual(await c.setup(), silence);
  assert.equal(c.identity(object), before);
  assert.deepEqual(identities(others), untouched);
});

test("the output of a removed TypeScript source goes with it", async (t) => {
  const c = await readyClone(t);
  c.write("src/modules/cpu/extra.ts", "export const extra = 1;\n");
  assert.deepEqual(await c.setup(), silence);
  assert.ok(existsSync(c.path("dist/modules/cpu/extra.js")));
  rmSync(c.path("src/modules/cpu/extra.ts"));
  assert.deepEqual(await c.setup(), silence);
  assert.deepEqual(readdirSync(c.path("dist/modules/cpu")), []);
});

test("whatever output is missing is built again", async (t) => {
  const c = await readyClone(t);
  for (const name of built) {
    rmSync(c.path(name));
    const { code, stdout } = await c.setup();
    assert.deepEqual([code, stdout, existsSync(c.path(name))], [0, "", true], name);
  }
});

test("a source that does not compile: its place and one sentence, exit code 3, the old output stays", async (t) => {
  const c = await readyClone(t);
  const before = c.identity("build/treesnoop.bpf.o");
  const good = readFileSync(c.path("native/launcher/launcher.c"), "utf8");
  c.write("bpf/modules/zzz.bpf.c", "int one;\nint two = missing;\n");
  c.write("native/launcher/launcher.c", "int main(void) { return absent; }\n");
  for (let i = 0; i < 2; i++) {
    const { code, stdout, stderr } = await c.setup();
    assert.deepEqual([code, stdout], [3, ""]);
    assert.match(stderr, /bpf\/modules\/zzz\.bpf\.c:2:11: error: .*missing/);
    assert.match(stderr, /native\/launcher\/launcher\.c:1:\d+: error: .*absent/);
    assert.match(stderr, /^treesnoop: set-up failed at "bpf" \(exit code 1; all of its output: build\/log\/bpf\.log\)$/m);
    assert.match(stderr, /^treesnoop: set-up failed at "launcher" /m);
  }
  assert.equal(c.identity("build/treesnoop.bpf.o"), before);
  const refused = await c.run(["true"]);
  assert.deepEqual([refused.code, refused.stdout], [3, ""]);
  c.write("native/launcher/launcher.c", good);
  rmSync(c.path("bpf/modules/zzz.bpf.c"));
  assert.deepEqual(await c.setup(), silence);
});

test("an edit made while a set-up runs is not missed", async (t) => {
  const c = await readyClone(t);
  const symbols = async () => (await execute(t, ["readelf", "-sW", c.path("build/treesnoop.bpf.o")])).stdout;
  const add = (name: string) => `printf 'char ${name} SEC(".data.late");\\n' >"${c.path("bpf/modules", name)}.bpf.c"`;
  // While the BPF programs are compiled: the list of files was made by then, and the object is newer than this file.
  const PATH = programs(t, /^clang$/, { clang: `#!/bin/sh\n${add("during_bpf")}\nexec /usr/bin/clang "$@"\n` });
  utimesSync(c.path("bpf/modules"), new Date(), new Date());
  assert.equal((await c.setup([], { environment: { ...process.env, PATH } })).code, 0);
  assert.doesNotMatch(await symbols(), /during_bpf/);
  assert.deepEqual(await c.setup(), silence);
  assert.match(await symbols(), /during_bpf/);
  // While the binding is built, which takes longest: the BPF programs are compiled and left behind.
  const manifest = JSON.parse(readFileSync(c.path("native/libbpf-ts/package.json"), "utf8")) as { scripts: Record<string, string> };
  manifest.scripts["build:native"] = `sleep 1; ${add("during_binding")}; touch build/Release/stub.node`;
  c.write("native/libbpf-ts/package.json", JSON.stringify(manifest));
  assert.equal((await c.setup()).code, 0);
  assert.deepEqual(await c.setup(), silence);
  assert.match(await symbols(), /during_binding/);
});

test("a clone that was moved builds again what does not survive that", async (t) => {
  const c = await readyClone(t);
  const moved = new Clone(t, `${c.folder} moved`);
  renameSync(c.folder, moved.folder);
  writeFileSync(moved.path("native/libbpf-ts/build/CMakeCache.txt"), "of the old place");
  const { code, stdout } = await moved.setup();
  assert.deepEqual([code, stdout], [0, ""]);
  assert.equal(existsSync(moved.path("native/libbpf-ts/build/CMakeCache.txt")), false);
  assert.deepEqual(await moved.setup(), silence);
});

test("of several set-ups at once one works and the others wait for it", async (t) => {
  const c = clone(t);
  const outcomes = await Promise.all(Array.from({ length: 4 }, () => c.setup()));
  for (const { code, stdout } of outcomes) assert.deepEqual([code, stdout], [0, ""]);
  assert.equal(readFileSync(c.path("native/libbpf-ts/build/Release/stub.node"), "utf8"), "built\n");
  assert.equal(outcomes.filter(({ stderr }) => stderr.includes("setting up, once")).length, 1);
});

test("--test compiles each workload with the compiler and the flags its first lines name", async (t) => {
  const c = await readyClone(t);
  const body = "#include <stdio.h>\nint main(void) { puts(VALUE); return 0; }\n";
  c.write("test/workloads/plain.c", body.replace("VALUE", '"plain"'));
  c.write("test/workloads/flagged.c", `// flags: -static -DVALUE="\\"flagged\\""\n${body}`.replace('"\\"flagged\\""', "__FILE__"));
  c.write("test/workloads/musl.c", `// cc: musl-gcc flags: -static -DVALUE=__FILE__\n${body}`);
  c.write("test/workloads/two_lines.c", `// flags: -static -DVALUE=__FILE__\n// cc: musl-gcc\n${body}`);
  c.write("build/workloads/removed", "a workload whose source is gone");
  c.write("bench/none.txt", "");
  c.write("test/x.test.ts", 'import { extra } from "../src/extra.js";\nconsole.log(extra);\n');
  c.write("src/extra.ts", "export const extra = 41 + 1;\n");
  c.write("test/tsconfig.json", readFileSync(join(root, "test/tsconfig.json"), "utf8"));
  c.write("tsconfig.json", JSON.stringify({ files: [], references: [{ path: "test" }] }));
  assert.deepEqual(await c.setup(["--test"]), silence);
  assert.deepEqual(readdirSync(c.path("build/workloads")).sort(), ["flagged", "musl", "plain", "two_lines"]);
  const segments = async (name: string) => (await execute(t, ["readelf", "-lW", c.path("build/workloads", name)])).stdout;
  assert.match(await segments("plain"), /INTERP/);
  for (const name of ["flagged", "musl", "two_lines"]) {
    assert.doesNotMatch(await segments(name), /INTERP/);
    const symbols = await execute(t, ["readelf", "-sW", c.path("build/workloads", name)]);
    assert.equal(symbols.stdout.includes(" _IO_puts"), name === "flagged", `${name}: glibc's puts`);
  }
  const { stdout } = await execute(t, [process.execPath, c.path("build/test/x.test.js")]);
  assert.equal(stdout, "42\n", "a test imports the sources as tsc sees them");

  const before = c.identity("build/workloads/musl");
  appendFileSync(c.path("test/workloads/plain.c"), "int more;\n");
  assert.deepEqual(await c.setup(), silence, "without --test workloads are nobody's concern");
  const old = c.identity("build/workloads/plain");
  assert.deepEqual(await c.setup(["--test"]), silence);
  assert.notEqual(c.identity("build/workloads/plain"), old);
  assert.equal(c.identity("build/workloads/musl"), before);
});

test("what is missing is installed by the package manager there is, and named in one line", async (t) => {
  const asked = (folder: string) => readFileSync(join(folder, "asked"), "utf8");
  const manager = (name: string) => `#!/bin/sh
printf '%s\\n' "${name} $*" >>"\${0%/*}/asked"
[ "$1" = "-q" ] && ln -sf /usr/bin/clang "\${0%/*}/clang"
exit 0
`;
  for (const [name, line] of [
    ["apt-get", "apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends clang"],
    ["dnf", "dnf -q -y install clang"],
  ] as const) {
    const c = clone(t);
    const bin = programs(t, /^(clang|apt|dnf|sudo)/, { [name]: manager(name) });
    const environment = { ...process.env, PATH: bin };
    const { code, stdout, stderr } = await c.setup([], { environment });
    assert.deepEqual([code, stdout], [0, ""]);
    assert.equal(stderr, `treesnoop: installing clang (${name})\n${readyMessage}`);
    assert.equal(asked(bin), `${line}\n`);
    assert.deepEqual(await c.setup([], { environment }), silence);
  }
});

test("apt-get gets fresh lists and a second try; then the list is shown, exit code 3", async (t) => {
  const c = clone(t);
  const failing = '#!/bin/sh\nprintf \'%s\\n\' "$*" >>"${0%/*}/asked"\n[ "$2" = update ] && exit 0\necho "E: no such package"\nexit 100\n';
  const bin = programs(t, /^(clang|cmake|apt|dnf|sudo)/, { "apt-get": failing });
  const { code, stdout, stderr } = await c.setup([], { environment: { ...process.env, PATH: bin } });
  assert.deepEqual([code, stdout], [3, ""]);
  assert.match(stderr, /^treesnoop: installing clang cmake \(apt-get\)\n(E: no such package\n)+treesnoop: apt-get could not install clang cmake\n$/);
  const commands = readFileSync(join(bin, "asked"), "utf8").trim().split("\n");
  assert.deepEqual(
    commands.map((command) => command.split(" ").find((word) => /^(install|update)$/.test(word))),
    ["install", "update", "install"],
  );
});

test("without root, sudo is used for the packages only; without sudo the list is shown", async (t) => {
  const sudo = '#!/bin/sh\nprintf \'%s\\n\' "$*" >>/proc/self/fd/3\nln -s /usr/bin/clang "${0%/*}/clang"\n';
  const c = clone(t);
  await execute(t, ["chown", "-R", `${nobody}:${nobody}`, dirname(c.folder)]);
  const none = programs(t, /^(clang|dnf|sudo)/, { "apt-get": "#!/bin/sh\nexit 1\n" });
  const as = (PATH: string) => ({ uid: nobody, gid: nobody, environment: { PATH, HOME: dirname(c.folder) } });
  const refused = await c.setup([], as(none));
  assert.deepEqual([refused.code, refused.stdout], [3, ""]);
  assert.equal(
    refused.stderr,
    "treesnoop: these packages are missing, and there is no sudo to install them with\n  Run as root: apt-get install clang\n",
  );
  const asked = join(dirname(c.folder), "asked");
  const some = programs(t, /^(clang|dnf)/, {
    "apt-get": "#!/bin/sh\nexit 1\n",
    sudo: sudo.replace("/proc/self/fd/3", asked),
  });
  chownSync(some, nobody, nobody);
  const { code, stdout, stderr } = await c.setup([], as(some));
  assert.deepEqual([code, stdout, stderr], [0, "", `treesnoop: installing clang (apt-get)\n${readyMessage}`]);
  assert.match(readFileSync(asked, "utf8"), /^-- env [^\n]* apt-get [^\n]* install --no-install-recommends clang\n$/);
  assert.equal(statSync(c.path("build/treesnoop.bpf.o")).uid, nobody);
});

test("root leaves the clone to its owner", async (t) => {
  const c = clone(t);
  await execute(t, ["chown", "-R", `${nobody}:${nobody}`, c.folder]);
  assert.equal((await c.setup()).code, 0);
  const { stdout } = await execute(t, ["find", c.folder, "!", "-user", nobody.toString()]);
  assert.equal(stdout, "");
});

test("a clone that is up to date needs no right to write; one that is not says so", async (t) => {
  const c = await readyClone(t);
  const user = { uid: nobody, gid: nobody };
  assert.deepEqual(await c.setup([], user), silence);
  utimesSync(c.path("src/main.ts"), new Date(), new Date());
  const { code, stdout, stderr } = await c.setup([], user);
  assert.deepEqual([code, stdout], [3, ""]);
  assert.equal(stderr, `treesnoop: cannot write to ${c.folder}/build\n  Run: sudo chown -R "nobody" "${c.folder}"\n`);
});

test("run.sh hands on arguments, input, folder and environment untouched", async (t) => {
  const c = await readyClone(t);
  const elsewhere = scratch(t);
  const args = ["-q", "--", "a b", "", "new\nline", "$HOME", "*", "ü"];
  const environment: Record<string, string> = { PATH: process.env.PATH ?? "", PWD: elsewhere };
  // names that a script like this one would use itself, and some that a shell cares about
  for (const name of ["here", "node", "name", "version", "root", "value", "CDPATH", "ENV", "PS1"]) environment[name] = "mine";
  const options = { directory: elsewhere, environment, input: "line\n" };
  const direct = started(await c.run(args, options));
  assert.deepEqual([direct.args, direct.cwd, direct.input], [args, elsewhere, "line\n"]);
  assert.deepEqual(
    direct.environment.toSorted(),
    Object.entries(environment)
      .map(([name, value]) => `${name}=${value}`)
      .toSorted(),
  );
  const bare = started(await execute(t, ["env", "-i", `PATH=${environment.PATH ?? ""}`, c.path("run.sh"), "true"]));
  assert.deepEqual(bare.environment, [`PATH=${environment.PATH ?? ""}`]);
});

test("run.sh tells what node is about to change: open files and ignored signals", async (t) => {
  const c = await readyClone(t);
  // as nohup and prlimit do it: in place, so that nobody can be asked later
  const script = "ulimit -Sn 300; ulimit -Hn 4096; trap '' HUP USR1; exec \"$@\"";
  const { inherited } = started(await execute(t, ["sh", "-c", script, "sh", c.path("run.sh"), "true"]));
  assert.equal(inherited, "300,0000000000000201");
  const plain = started(await execute(t, ["sh", "-c", 'ulimit -n 77; exec "$@"', "sh", c.path("run.sh"), "true"]));
  assert.equal(plain.inherited, "77,0000000000000000");
});

test("run.sh works through symbolic links, relative names, PATH and folders with spaces", async (t) => {
  const c = await readyClone(t);
  const moved = new Clone(t, `${c.folder} with spaces`);
  renameSync(c.folder, moved.folder);
  assert.equal((await moved.setup()).code, 0);
  const elsewhere = scratch(t);
  symlinkSync(moved.path("run.sh"), join(elsewhere, "first"));
  symlinkSync("first", join(elsewhere, "treesnoop"));
  const environment = { ...process.env, PATH: `${elsewhere}:${process.env.PATH ?? ""}` };
  for (const [directory, ...command] of [
    ["/", join(elsewhere, "treesnoop")],
    [elsewhere, "./treesnoop"],
    ["/", "treesnoop"],
    [moved.folder, "./run.sh"],
    [moved.folder, "sh", "run.sh"],
    [moved.path("src"), "../run.sh"],
  ] as const) {
    const { cwd, args } = started(await execute(t, [...command, "x"], { directory, environment }));
    assert.deepEqual([cwd, args], [directory, ["x"]]);
  }
});

test("run.sh sets a fresh clone up by itself, and stdout stays the target's", async (t) => {
  const c = clone(t);
  const { code, stdout, stderr } = await c.run(["x"]);
  assert.deepEqual([code, stderr], [0, readyMessage]);
  assert.deepEqual((JSON.parse(stdout) as Started).args, ["x"]);
  assert.deepEqual(started(await c.run(["y"])).args, ["y"]);
});

test("run.sh without a node, or with an old one, says so in two lines", async (t) => {
  const c = await readyClone(t);
  const old = "#!/bin/sh\necho v18.20.4\n";
  for (const [PATH, found] of [
    [programs(t, /^node(js)?$/), ""],
    [programs(t, /^nodejs$/, { node: old }), " (found v18.20.4)"],
  ] as const) {
    const { code, stdout, stderr } = await c.run(["x"], { environment: { PATH } });
    assert.deepEqual([code, stdout], [3, ""]);
    assert.equal(stderr.split("\n")[0], `treesnoop: Node.js 20 or newer is needed${found}`);
    assert.equal(stderr.split("\n").length, 3);
  }
  const second = programs(t, /^$/, { node: old, nodejs: `#!/bin/sh\nexec ${process.execPath} "$@"\n` });
  assert.deepEqual(started(await c.run(["x"], { environment: { PATH: second } })).args, ["x"]);
});

/** Runs as nobody on a machine whose sudoers file has this one line; nothing outside sees that. */
function asNobody(t: TestContext, sudoers: string, environment: string[], command: string[]): Promise<Outcome> {
  const file = join(scratch(t), "sudoers");
  writeFileSync(file, `${sudoers}\n`, { mode: 0o440 });
  const script = 'mount --bind "$1" /etc/sudoers && shift && exec setpriv --reuid=65534 --regid=65534 --clear-groups -- env -i "$@"';
  return execute(t, ["unshare", "-m", "sh", "-c", script, "sh", file, ...environment, ...command], { input: "typed" });
}

test("without root, run.sh goes through sudo and passes the user's environment in a file", async (t) => {
  const c = await readyClone(t);
  const temporary = scratch(t);
  chmodSync(temporary, 0o1777);
  const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  const environment = [`PATH=${dirname(realpathSync(process.execPath))}:${path}`, `TMPDIR=${temporary}`, "odd.name=1", "MULTI=a\nb", "EMPTY=", "LD_PRELOAD="];
  const outcome = await asNobody(t, "nobody ALL=(ALL) NOPASSWD: ALL", environment, [c.path("run.sh"), "-q", "cmd", "--help", "a b"]);
  const { args, inherited, uid, environment: passed, input, mode, owner } = started(outcome);
  assert.match(inherited ?? "", /^\d+,0{16}$/);
  assert.deepEqual(args.slice(2), ["-q", "cmd", "--help", "a b"]);
  assert.deepEqual([args[0], dirname(args[1] ?? "")], ["--user-environment", temporary]);
  assert.deepEqual({ uid, mode, owner, input }, { uid: 0, mode: 0o600, owner: nobody, input: "typed" });
  assert.deepEqual(passed, environment);
});

test("help, version and the list of modules need no sudo", async (t) => {
  const c = await readyClone(t);
  const environment = [`PATH=${process.env.PATH ?? ""}`];
  for (const args of [["--help"], ["-h"], ["--version"], ["-q", "-V"], ["modules"], ["-c", "file", "modules"], []]) {
    const { uid, args: seen } = started(await asNobody(t, "# nothing allowed", environment, [c.path("run.sh"), ...args]));
    assert.deepEqual([uid, seen], [nobody, args]);
  }
});

test("when sudo is refused or absent: a clear end, exit code 3, no environment left behind", async (t) => {
  const c = await readyClone(t);
  const temporary = scratch(t);
  chmodSync(temporary, 0o1777);
  for (const args of [["cmd"], ["cmd", "modules"], ["--", "--help"], ["-o", "modules", "cmd"]]) {
    const { code, stdout } = await asNobody(t, "# nothing allowed", [`PATH=${process.env.PATH ?? ""}`, `TMPDIR=${temporary}`], [c.path("run.sh"), ...args]);
    assert.deepEqual([code, stdout], [3, ""], args.join(" "));
  }
  assert.deepEqual(readdirSync(temporary), []);
  const bin = programs(t, /^sudo/);
  const { code, stdout, stderr } = await c.run(["cmd"], { uid: nobody, gid: nobody, environment: { PATH: bin } });
  assert.deepEqual([code, stdout], [3, ""]);
  assert.equal(stderr, `treesnoop: this needs root, and there is no sudo\n  Run it as root: su -c '${c.path("run.sh")} ...'\n`);
});
