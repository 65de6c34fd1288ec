// Which network namespaces a run is about. Owns: that each is entered once, at once where the kernel tells, with the next tick otherwise,
// and left so that it can go. The witnesses are the inode numbers /proc and /run/netns show, ping's count and a veth that goes with its
// namespace. Does not own: what modules do there.
// Runs beside others.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { createInterface } from "node:readline";
import { test, type TestContext } from "node:test";
import { BpfObject, kernel } from "libbpf-ts";
import { BpfSteps } from "../src/core/bpf-steps.js";
import { Bpf } from "../src/core/bpf.js";
import { TreeScope } from "../src/core/scope.js";
import { Shared } from "../src/core/shared.js";
import { Tree, treeParts } from "../src/core/tree.js";
import type { Context } from "../src/core/module.js";
import { eachNamespace, namespaceParts } from "../src/services/namespaces.js";
import { netfilterObject } from "./support/netns.js";
import { until } from "./support/wait.js";

/** A command that prints its pid and stays. */
const stay = "sh -c 'echo $$; exec sleep 60'";

let made = 0;

/** A name for a namespace, taken away when the test ends. */
function name(t: TestContext): string {
  const it = `treesnoop-${process.pid}-n${++made}`;
  t.after(() => {
    if (named().includes(it)) execFileSync("ip", ["netns", "del", it]);
  });
  return it;
}

function named(): string[] {
  return readdirSync("/run/netns");
}

function inodeOf(of: string | number): number {
  return statSync(typeof of === "number" ? `/proc/${of}/ns/net` : `/run/netns/${of}`).ino;
}

interface Shell {
  readonly pid: number;
  /** Runs a line, and waits for the one it prints. */
  answer(line: string): Promise<string>;
  /** Starts something that prints its pid and stays until the test ends. */
  background(command: string): Promise<number>;
}

function shell(t: TestContext, ...through: string[]): Shell {
  const [file, ...args] = [...through, "sh"];
  const child = spawn(file, args, { stdio: ["pipe", "pipe", "inherit"] });
  const waiting: ((line: string) => void)[] = [];
  createInterface({ input: child.stdout }).on("line", (line) => waiting.shift()?.(line));
  t.after(() => child.kill("SIGKILL"));
  const answer = (line: string): Promise<string> =>
    new Promise((resolve) => {
      waiting.push(resolve);
      child.stdin.write(`${line}\n`);
    });
  const background = async (command: string): Promise<number> => {
    const pid = Number(await answer(`${command} &`));
    t.after(() => process.kill(pid, "SIGKILL"));
    return pid;
  };
  return { pid: child.pid ?? -1, answer, background };
}

interface Watch {
  readonly context: Context;
  /** Entered and not left, in order. */
  readonly present: number[];
  /** Every entering. */
  readonly entered: number[];
  readonly warnings: string[];
  readonly tick: () => void;
  readonly stop: () => void;
}

/** The tree of a process (the whole machine without one), and a visitor of its namespaces. */
function watch(t: TestContext, root: number | undefined, enter?: (fd: number) => { close(): void }): Watch {
  const sizes = { event_rings: kernel.possibleCpus() };
  const host = root === undefined ? 1 : 0;
  const bpf = new Bpf(new BpfSteps([treeParts, namespaceParts], { constants: { host_mode: host }, sizes }));
  const tree = new Tree(bpf);
  tree.mark(root);
  const scope = new TreeScope(tree, { host: host === 1, follow: true, anchorPid: root ?? process.pid });
  const shared = new Shared();
  const warnings: string[] = [];
  const { context, release } = shared.contextFor(bpf, scope, (sentence) => warnings.push(sentence));
  const present: number[] = [];
  const entered: number[] = [];
  const visit = eachNamespace(context, (fd, inode) => {
    const inner = enter?.(fd);
    present.push(inode);
    entered.push(inode);
    return {
      close: () => {
        inner?.close();
        present.splice(present.indexOf(inode), 1);
      },
    };
  });
  const tick = (): void => {
    shared.tick();
  };
  let stopped = false;
  const stop = (): void => {
    if (stopped) return;
    stopped = true;
    visit.stop();
    release();
    tree.close();
    bpf.close();
  };
  t.after(stop);
  return { context, present, entered, warnings, tick, stop };
}

test("namespaces: those that are there, each once, until the end", async (t) => {
  const [one, two] = [name(t), name(t)];
  for (const each of [one, two]) execFileSync("ip", ["netns", "add", each]);
  const [first, second, inOne] = [shell(t, "unshare", "-n"), shell(t), shell(t, "ip", "netns", "exec", one)];
  for (const each of [first, second, inOne]) await each.answer("echo ready");
  const { present, entered, context, stop, tick } = watch(t, second.pid);
  const expected = [process.pid, first.pid, one, two].map(inodeOf);
  assert.equal(new Set(expected).size, 4);
  assert.equal(inodeOf(inOne.pid), inodeOf(one));
  for (const inode of expected) assert.ok(present.includes(inode), String(inode));
  assert.equal(new Set(entered).size, entered.length, "each once");
  const before = entered.length;
  tick();
  assert.equal(entered.filter((inode, at) => at >= before && expected.includes(inode)).length, 0);
  // A second module finds them all, and stops by itself.
  const others: number[] = [];
  const another = eachNamespace(context, (_, inode) => ({ close: () => others.push(inode) }));
  another.stop();
  for (const inode of expected) assert.ok(others.includes(inode));
  for (const inode of expected) assert.ok(present.includes(inode));
  stop();
  assert.deepEqual(present, []);
});

test("namespaces: a process of the tree in a new one is told at once, whatever brought it there", async (t) => {
  const root = shell(t);
  await root.answer("echo ready");
  const { present, entered } = watch(t, root.pid);
  const enteredAtOnce = async (what: string, inode: number): Promise<void> => {
    await until(`${what} to be entered`, () => present.includes(inode));
  };
  // No tick from here on. By exec after unshare(2):
  const unshared = await root.background(`unshare -n ${stay}`);
  await enteredAtOnce("unshare", inodeOf(unshared));
  // By giving it a name:
  const given = name(t);
  assert.equal(await root.answer(`ip netns add ${given}; echo named`), "named");
  await enteredAtOnce("ip netns add", inodeOf(given));
  // By exec after setns(2), into another's that has none:
  const foreign = shell(t, "unshare", "-n");
  await foreign.answer("echo ready");
  assert.ok(!present.includes(inodeOf(foreign.pid)));
  await root.background(`nsenter --net=/proc/${foreign.pid}/ns/net ${stay}`);
  await enteredAtOnce("nsenter", inodeOf(foreign.pid));
  // By clone(2) with CLONE_NEWNET, without any exec:
  const clone = `
import ctypes, os, signal, sys, time
CLONE_NEWNET, SYS_clone = 0x40000000, {"x86_64": 56, "aarch64": 220}[os.uname().machine]
if ctypes.CDLL(None).syscall(SYS_clone, CLONE_NEWNET | signal.SIGCHLD, 0, 0, 0, 0) == 0:
    print(os.getpid(), flush=True)
    time.sleep(60)
`;
  const cloned = await root.background(`python3 -c '${clone}'`);
  await enteredAtOnce("clone", inodeOf(cloned));
  assert.equal(new Set(entered).size, entered.length, "each once");
});

test("namespaces: what is attached in time counts, and a namespace is left so that it can go", async (t) => {
  const object = BpfObject.open(netfilterObject(t)).load();
  t.after(() => {
    object.close();
  });
  const root = shell(t);
  await root.answer("echo ready");
  const place = { family: "ipv4", hook: "local_out", priority: 17 } as const;
  const { present, tick } = watch(t, root.pid, (namespace) => object.program("count_packets").attachNetfilter({ ...place, namespace }));
  const [given, witness] = [name(t), name(t)];
  await root.answer(`ip netns add ${given}; ip netns add ${witness}; echo named`);
  const inode = inodeOf(given);
  await until("both to be entered", () => [given, witness].every((each) => present.includes(inodeOf(each))));
  execFileSync("ip", ["-n", witness, "link", "add", "there", "type", "veth", "peer", "name", "veth", "netns", given]);
  await root.answer(`ip -n ${given} link set lo up; ip netns exec ${given} ping -q -c 5 -i 0.01 127.0.0.1 >/dev/null; echo done`);
  const seen = object.map<unknown, { packets: bigint }>("seen").get({ space: inode, family: 2, hook: 3 });
  assert.equal(seen?.packets, 10n, "five requests and five answers");
  const there = (): boolean => execFileSync("ip", ["-n", witness, "-o", "link"], { encoding: "utf8" }).includes("there");
  execFileSync("ip", ["netns", "del", given]);
  tick();
  assert.ok(!present.includes(inode));
  await until("the namespace to go", () => !there());
});

test("namespaces: others' are found with a tick, in a tree only those with a name", async (t) => {
  const [root, other] = [shell(t), shell(t)];
  for (const each of [root, other]) await each.answer("echo ready");
  const [inTree, onHost] = [watch(t, root.pid), watch(t, undefined)];
  const foreign = await other.background(`unshare -n ${stay}`);
  const script = "import ctypes, os, time; ctypes.CDLL(None).unshare(0x40000000); print(os.getpid(), flush=True); time.sleep(60)";
  const silent = await other.background(`python3 -c "${script}"`);
  const given = name(t);
  await other.answer(`ip netns add ${given}; echo named`);
  const inodes = [given, foreign, silent].map(inodeOf);
  await until("the name and the exec to be told of", () => [0, 1].every((at) => onHost.present.includes(inodes[at] ?? -1)));
  assert.ok(!onHost.present.includes(inodes[2] ?? -1), "it executed nothing");
  for (const { tick } of [inTree, onHost]) tick();
  assert.deepEqual(inodes.map((inode) => onHost.present.includes(inode)), [true, true, true]);
  assert.deepEqual(inodes.map((inode) => inTree.present.includes(inode)), [true, false, false]);
});

test("namespaces: where there are more processes than one tick looks at, the next ones go on", async (t) => {
  const other = shell(t);
  await other.answer("echo ready");
  const { present, entered, tick } = watch(t, undefined);
  // All end with the first; the last is alone in a namespace, and has executed nothing.
  const crowd = `
import ctypes, os, signal, time
held, hold = os.pipe()
for i in range(1100):
    if os.fork() == 0:
        os.close(hold)
        os.read(held, 1)
        os._exit(0)
told, tell = os.pipe()
if os.fork() == 0:
    os.close(hold)
    ctypes.CDLL(None).unshare(0x40000000)
    os.write(tell, b"x")
    os.read(held, 1)
    os._exit(0)
os.read(told, 1)
print(os.getpid(), flush=True)
os.wait()
time.sleep(60)
`;
  const first = await other.background(`python3 -c '${crowd}'`);
  const last = Number(readFileSync(`/proc/${first}/task/${first}/children`, "utf8").trim().split(" ").at(-1));
  const inode = inodeOf(last);
  const ticks = (count: number): void => {
    for (let i = 0; i < count; i++) tick();
  };
  ticks(2);
  assert.ok(present.includes(inode));
  ticks(4);
  assert.ok(present.includes(inode), "in the middle of a round, and after it");
  assert.equal(entered.filter((each) => each === inode).length, 1);
  process.kill(last, "SIGKILL");
  await until("it to be gone", () => !existsSync(`/proc/${last}/ns/net`));
  ticks(4);
  assert.ok(!present.includes(inode));
  assert.ok(existsSync(`/proc/${first}`));
});

test("namespaces: where a module is kept out of one it is told, where of all it cannot start", (t) => {
  const refused = inodeOf(process.pid);
  const given = name(t);
  execFileSync("ip", ["netns", "add", given]);
  const { context, warnings, stop } = watch(t, process.ppid);
  const left: number[] = [];
  eachNamespace(context, (_, inode) => {
    if (inode === refused) throw new Error("no room");
    return { close: () => left.push(inode) };
  });
  assert.deepEqual(warnings, [`network namespace ${refused} is not watched: no room`]);
  assert.throws(
    () =>
      eachNamespace(context, () => {
        throw new Error("no room at all");
      }),
    /no room at all/,
  );
  stop();
  assert.ok(left.includes(inodeOf(given)));
});
