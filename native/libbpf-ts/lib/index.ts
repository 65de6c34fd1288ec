// SPDX-License-Identifier: MIT
export type {
  ArrayType,
  BtfMember,
  BtfType,
  EnumType,
  FloatType,
  IntType,
  PointerType,
  StructType,
  UnknownType,
} from "./btf.js";
export type { DecodedValue, Field, Int64Mode } from "./codec.js";
export { elfInfo, elfSymbols, executableRanges, readCode, type ElfInfo, type ElfSymbol } from "./elf.js";
export { BpfError, VerifierError } from "./errors.js";
export {
  CsvFile,
  CsvWriter,
  type CsvFileFigures,
  type CsvFileOptions,
  type EventProtocol,
  type EventRings,
  type SourceLoss,
} from "./csv-writer.js";
export type { FieldCell, FieldCondition, FieldFormat } from "./event-cell.js";
export { EventTap, type RowTapOptions, type TapOptions, type TappedEvent } from "./event-tap.js";
export { EventTable, type EventCells } from "./event-table.js";
export { kernel, type Answer } from "./kernel.js";
export type { IteratorLink, Link } from "./link.js";
export { libbpfVersion, onLog, type LogLevel } from "./log.js";
export { BpfMap, type RawEntries, type UpdateMode } from "./map.js";
export { BpfObject, LoadedObject, type OpenOptions } from "./object.js";
export type { MapSpec, ProgramSpec } from "./object-spec.js";
export { ObjectBtf, type RecordDecoder } from "./object-btf.js";
export {
  Program,
  enableRunTimeStatistics,
  type NetfilterOptions,
  type PerfEventOptions,
  type ProgramStatistics,
  type ScopedUprobeOptions,
  type UprobeOptions,
} from "./program.js";
export { RingBuffer, type RingBufferOptions } from "./ring-buffer.js";
export { openTracefs, Tracefs, UprobeEvent, type UprobeDefinition } from "./tracefs.js";
export { Variable } from "./variable.js";
