/**
 * memleak_probes: entry and return of chosen functions with the heap of the process at that moment
 * (bpf/modules/memleak_probes.bpf.c).
 */
import type { FieldCondition } from "libbpf-ts";
import {
  attachAll,
  type Column,
  type Context,
  defineModule,
  fileName,
  host,
  processColumns,
  RunError,
  type Stream,
} from "../../core/module.js";
import { heapOf, heapParts } from "../../services/heap/heap.js";
import { ProbeSites } from "../../services/uprobes.js";
import { onStack, type Parameter, parameterFormat, parseParameters } from "./parameters.js";
import { findPlaces, type Place } from "./places.js";

interface Options {
  readonly places: readonly Place[];
  readonly parameters: readonly Parameter[];
}

/** Texts lie behind the record, where some are declared; then it is the first part of a longer one. */
function recordOf(parameters: readonly Parameter[]): { record: string; at: (field: string) => string } {
  return parameters.some((parameter) => parameter.kind === "text")
    ? { record: "struct leak_text_event", at: (field) => `leak.${field}` }
    : { record: "struct leak_event", at: (field) => field };
}

function columnsOf({ places, parameters }: Options): Column[] {
  const { at } = recordOf(parameters);
  const entry: FieldCondition = { field: at("action"), is: 0 };
  const exit: FieldCondition = { field: at("action"), is: 1 };
  const probes = ["", ...places.map((place) => place.text)]; // numbered from 1
  return [
    ...processColumns,
    {
      name: "PROBE",
      type: "text",
      description: "the function, as configured",
      from: { field: at("probe"), as: { names: probes } },
    },
    { name: "ACTION", type: "integer", description: "0 entry, 1 return", from: { field: at("action") } },
    {
      name: "Size",
      type: "integer",
      unit: "B",
      description: "live heap of the process now",
      from: { field: at("size") },
    },
    {
      name: "Times",
      type: "integer",
      description: "live blocks of the process now",
      from: { field: at("times") },
    },
    {
      name: "TID",
      type: "integer",
      description: "thread, in the monitor's pid namespace",
      from: { field: at("tid") },
    },
    {
      name: "DURATION",
      type: "number",
      unit: "µs",
      description: "return: since the matching entry",
      from: { field: at("duration_ns"), as: { per: 1000, digits: 3 }, when: exit },
    },
    {
      name: "SIZE_CHANGE",
      type: "integer",
      unit: "B",
      description: "return: since the matching entry",
      from: { field: at("size_change"), when: exit },
    },
    {
      name: "TIMES_CHANGE",
      type: "integer",
      description: "return: since the matching entry",
      from: { field: at("times_change"), when: exit },
    },
    {
      name: "RETURN",
      type: "integer",
      description: "return: the value, as a signed integer",
      from: { field: at("result"), as: { bits: 64, signed: true }, when: exit },
    },
    ...parameters.map((parameter, index): Column => {
      const { name, kind } = parameter;
      const register = at(`arguments[${String(index)}]`);
      const text = kind === "text";
      return {
        name,
        type: text || kind === "pointer" ? "text" : "integer",
        description: "entry: declared parameter",
        from: {
          field: text ? `text[${String(index)}]` : register,
          as: parameterFormat(parameter),
          when: text ? [entry, { field: register, not: 0 }] : entry,
        },
      };
    }),
  ];
}

/** Without any parameter: what a parameter's name must not be. */
const columns = columnsOf({ places: [], parameters: [] });

/** As LEAK_ARGUMENTS in memleak_probes.bpf.c. */
const maxArguments = 8;

interface Configured {
  readonly probes: readonly string[];
  readonly output_file?: string;
  readonly additional_var?: string | null;
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
  columns: columnsOf,
  bpf: (options) => ({
    programs: [...heapParts.programs, "leak_entry", "leak_return", "leak_newtask"],
    maps: [...heapParts.maps, "leak_sites", "leak_threads"],
    stream: { number: "leak_stream", record: recordOf(options?.parameters ?? []).record },
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
    return {
      kind: "stream",
      backend: "uprobes",
      lost: () => unmatched.get() - unmatchedBefore,
      stop: () => {
        detachProbes();
        detachFork();
      },
    };
  },
});
