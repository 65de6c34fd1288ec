// SPDX-License-Identifier: MIT
// The object with struct columns, and tables over it.
import assert from "node:assert/strict";
import { after } from "node:test";
import { BpfObject, EventTable, type EventCells } from "libbpf-ts";
import { out } from "./support.js";

const object = BpfObject.open(out("columns.bpf.o"));
after(() => {
  object.close();
});

export const { btf } = object;
const { size, fields } = btf.decoder("struct columns");
export const SIZE = size;
export const BASH = Buffer.from("bash\0and what the kernel left behind");
export const UNIX = 1700000000000000000n;

/** Where a top-level field begins. */
export function at(name: string): number {
  const field = fields.find((entry) => entry.name === name);
  assert.ok(field, name);
  return field.bitOffset / 8;
}

export function table(columns: readonly EventCells[], unixOffsetNs = UNIX): EventTable {
  return new EventTable(btf, "struct columns", { record: "struct columns", time: "time" }, columns, unixOffsetNs);
}
