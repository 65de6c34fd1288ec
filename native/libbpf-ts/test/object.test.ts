// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { BpfError, BpfObject, VerifierError, libbpfVersion, onLog } from "libbpf-ts";
import { MAIN, REFUSED, load, open, u32 } from "./support.js";

test("a spec shows what is in the file", () => {
  using object = BpfObject.open(MAIN);
  const program = object.programs.get("fork_seen");
  assert.equal(program?.section, "tp_btf/sched_process_fork");
  assert.equal(program.type, "tracing");
  assert.equal(object.programs.get("optional")?.autoload, false);
  const map = object.maps.get("points");
  assert.deepEqual(
    [map?.type, map?.keySize, map?.valueSize, map?.maxEntries],
    ["hash", 8, 8, 100000],
  );
  assert.ok(object.maps.has(".rodata") && object.maps.has(".data") && object.maps.has(".bss"));
});

test("from memory, under a name", () => {
  using object = BpfObject.open(readFileSync(MAIN), { name: "renamed" });
  assert.ok(object.maps.has(".rodata"));
});

test("what cannot be opened says why", () => {
  assert.throws(
    () => BpfObject.open("/does/not/exist.o"),
    (error) => {
      assert.ok(error instanceof BpfError);
      assert.deepEqual([error.operation, error.code, error.errno], ["open", "ENOENT", 2]);
      assert.match(error.hint, /path/);
      return true;
    },
  );
  assert.throws(() => BpfObject.open(Buffer.from("not an object")), BpfError);
  assert.throws(() => BpfObject.open(new Uint8Array(0)), BpfError);
  assert.throws(() => BpfObject.open("a\0b"), TypeError);
  assert.throws(() => BpfObject.open(5 as never), TypeError);
});

test("constants, initial values and the value a program sees", () => {
  const object = open("add_up");
  object.setConstant("limit", 10).setConstant("enabled", true).setConstant("label", "A");
  using loaded = object.load();
  assert.equal(loaded.program("add_up").testRun({ context: u32(1, 2) }), 1 + 2 + 10 + 65);
  const second = open("add_up").setInitial("seed", 100);
  using other = second.load();
  assert.equal(other.program("add_up").testRun({ context: u32(0, 0) }), 103);
});

test("wrong variables and values are refused before loading", () => {
  using object = BpfObject.open(MAIN);
  assert.throws(() => object.setConstant("limti", 1), /did you mean limit\?/);
  assert.throws(() => object.setConstant("seed", 1), BpfError, "not in .rodata");
  assert.throws(() => object.setInitial("limit", 1), BpfError, "in .rodata");
  assert.throws(() => object.setConstant("limit", 2 ** 32), /limit must be from 0 to 4294967295/);
  assert.throws(() => object.setConstant("limit", "ten"), TypeError);
  assert.throws(() => object.setConstant("label", "longer than that"), RangeError);
});

test("variables while running", () => {
  using loaded = load("add_up");
  const counter = loaded.variable<bigint>("counter");
  const neighbour = loaded.variable<bigint>("neighbour");
  neighbour.set(77n);
  const program = loaded.program("add_up");
  program.testRun({ context: u32(0, 0) });
  assert.equal(counter.get(), 1n);
  counter.set(1000n);
  program.testRun({ context: u32(0, 0) });
  assert.equal(counter.get(), 1001n);
  assert.equal(neighbour.get(), 77n);
  loaded.variable("seed").set(1);
  assert.equal(program.testRun({ context: u32(0, 0) }), 4);
  assert.equal(loaded.variable("limit").get(), 3);
  assert.throws(
    () => {
      loaded.variable("limit").set(4);
    },
    (error) => error instanceof BpfError && error.code === "EROFS",
  );
  assert.throws(() => loaded.variable("conter"), /did you mean counter\?/);
});

test("autoload, autocreate and max entries", () => {
  const object = open("add_up");
  const unwanted = object.maps.get("not_wanted");
  const points = object.maps.get("points");
  assert.ok(unwanted && points);
  unwanted.autocreate = false;
  points.maxEntries = 7;
  using loaded = object.load();
  assert.equal(loaded.map("points").maxEntries, 7);
  assert.equal(loaded.hasMap("not_wanted"), false);
  assert.equal(loaded.hasMap("points"), true);
  assert.equal(loaded.hasProgram("add_up"), true);
  assert.equal(loaded.hasProgram("emit"), false);
  assert.throws(() => loaded.map("not_wanted"), /autocreate is off/);
  assert.throws(() => loaded.program("emit"), /autoload is off/);
  assert.throws(() => loaded.program("add_pu"), /did you mean add_up\?/);
  assert.throws(() => loaded.map("pionts"), /did you mean points/);
  assert.throws(() => {
    points.maxEntries = 8;
  }, /already loaded/);
});

test("the verifier's reason is the message, its whole log is there", () => {
  assert.throws(
    () => BpfObject.open(REFUSED).load(),
    (error) => {
      assert.ok(error instanceof VerifierError);
      assert.ok(error instanceof BpfError);
      assert.equal(error.program, "careless");
      assert.match(error.message, /invalid mem access 'map_value_or_null'/);
      assert.doesNotMatch(error.message, /processed/);
      assert.match(error.log, /call bpf_map_lookup_elem#1/);
      assert.equal(error.code, "EACCES");
      assert.ok(!Object.keys(error).includes("log"));
      return true;
    },
  );
});

test("an object is loaded once", () => {
  const object = open();
  using loaded = object.load();
  assert.ok(loaded);
  assert.throws(() => object.load(), /it is loaded or closed/);
  assert.throws(() => object.setConstant("limit", 1), BpfError);
  object.close(); // does nothing: the loaded object owns it now
  assert.equal(loaded.map("counts").get(1), undefined);
});

test("what is closed throws and never crashes", () => {
  const object = BpfObject.open(MAIN);
  const spec = object.programs.get("emit");
  object.close();
  object.close();
  assert.ok(spec);
  assert.throws(() => {
    spec.autoload = false;
  }, /it is closed/);
  assert.throws(() => object.load(), BpfError);

  const loaded = load("add_up");
  const program = loaded.program("add_up");
  const map = loaded.map("counts");
  const variable = loaded.variable("counter");
  assert.equal(variable.get(), 0n);
  loaded.close();
  loaded.close();
  for (const use of [
    () => program.fd,
    () => program.id,
    () => program.attach(),
    () => program.testRun(),
    () => program.stats(),
    () => map.fd,
    () => map.get(1),
    () => {
      map.set(1, 2n);
    },
    () => map.entries(),
    () => map.deleteMany([1]),
    () => variable.get(),
    () => {
      variable.set(1n);
    },
  ]) {
    assert.throws(use, (error) => error instanceof BpfError && error.code === "EBADF");
  }
});

test("methods refuse a foreign this", () => {
  using loaded = load("add_up");
  const map = loaded.map("counts");
   
  assert.throws(() => map.get.call({} as never, 1), TypeError);
});

test("libbpf's words can be heard", () => {
  const lines: string[] = [];
  onLog("debug", (line) => lines.push(line));
  open("add_up").load().close();
  onLog("debug", undefined);
  assert.ok(lines.some((line) => line.includes("libbpf")));
  const heard = lines.length;
  open("add_up").load().close();
  assert.equal(lines.length, heard);

  onLog("warn", (line) => lines.push(line));
  assert.throws(() => BpfObject.open(REFUSED).load(), VerifierError);
  onLog("warn", undefined);
  assert.ok(lines.slice(heard).some((line) => line.includes("load failed") || line.includes("failed to load")));
});

test("the version of the libbpf inside", () => {
  assert.match(libbpfVersion(), /^1\.\d+/);
});
