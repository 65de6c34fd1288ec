/** GET or POST /api/tables/NAME: a table's latest interval, or every one from now on. */
import type { Column } from "../../core/contract.js";
import type { Interval, Sources, TableView } from "../../core/onlooker.js";
import { csvRows, jsonRows } from "../cells.js";
import { columnsSchema, columnsShown } from "../columns.js";
import { type Lines, type LineSource, type ObjectSchema, Refusal, type Route } from "../contract.js";

interface Wanted {
  readonly format?: "json" | "csv";
  readonly stream?: boolean;
}

const wanted: ObjectSchema = {
  type: "object",
  properties: {
    format: { enum: ["json", "csv"], description: "csv: as in the file" },
    stream: { type: "boolean", description: "every interval's rows from now on, a line each" },
  },
  additionalProperties: false,
};

function viewOf(sources: Sources, name: string): TableView {
  const views = sources.tables();
  const view = views.find(({ module }) => module === name);
  if (view) return view;
  const there = views.map(({ module }) => module).join(", ");
  const known = there === "" ? "No module is on." : `There are: ${there}.`;
  throw new Refusal(404, `No module ${JSON.stringify(name)} is on. ${known}`);
}

/** Made once of each interval, for all who ask. */
function once(make: (interval: Interval, columns: readonly Column[]) => Lines): typeof make {
  const made = new WeakMap<Interval, Lines>();
  return (interval, columns) => {
    let lines = made.get(interval);
    if (!lines) made.set(interval, (lines = make(interval, columns)));
    return lines;
  };
}

const asJson = once(({ lines }, columns) => jsonRows(lines, columns));
const asCsv = once(({ lines }) => csvRows(lines));

/** In a stream, what is not shown has a line of its own, in CSV as the files have it. */
const jsonStream = once((interval, columns) => {
  const rows = asJson(interval, columns);
  const omitted = interval.all - rows.length;
  return omitted > 0 ? [...rows, `{"omitted":${String(omitted)}}`] : rows;
});
const csvStream = once((interval, columns) => {
  const rows = asCsv(interval, columns);
  const omitted = interval.all - rows.length;
  if (omitted <= 0) return rows;
  const [time = "", count] = [interval.time?.toFixed(6), String(omitted)];
  return [...rows, `${time},,,LOST,${count}${",".repeat(columns.length - 5)}`];
});

function streamOf(view: TableView, csv: boolean): LineSource {
  const rowsOf = csv ? csvStream : jsonStream;
  return (sink) => {
    if (csv) sink.send([view.header.trimEnd()]);
    return view.subscribe((interval) => {
      if (interval) sink.send(rowsOf(interval, view.columns));
      else sink.end();
    });
  };
}

function whole(view: TableView, interval: Interval): string {
  const { module, columns } = view;
  const { time, all } = interval;
  const ticks = time === undefined ? null : Number(time.toFixed(6)); // as in the file
  const head = JSON.stringify({ module, ticks, columns: columnsShown(columns), all });
  return `${head.slice(0, -1)},"rows":[${asJson(interval, columns).join(",")}]}\n`;
}

const csvType = "text/csv; charset=utf-8";

export default {
  url: "/api/tables/:module",
  summary: "The latest interval of a table; with stream all that follow.",
  path: { type: "object", properties: { module: { type: "string" } }, required: ["module"], additionalProperties: false },
  query: wanted,
  body: wanted,
  answers: {
    "application/json": {
      type: "object",
      properties: {
        module: { type: "string" },
        ticks: { type: ["number", "null"], description: "Unix time the interval ended at, s; null: none has yet" },
        columns: columnsSchema,
        all: { type: "integer", description: "rows the interval had; of an event table the newest are shown" },
        rows: { type: "array", items: { type: "object", description: "the cells, by column" } },
      },
      required: ["module", "ticks", "columns", "all", "rows"],
      additionalProperties: false,
    },
    "text/csv": { type: "string", description: "the header and the rows, as in the file" },
    "application/x-ndjson": { type: "string", description: "with stream: an object for each row" },
    "text/event-stream": { type: "string", description: "where a client accepts that: the same as events" },
  },
  open:
    ({ sources }) =>
    async ({ path, query, body, streaming, wantsCsv }) => {
      const view = viewOf(sources, path["module"] ?? "");
      const { format, stream } = { ...query, ...(body as Wanted | undefined) };
      const csv = format === "csv" || (format === undefined && wantsCsv);
      if (streaming || stream === true) {
        return { type: csv ? csvType : "application/x-ndjson; charset=utf-8", lines: streamOf(view, csv) };
      }
      const interval = await view.latest();
      if (csv) return { type: csvType, content: view.header + interval.lines };
      return { type: "application/json; charset=utf-8", content: whole(view, interval) };
    },
} satisfies Route;
