/**
 * memleak_probes: entry and return of chosen functions with the heap of the process at that moment
 * (bpf/modules/memleak_probes.bpf.c).
 */
import {
  type AnyRow,
  attachAll,
  type Column,
  type Context,
  defineModule,
  fileName,
  host,
  processColumns,
  RunError,
  type RowOf,
  type Stream,
} from "../../core/module.js";
import { heapOf, heapParts } from "../../services/heap/heap.js";
import { ProbeSites } from "../../services/uprobes.js";
import { onStack, type Parameter, parseParameters, readParameter } from "./parameters.js";
import { findPlaces, type Place } from "./places.js";

const columns = [
  ...processColumns,
  { name: "PROBE", type: "text", description: "the function, as configured" },
  { name: "ACTION", type: "integer", description: "0 entry, 1 return" },
  { name: "Size", type: "integer", unit: "B", description: "live heap of the process now" },
  { name: "Times", type: "integer", description: "live blocks of the process now" },
  { name: "TID", type: "integer", description: "thread, in the monitor's pid namespace" },
  { name: "DURATION", type: "number", unit: "µs", description: "return: since the matching entry" },
  { name: "SIZE_CHANGE", type: "integer", unit: "B", description: "return: since the matching entry" },
  { name: "TIMES_CHANGE", type: "integer", description: "return: since the matching entry" },
  { name: "RETURN", type: "integer", description: "return: the value, as a signed integer" },
] as const satisfies readonly Column[];

/** As LEAK_ARGUMENTS in memleak_probes.bpf.c. */
const maxArguments = 8;

interface Options {
  readonly places: readonly Place[];
  readonly parameters: readonly Parameter[];
}

interface Configured {
  readonly probes: readonly string[];
  readonly output_file?: string;
  readonly additional_var?: string | null;
}

interface LeakEvent {
  readonly tid: number;
  readonly probe: number;
  readonly action: number;
  readonly size: number;
  readonly times: number;
  readonly size_change: number;
  readonly times_change: number;
  readonly duration_ns: number;
}

function parametersOf(text: string): Parameter[] {
  const parameters = parseParameters(text);
  const taken = parameters.find((each) => columns.some((column) => column.name === each.name));
  if (taken) {
    throw new RunError(
      2,
      `memleak_probes.additional_var: ${JSON.stringify(taken.name)} is the name of a column of the table.`,
      "Give the parameter another name; only its place counts.",
    );
  }
  return parameters;
}

/** Reads the fields behind the decoded ones: registers in full width, and texts. */
function argumentReader(context: Context, parameters: readonly Parameter[]) {
  const plain = context.object.btf.decoder("struct leak_event");
  const withText = context.object.btf.decoder("struct leak_text_event");
  const offset = (name: string): number =>
    (plain.fields.find((field) => field.name === name)?.bitOffset ?? 0) / 8;
  const registers = offset("arguments");
  const result = offset("result");
  const texts = (withText.fields.find((field) => field.name === "text")?.bitOffset ?? 0) / 8;
  const textBytes = (withText.size - texts) / maxArguments;
  return {
    result: (bytes: Buffer): bigint => bytes.readBigInt64LE(result),
    cells: (bytes: Buffer): AnyRow =>
      Object.fromEntries(
        parameters.map((parameter, index) => {
          const from = texts + index * textBytes;
          const text = bytes.subarray(from, from + textBytes);
          const end = text.indexOf(0);
          return [
            parameter.name,
            readParameter(
              parameter,
              bytes.readBigUInt64LE(registers + index * 8),
              text.toString("utf8", 0, end < 0 ? text.length : end),
            ),
          ];
        }),
      ),
  };
}

function attachProbes(context: Context, places: readonly Place[]): () => void {
  const probes = new ProbeSites(context, {
    label: "leak",
    map: "leak_sites",
    entry: "leak_entry",
    return: "leak_return",
  });
  const sites = places.map(({ file, offset }, index) => ({
    file,
    offset,
    value: index + 1,
    returns: true,
  }));
  if (!probes.add(sites)) {
    probes.stop();
    throw new RunError(2, "memleak_probes.probes: too many functions begin at the same page offset.");
  }
  return () => {
    probes.stop();
  };
}

export default defineModule<Options>({
  name: "memleak_probes",
  summary: "heap at entry and return of chosen functions",
  config: {
    memleak_probes: {
      anyOf: [
        { enum: [null, "None"] },
        {
          type: "object",
          additionalProperties: false,
          required: ["probes"],
          properties: {
            probes: { type: "array", items: { type: "string", minLength: 3 }, minItems: 1, maxItems: 256 },
            output_file: { ...fileName, default: "memleak_probes.csv" },
            additional_var: { type: ["string", "null"], default: null },
          },
        },
      ],
      default: null,
      description: 'Functions to probe, e.g. {"probes": ["./bin:func"], "additional_var": "int n, char[10] s"}.',
    },
  },
  fileKey: "memleak_probes.output_file",
  request(config) {
    const wanted = config["memleak_probes"] ?? "None";
    if (wanted === "None") return undefined;
    const { probes, output_file, additional_var } = wanted as Configured;
    return {
      options: { places: findPlaces(probes), parameters: parametersOf(additional_var ?? "") },
      file: output_file ?? "memleak_probes.csv",
    };
  },
  columns: ({ parameters }) => [
    ...columns,
    ...parameters.map((each): Column => {
      const type = each.kind === "text" || each.kind === "pointer" ? "text" : "integer";
      return { name: each.name, type, description: "entry: declared parameter" };
    }),
  ],
  bpf: () => ({
    programs: [...heapParts.programs, "leak_entry", "leak_return", "leak_newtask"],
    maps: [...heapParts.maps, "leak_sites", "leak_threads"],
    stream: "leak_stream",
    ringBytes: 16 << 20,
  }),
  needs: () => [
    host.mapType("task_storage", "task storage"),
    host.mapType("ringbuf", "ring buffer"),
    host.uprobeEvents(),
  ],
  start(context, { places, parameters }): Stream {
    heapOf(context);
    const { object } = context;
    const textBytes = Array.from({ length: maxArguments }, (_, index) => parameters[index]?.text ?? 0);
    object.variable<number[]>("leak_text_bytes").set(textBytes);
    object.variable<number>("leak_has_text").set(textBytes.some((bytes) => bytes > 0) ? 1 : 0);
    object.variable<number>("leak_stack_arguments").set(onStack(parameters) ? 1 : 0);
    const detachFork = attachAll(context, ["leak_newtask"]);
    const detachProbes = attachProbes(context, places);
    const unmatched = object.variable<number>("leak_unmatched");
    const unmatchedBefore = unmatched.get();
    const reader = argumentReader(context, parameters);
    const noCells = Object.fromEntries(parameters.map((parameter) => [parameter.name, ""]));
    return {
      kind: "stream",
      backend: "uprobes",
      record: "struct leak_event",
      row(record, who, ticks, bytes): RowOf<typeof columns> {
        const event = record as unknown as LeakEvent;
        const entry = event.action === 0;
        return {
          Ticks: ticks,
          PID: who.pid,
          COMM: who.comm,
          PROBE: places[event.probe - 1]?.text ?? "",
          ACTION: event.action,
          Size: event.size,
          Times: event.times,
          TID: event.tid,
          DURATION: entry ? "" : event.duration_ns / 1e3,
          SIZE_CHANGE: entry ? "" : event.size_change,
          TIMES_CHANGE: entry ? "" : event.times_change,
          RETURN: entry ? "" : reader.result(bytes),
          ...(entry ? reader.cells(bytes) : noCells),
        };
      },
      lost: () => unmatched.get() - unmatchedBefore,
      stop: () => {
        detachProbes();
        detachFork();
      },
    };
  },
});
