// What is loaded into the kernel, and when. Owns: that nothing is loaded for what is off, that a module switched on later is loaded
// then and once, beside what runs already and with the same maps, and that one the verifier refuses leaves the rest as it
// was. The witnesses are /proc/PID/fdinfo of the monitor and the workloads' own counts.
// Runs beside others.
import assert from "node:assert/strict";
import { copyFileSync, cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { kernel } from "libbpf-ts";
import { BpfSteps } from "../src/core/bpf-steps.js";
import { loadModules } from "../src/core/registry.js";
import { treeParts } from "../src/core/tree.js";
import { edit, goesOn, replace, switched } from "./support/edit.js";
import { bpfPrograms } from "./support/kernel.js";
import { answers, twoHosts } from "./support/netns.js";
import { root, scratch, workload } from "./support/paths.js";
import { execute, refused, Run } from "./support/run.js";
import { until } from "./support/wait.js";

const cpu = { snoop_cpu: "bpf", interval: 0.1 };
const network = { ...cpu, snoop_network: "bpf" };
const peer = workload("net_peer");
const badSegments = join(root, "test/support/bad_segments.py");

/** Does what each line it reads says, and says so. */
const obedient = ["sh", "-c", 'while read line; do $line; echo "did $line"; done'];

async function tell(run: Run, command: string, times: number): Promise<void> {
  run.write(`${command}\n`);
  await until(`${command} to end`, () => run.stdout.split(`did ${command}\n`).length > times);
}

test("each module names all it needs, in the first step and in a later one", async () => {
  const settings = { constants: {}, sizes: { event_rings: kernel.possibleCpus() } };
  for (const module of await loadModules()) {
    const parts = module.bpf(undefined);
    const wanted = new Set([...treeParts.programs, ...parts.programs]);
    const first = new BpfSteps([treeParts, parts], settings);
    assert.equal(first.programs().length, wanted.size, module.name);
    first.close();
    const later = new BpfSteps([treeParts], settings);
    later.add(parts);
    assert.equal(later.programs().length, wanted.size, module.name);
    later.add(parts);
    assert.equal(later.programs().length, wanted.size, `${module.name}: nothing twice`);
    later.close();
  }
});

test("on, off, on: loaded when first switched on and not again, and every window counts what happens in it, exactly", async (t) => {
  const run = new Run(t, { config: cpu, input: "open", command: obedient });
  await run.ticked("cpu.csv", 2);
  const before = bpfPrograms(run.pid).loaded;
  // syscalls_known asks for its priority five times.
  const known = workload("syscalls_known");
  const on = { ...cpu, snoop_syscall: "bpf", syscall_filter: ["getpriority"] };
  await tell(run, known, 1);
  let after: readonly string[] = [];
  for (let round = 1; round <= 2; round++) {
    edit(run, on);
    await switched(run, "syscall", true);
    await tell(run, known, 2 * round);
    edit(run, cpu);
    await switched(run, "syscall", false);
    const { loaded } = bpfPrograms(run.pid);
    if (round === 1) after = loaded;
    else assert.deepEqual(loaded, after);
    await tell(run, known, 2 * round + 1);
  }
  assert.equal(after.length, before.length + 2, "its two programs");
  for (const id of before) assert.ok(after.includes(id), "what ran stays loaded");
  run.endInput();
  await run.quietly();
  const windows = Object.entries(run.record().modules).filter(([name]) => name.startsWith("syscall"));
  assert.equal(windows.length, 2);
  for (const [name, { file = "" }] of windows) {
    const rows = run.table(file).rows.filter((row) => !row.isEnd);
    const actions = ["0", "1"].map((action) => rows.filter((row) => row.text("ACTION") === action).length);
    assert.deepEqual(actions, [5, 5], name);
  }
});

test("a module that shares programs and maps with a running one: attached once, and no count of either is lost", async (t) => {
  const { near, far } = await twoHosts(t);
  const command = far.inside("sh", "-c", `python3 ${badSegments} serve 7411 3 & ${obedient[2] ?? ""}; wait`);
  const run = new Run(t, { config: network, input: "open", command, deadline: 90 });
  await run.ticked("network.csv", 2);
  const [count, size, headers] = [500, 900, 20 + 8];
  const talk = `${peer} loopback 127.0.0.1 7300 ${count} ${size}`;
  await tell(run, talk, 1);
  const before = bpfPrograms(run.pid);

  edit(run, { ...network, snoop_tcp_inerrs: "bpf" });
  await switched(run, "tcp_inerrs", true);
  const after = bpfPrograms(run.pid);
  // Its own, and the one that remembers owners.
  assert.equal(after.loaded.length, before.loaded.length + 2, "the owner programs are loaded already");
  for (const id of before.loaded) assert.ok(after.loaded.includes(id));
  await until("every program to be attached once", () => {
    const { linked } = bpfPrograms(run.pid);
    return new Set(linked).size === linked.length && linked.length === before.linked.length + 2;
  });
  await tell(run, talk, 2);
  await answers(far, "7411");
  const sender = await execute(t, near.inside("python3", badSegments, "send", near.ipv4, far.ipv4, "7411", "veth"));
  assert.equal(sender.code, 0, sender.stderr);

  // The other one goes: what both use stays with the one that is left.
  edit(run, { ...cpu, snoop_tcp_inerrs: "bpf" });
  await switched(run, "network", false);
  const late = bpfPrograms(run.pid).linked;
  assert.ok(late.length > 0 && late.length < before.linked.length + 1);
  replace(run, { ...network, snoop_tcp_inerrs: "bpf", network_output_file: "again.csv" });
  await switched(run, "network", true);
  await tell(run, talk, 3);
  run.endInput();
  await run.quietly();

  const talkers = [...run.stdout.matchAll(/^done (?:client|server) (\d+) (\d+) (\d+)$/gm)];
  assert.equal(talkers.length, 6);
  for (const [index, [, pid, sent, received]] of talkers.entries()) {
    const table = run.table(index < 4 ? "network.csv" : "again.csv");
    const rows = table.of(Number(pid));
    for (const [column, datagrams] of [["TX_KB", sent], ["RX_KB", received]] as const) {
      assert.equal(Number(datagrams), count);
      const bytes = table.sum(column, rows) * 1024;
      // Cells have three decimals of a KB.
      assert.ok(Math.abs(bytes - count * (size + headers)) <= rows.length, `${column} of ${pid ?? ""}: ${bytes}`);
    }
  }
  const unowned = ["short checksum", "small offset", "large offset", "closed port"];
  const sent = sender.stdout.trim().split("\n").map((line) => JSON.parse(line) as { name: string; count: number });
  const expected = sent.filter(({ name }) => !unowned.includes(name)).reduce((sum, each) => sum + each.count, 0);
  assert.ok(expected > 10);
  const segments = run.table("tcp_inerrs.csv").rows.filter((row) => !row.isEnd);
  assert.equal(segments.length, expected);
});

test("only the tree is loaded at first; then one backend, the heap's probes and a user's", async (t) => {
  const run = new Run(t, { config: { ...cpu, snoop_cpu: "stat" }, input: "open", command: obedient });
  await run.ticked("cpu.csv", 2);
  const loaded = (): number => bpfPrograms(run.pid).loaded.length;
  assert.equal(loaded(), treeParts.programs.length);
  edit(run, cpu);
  await until("the other backend", () => run.record().modules["cpu"]?.backend === "bpf");
  const withCpu = loaded();
  assert.ok(withCpu > treeParts.programs.length);
  replace(run, { ...cpu, snoop_mem: "bpf" });
  await goesOn(run, "mem.csv");
  const withHeap = loaded();
  assert.ok(withHeap > withCpu);
  const probed = { probes: [`${workload("leak_probes")}:recurse`], output_file: "leak.csv" };
  edit(run, { ...cpu, snoop_mem: "bpf", memleak_probes: probed });
  await switched(run, "memleak_probes", true);
  assert.equal(loaded(), withHeap + 3, "the heap's are loaded already");
  run.endInput();
  await run.quietly();
});

/** Where the bytes of an ELF section begin. */
function sectionOffset(object: Buffer, name: string): number {
  const headers = Number(object.readBigUInt64LE(0x28));
  const header = (index: number): Buffer => object.subarray(headers + index * 64);
  const offset = (index: number): number => Number(header(index).readBigUInt64LE(24));
  const names = offset(object.readUInt16LE(0x3e));
  for (let index = 0; index < object.readUInt16LE(0x3c); index++) {
    const from = names + header(index).readUInt32LE(0);
    if (object.toString("latin1", from, object.indexOf(0, from)) === name) return offset(index);
  }
  assert.fail(`no section ${name}`);
}

/** treesnoop with a BPF object of which no verifier accepts the program of that section. */
function withRefused(t: TestContext, section: string): string[] {
  const folder = scratch(t);
  cpSync(join(root, "dist"), join(folder, "dist"), { recursive: true });
  mkdirSync(join(folder, "build"));
  for (const file of ["build/launcher", "build/syscalls.txt", "package.json"]) copyFileSync(join(root, file), join(folder, file));
  for (const link of ["node_modules", "native"]) symlinkSync(join(root, link), join(folder, link));
  const object = readFileSync(join(root, "build/treesnoop.bpf.o"));
  object[sectionOffset(object, section)] = 0xff; // no instruction
  writeFileSync(join(folder, "build/treesnoop.bpf.o"), object);
  return [process.execPath, join(folder, "dist/main.js")];
}

test("refused by the verifier: one message at the start, one when switched on later; what was on goes on", async (t) => {
  const through = withRefused(t, "tp_btf/netif_rx_exit");
  const asked = { ...network, snoop_nic: "bpf", nic_name: "lo" };
  refused(await new Run(t, { config: asked, through, command: ["true"] }).finished, 3, "nic", "nic_handed_exit", "verifier");

  const run = new Run(t, { config: network, through, input: "open", command: obedient });
  await run.ticked("network.csv", 2);
  const before = bpfPrograms(run.pid).loaded;
  edit(run, { ...asked, snoop_syscall: "bpf" });
  await until("a word about it", () => run.stderr.includes("\n"));
  await switched(run, "syscall", true);
  await goesOn(run, "network.csv");
  await goesOn(run, "cpu.csv");
  const { loaded } = bpfPrograms(run.pid);
  assert.equal(loaded.length, before.length + 2);
  for (const id of before) assert.ok(loaded.includes(id));
  run.endInput();
  const { code, stderr } = await run.finished;
  assert.equal(code, 0);
  assert.match(stderr, /^[^\n]*nic cannot be switched on: [^\n]*nic_handed_exit[^\n]*verifier[^\n]*\n$/);
  assert.deepEqual(Object.keys(run.record().modules).sort(), ["cpu", "network", "syscall"]);
  assert.equal(run.growing("nic.csv"), undefined);
});
