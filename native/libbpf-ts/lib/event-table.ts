// SPDX-License-Identifier: MIT
import { bindCell, type FieldCell } from "./event-cell.js";
import { findField, refusal } from "./event-path.js";
import { native, type NativeEventTable } from "./native.js";
import type { ObjectBtf } from "./object-btf.js";

/** First cell whose conditions hold; none: empty. */
export type EventCells = FieldCell | readonly FieldCell[];

/**
 * A CSV table whose rows are event records, bound once to the C type through the object's BTF; rows are
 * then formatted by native code. Every row begins with three cells: the record's time as Unix seconds
 * with 6 decimals, pid and name of the process it is about. Text is quoted where RFC 4180 wants it, and
 * begins with an apostrophe where a spreadsheet would run it as a formula; invalid UTF-8 becomes U+FFFD.
 *
 * A record may be shorter than its C type: cells of fields behind its end are empty.
 */
export class EventTable {
  /** @internal */
  readonly native: NativeEventTable;

  /**
   * @param record the C type, "struct event"
   * @param header the C type every record begins with, and the path in it of the record's time: u64,
   * CLOCK_MONOTONIC in ns
   * @param columns at least two, after the three each row begins with
   * @param unixOffsetNs what has to be added to CLOCK_MONOTONIC to have Unix time, in ns
   * @throws BpfError: ENOENT for an unknown type or field, naming the closest; EINVAL or ERANGE for
   * what cannot be shown (bitfields, floats, whole structs and arrays) or cannot be shown so
   */
  constructor(
    btf: ObjectBtf,
    record: string,
    header: { readonly record: string; readonly time: string },
    columns: readonly EventCells[],
    unixOffsetNs: bigint,
  ) {
    const type = btf.type(record);
    if (type.kind !== "struct" && type.kind !== "union") {
      throw refusal(record, "a record is a struct");
    }
    const time = findField(btf.type(header.record), header.time);
    if (time.type.kind !== "int" || time.type.size !== 8 || time.type.signed) {
      throw refusal(time.path, "a record's time is an unsigned integer of 8 bytes");
    }
    this.native = new native.NativeEventTable({
      timeOffset: time.offset,
      unixOffsetNs,
      columns: columns.map((cells) =>
        ("field" in cells ? [cells] : cells).map((cell) => bindCell(type, cell)),
      ),
    });
  }

  /**
   * One record as a line of CSV, LF included.
   * @param pid unsigned, 32 bits
   * @param name of the process, as the kernel gave it: up to its first NUL
   */
  row(record: Uint8Array, pid: number, name: Uint8Array): string {
    return this.native.row(record, pid, name).toString();
  }

  /**
   * The line that says how many events of a process are missing here: time, pid, name, LOST, count.
   * @param ns CLOCK_MONOTONIC
   */
  lostRow(ns: bigint, pid: number, name: Uint8Array, lost: number | bigint): string {
    return this.native.lostRow(ns, pid, name, lost).toString();
  }

  /** The last line of a process: END instead of a time, pid, name. */
  endRow(pid: number, name: Uint8Array): string {
    return this.native.endRow(pid, name).toString();
  }
}
