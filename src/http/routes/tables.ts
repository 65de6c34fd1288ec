/** GET /api/tables: which tables there are. */
import { columnsSchema, columnsShown } from "../columns.js";
import { json, type Route } from "../contract.js";

export default {
  url: "/api/tables",
  summary: "The tables of the modules that are on.",
  answers: {
    "application/json": {
      type: "array",
      items: {
        type: "object",
        properties: {
          module: { type: "string" },
          summary: { type: "string" },
          file: { type: "string", description: "in the output folder" },
          rows: { type: "integer", description: "in the file, at the latest tick" },
          columns: columnsSchema,
        },
        required: ["module", "summary", "file", "rows", "columns"],
        additionalProperties: false,
      },
    },
  },
  open:
    ({ sources }) =>
    () =>
      json(
        sources.tables().map(({ module, summary, file, rows, columns }) => ({
          module,
          summary,
          file,
          rows,
          columns: columnsShown(columns),
        })),
      ),
} satisfies Route;
