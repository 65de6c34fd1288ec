// SPDX-License-Identifier: MIT
// One file loaded in several steps: what the steps share, and what closing one does to the other.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { BpfError, BpfObject, RingBuffer, VerifierError, type LoadedObject } from "libbpf-ts";
import { load, out, u32 } from "./support.js";

const FILE = out("reopened.bpf.o");

/** Leaves everything out but these programs and the maps that are made later. */
function choose(object: BpfObject, programs: readonly string[], maps: readonly string[] = []): BpfObject {
  for (const program of object.programs.values()) program.autoload = programs.includes(program.name);
  for (const name of ["late", "nested", "tails"]) {
    const map = object.maps.get(name);
    if (map?.shared === false) map.autocreate = maps.includes(name);
  }
  return object;
}

function first(...programs: string[]): BpfObject {
  return choose(BpfObject.open(FILE), programs);
}

function more(loaded: LoadedObject, programs: readonly string[], maps: readonly string[] = []): LoadedObject {
  return choose(loaded.reopen(), programs, maps).load();
}

function run(loaded: LoadedObject, program: string): number {
  return loaded.program(program).testRun();
}

/** What `loaded` shows of its variables and of the map with the long name. */
function figures(loaded: LoadedObject): unknown[] {
  const map = loaded.map<number, bigint>("a_name_of_many_characters");
  return [...["runs", "total", "apart"].map((name) => loaded.variable(name).get()), map.get(7)];
}

test("programs of both steps see the same map, variables and constants", () => {
  using early = first("early").setConstant("step", 10).setInitial("total", 1000).load();
  assert.equal(run(early, "early"), 10);
  using later = more(early, ["later"], ["late", "nested"]);
  assert.deepEqual(figures(later), [1n, 1010n, 1, 10n], "nothing was cleared or set anew");
  assert.equal(run(later, "later"), 10, "its constants are the first one's");
  assert.deepEqual(figures(early), [2n, 1020n, 2, 20n]);
  assert.deepEqual(figures(later), figures(early));
  early.variable("runs").set(50n);
  later.map<number, bigint>("a_name_of_many_characters").set(7, 70n);
  assert.equal(run(early, "early") + run(later, "later"), 20);
  assert.deepEqual(figures(early), [52n, 1040n, 4, 90n]);
  assert.deepEqual(figures(later), figures(early));
});

test("the verifier knows the constants the first step was loaded with", () => {
  using careful = first("early").setConstant("careful", true).load();
  using known = more(careful, ["careless_or_not"]);
  assert.equal(run(known, "careless_or_not"), -1);
  run(careful, "early");
  assert.equal(run(known, "careless_or_not"), 1);
});

test("what is refused later leaves the first as it was, and the next try is open", () => {
  using early = first("early").load();
  run(early, "early");
  assert.throws(
    () => more(early, ["later", "careless_or_not"], ["late", "nested"]),
    (error) => error instanceof VerifierError && error.program === "careless_or_not",
  );
  run(early, "early");
  using later = more(early, ["later"], ["late", "nested"]);
  run(later, "later");
  assert.deepEqual(figures(early), [3n, 103n, 3, 3n]);
});

test("a map the first step left out is made by the second, and is the third's as well", () => {
  using early = first("early").load();
  using later = more(early, ["later"], ["late", "nested"]);
  assert.equal(early.hasMap("late"), false);
  assert.throws(() => early.map("late"), /autocreate is off/);
  const late = later.map<number, bigint>("late");
  run(later, "later");
  assert.equal(late.get(7), 1n);
  using third = more(later, ["later", "early"]);
  assert.ok(third.hasMap("late") && !third.hasMap("tails"));
  run(third, "later");
  assert.equal(late.get(7), 2n);
  assert.equal(run(third, "early"), 1);
  assert.deepEqual(figures(early), [3n, 103n, 3, 3n]);
});

test("a program is of the step that loaded it", () => {
  using early = first("early").load();
  using later = more(early, ["later"], ["late", "nested"]);
  assert.deepEqual(
    [early.hasProgram("early"), early.hasProgram("later"), later.hasProgram("early"), later.hasProgram("later")],
    [true, false, false, true],
  );
  assert.throws(() => later.program("early"), /autoload is off/);
});

test("closed in either order, the other works on", () => {
  for (const order of [0, 1]) {
    const early = first("early").setConstant("step", 3).load();
    const later = more(early, ["later"], ["late", "nested"]);
    const [gone, left, program] = order === 0 ? [early, later, "later"] : [later, early, "early"];
    const [map, variable] = [gone.map("a_name_of_many_characters"), gone.variable("runs")];
    assert.equal(variable.get(), 0n);
    gone.close();
    assert.throws(() => map.get(7), BpfError);
    assert.throws(() => variable.get(), BpfError);
    assert.throws(() => gone.reopen(), /it is closed/);
    assert.equal(run(left, program), 3);
    assert.deepEqual(figures(left), [1n, 103n, 1, 3n]);
    using again = more(left, ["early"]);
    assert.equal(run(again, "early"), 3);
    left.close();
    assert.deepEqual(figures(again), [2n, 106n, 2, 6n]);
  }
});

test("an attachment and a ring live with their own step", () => {
  const early = load("add_up");
  let records = 0;
  const reader = new RingBuffer([early.map("ring")]);
  const spec = early.reopen();
  for (const program of spec.programs.values()) {
    program.autoload = ["emit", "fork_seen"].includes(program.name);
  }
  using later = spec.load();
  assert.equal(later.program("emit").testRun({ context: u32(40, 0) }), 0);
  records += reader.consume(() => undefined);
  assert.equal(records, 30, "written through the second, read through the first");
  later.variable("watched_tgid").set(process.pid);
  later.program("fork_seen").attach();
  spawnSync("true");
  early.close();
  assert.throws(() => reader.consume(() => undefined), BpfError);
  spawnSync("true");
  assert.equal(later.variable("forks").get(), 2n);
});

test("what is shared cannot be configured", () => {
  using early = first("early").load();
  using spec = early.reopen();
  const [map, late] = [spec.maps.get("a_name_of_many_characters"), spec.maps.get("late")];
  assert.ok(map && late);
  assert.deepEqual([map.shared, late.shared, spec.maps.get(".rodata")?.shared], [true, false, true]);
  for (const change of [
    () => spec.setConstant("step", 2),
    () => spec.setInitial("runs", 5n),
    () => {
      map.maxEntries = 9;
    },
    () => {
      map.autocreate = false;
    },
  ]) {
    assert.throws(
      change,
      (error) => error instanceof BpfError && error.code === "EEXIST" && error.message.includes("it is there already"),
    );
  }
  late.maxEntries = 9;
  using later = choose(spec, ["later"], ["late", "nested"]).load();
  assert.equal(later.map("late").maxEntries, 9);
  assert.equal(later.map("a_name_of_many_characters").maxEntries, 8);
});

test("sizes the first step chose are the second's", () => {
  const object = first("early");
  const map = object.maps.get("a_name_of_many_characters");
  assert.ok(map);
  map.maxEntries = 3;
  using early = object.load();
  using spec = early.reopen();
  assert.equal(spec.maps.get("a_name_of_many_characters")?.maxEntries, 3);
});

test("it is the file that was opened, whatever became of it", () => {
  const folder = mkdtempSync(join(tmpdir(), "libbpf-ts-"));
  const copy = join(folder, "copy.bpf.o");
  copyFileSync(FILE, copy);
  using fromFile = choose(BpfObject.open(copy, { name: "renamed" }), ["early"]).load();
  copyFileSync(out("main.bpf.o"), copy);
  rmSync(folder, { recursive: true });
  const bytes = readFileSync(FILE);
  using fromBytes = choose(BpfObject.open(bytes), ["early"]).load();
  bytes.fill(0);
  for (const early of [fromFile, fromBytes]) {
    using later = more(early, ["later"], ["late", "nested"]);
    run(later, "later");
    assert.deepEqual(figures(early), [1n, 101n, 1, 1n]);
  }
});

test("types decode as the first step was told", () => {
  const object = choose(BpfObject.open(FILE, { int64: "number" }), ["early"]);
  using early = object.load();
  using later = more(early, ["later"], ["late", "nested"]);
  run(later, "later");
  assert.equal(later.variable("total").get(), 101);
  assert.deepEqual(later.map("late").entries(), [[7, 1]]);
  assert.equal(later.btf, early.btf);
});

test("a map of programs is not shared", () => {
  const object = first("early");
  const tails = object.maps.get("tails");
  assert.ok(tails);
  tails.autocreate = true;
  using loaded = object.load();
  assert.throws(
    () => loaded.reopen(),
    (error) => error instanceof BpfError && error.object === "tails" && error.message.includes("is not shared"),
  );
});

test("reopened and dropped, a hundred times", () => {
  using early = first("early").load();
  const descriptors = (): number => readdirSync("/proc/self/fd").length;
  const before = descriptors();
  for (let round = 0; round < 100; round++) early.reopen().close();
  assert.equal(descriptors(), before);
  for (let round = 0; round < 100; round++) early.reopen();
  globalThis.gc?.();
  assert.equal(run(early, "early"), 1);
});
