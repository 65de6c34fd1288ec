// SPDX-License-Identifier: MIT
// Finds a field of a record by its path: "value", "leak.arguments[3]", "text[2]".
import type { BtfType } from "./btf.js";
import { flattenFields } from "./codec.js";
import { failure, type BpfError } from "./errors.js";
import { suggestion } from "./names.js";
import { isBitfield, typeName } from "./scalars.js";

/** A field, wherever in the record it is. */
export interface FieldPlace {
  readonly path: string;
  /** From the start of the record, in bytes. */
  readonly offset: number;
  readonly type: BtfType;
}

/** What is wrong with a column that shows this field. */
export function refusal(path: string, reason: string, code = "EINVAL"): BpfError {
  return failure("show field", path, code, reason);
}

const step = /\.?([A-Za-z_]\w*)|\[(\d+)\]/y;

function member(path: string, name: string, place: FieldPlace): FieldPlace {
  const { type, offset } = place;
  if (type.kind !== "struct" && type.kind !== "union") {
    throw refusal(path, `${place.path} is no struct: it has no field ${name}`);
  }
  const fields = flattenFields(type);
  const field = fields.find((entry) => entry.name === name);
  if (!field) {
    const names = fields.map((entry) => entry.name);
    throw refusal(path, `${place.path} has no ${name}${suggestion(name, names)}`, "ENOENT");
  }
  if (isBitfield(field)) throw refusal(path, "bitfields cannot be shown");
  return { path, offset: offset + field.bitOffset / 8, type: field.type };
}

function element(path: string, index: number, place: FieldPlace): FieldPlace {
  const { type, offset } = place;
  if (type.kind !== "array") throw refusal(path, `${place.path} is no array`);
  if (index >= type.length) {
    throw refusal(path, `${place.path} has ${type.length.toString()} elements`, "ERANGE");
  }
  return { path, offset: offset + index * type.element.size, type: type.element };
}

/** @throws BpfError naming the closest fields where there is no such field */
export function findField(record: BtfType, path: string): FieldPlace {
  let place: FieldPlace = { path: typeName(record), offset: 0, type: record };
  step.lastIndex = 0;
  for (let at = 0; at < path.length; at = step.lastIndex) {
    const found = step.exec(path);
    const text = found?.[0] ?? "";
    // A dot stands between names, and nowhere else.
    if (!found || (text.startsWith(".") ? at === 0 : at > 0 && found[2] === undefined)) {
      throw refusal(path, 'a path looks like "value", "point.x" or "numbers[3]"');
    }
    const way = path.slice(0, step.lastIndex);
    place =
      found[1] === undefined
        ? element(way, Number(found[2]), place)
        : member(way, found[1], place);
  }
  if (path === "") throw refusal(path, 'a path looks like "value", "point.x" or "numbers[3]"');
  return place;
}
