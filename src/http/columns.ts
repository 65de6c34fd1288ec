/**
 * Owns: how a table's columns are shown: the same in the list of tables and in a table.
 */
import type { Column } from "../core/contract.js";
import type { Schema } from "./contract.js";

export const columnsSchema: Schema = {
  type: "array",
  items: {
    type: "object",
    properties: {
      name: { type: "string" },
      type: { enum: ["ticks", "integer", "number", "text"] },
      unit: { type: "string" },
      description: { type: "string" },
    },
    required: ["name", "type", "description"],
    additionalProperties: false,
  },
};

export function columnsShown(columns: readonly Column[]): object[] {
  return columns.map(({ name, type, unit, description }) => ({ name, type, unit, description }));
}
