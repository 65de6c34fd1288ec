// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { BpfError, elfInfo, elfSymbols, readCode } from "libbpf-ts";
import { MAIN, PROBED } from "./support.js";

/** The C library this very process runs with. */
const libc = /(\/\S*\/libc\.so\.6)$/m.exec(readFileSync("/proc/self/maps", "utf8"))?.[1] ?? "";

test("functions agree with nm", () => {
  const ours = new Map(elfSymbols(PROBED).map((symbol) => [symbol.name, symbol]));
  const lines = execFileSync("nm", [PROBED], { encoding: "utf8" }).split("\n");
  let compared = 0;
  for (const line of lines) {
    const match = /^([0-9a-f]{16}) [Tt] (\w+)$/.exec(line);
    if (match?.[1] === undefined || match[2] === undefined) continue;
    assert.equal(ours.get(match[2])?.address, BigInt(`0x${match[1]}`), match[2]);
    compared++;
  }
  assert.ok(compared > 3);
  const probe = ours.get("probe_me");
  assert.equal(probe?.type, "function");
  assert.equal(probe.exported, false);
  assert.equal(ours.has("printf"), false, "undefined symbols are skipped");
});

test("a library's exports, filtered, without versions, ifuncs told apart", () => {
  const malloc = elfSymbols(libc, { names: ["malloc"] });
  assert.equal(malloc.length, 1);
  assert.equal(malloc[0]?.exported, true);
  assert.equal(malloc[0].type, "function");
  assert.equal(elfSymbols(libc, { names: ["strlen"] })[0]?.type, "ifunc");
  assert.deepEqual(elfSymbols(libc, { names: [] }), []);
  const all = elfSymbols(libc);
  assert.ok(all.length > 1000);
  assert.ok(!all.some((symbol) => symbol.name.includes("@")));
});

test("of several versions the linker's choice is first", () => {
  const versions = elfSymbols(libc, { names: ["memcpy"] });
  if (process.arch === "x64") assert.ok(versions.length >= 2);
  const listed = execFileSync("nm", ["-D", libc], { encoding: "utf8" });
  const chosen = /^([0-9a-f]+) \w memcpy@@/m.exec(listed)?.[1] ?? "";
  assert.equal(versions[0]?.address, BigInt(`0x${chosen}`));
});

test("file offsets point at the code", () => {
  const probe = elfSymbols(PROBED, { names: ["probe_me"] })[0];
  assert.ok(probe);
  const code = readCode(PROBED, probe.offset, probe.size);
  assert.equal(code.length, probe.size);
  if (process.arch === "x64") assert.equal(code.at(-1), 0xc3); // ret
  assert.equal(readCode(PROBED, 2 ** 30, 16).length, 0);
});

test("what a file says about itself", () => {
  const program = elfInfo(PROBED);
  assert.equal(program.type, "executable");
  assert.equal(program.hasSymtab, true);
  assert.ok(program.needed.includes("libc.so.6"));
  assert.match(program.interpreter ?? "", /ld-linux/);
  const library = elfInfo(libc);
  assert.equal(library.type, "shared");
  assert.match(library.buildId ?? "", /^[0-9a-f]{40}$/);
  const readelf = execFileSync("readelf", ["-n", libc], { encoding: "utf8" });
  assert.ok(readelf.includes(`Build ID: ${library.buildId ?? ""}`));
  assert.equal(elfInfo(MAIN).machine, "bpf");
  assert.equal(elfInfo(MAIN).type, "relocatable");
});

test("what is not ELF", () => {
  assert.throws(() => elfInfo("/etc/passwd"), (error) => {
    return error instanceof BpfError && error.code === "ENOEXEC";
  });
  assert.throws(() => elfSymbols("/etc/passwd"), BpfError);
  assert.throws(() => elfInfo("/no/such/file"), /ENOENT/);
  assert.throws(() => elfSymbols("/"), BpfError);
});
