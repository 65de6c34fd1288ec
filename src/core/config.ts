/**
 * Owns: config.json: the schema put together from the modules' fragments, reading, and one clear sentence
 * for whatever is wrong in it.
 * Owns not: watching it (config-watch.ts), what a module makes of its keys.
 */
import * as fs from "node:fs";
import { Ajv, type ErrorObject } from "ajv";
import { findNodeAtLocation, parseTree, printParseErrorCode, type ParseError } from "jsonc-parser";
import { errors } from "./errors.js";
import { printable } from "./log.js";
import type { Module, Request } from "./contract.js";
import { nearest } from "./nearest.js";
import type { HttpSettings } from "./onlooker.js";
import { reasonOf } from "./output-file.js";

export interface Config {
  /** Tick length, seconds. */
  readonly interval: number;
  readonly outputDir: string;
  /** Follow what the target forks, or the target alone. */
  readonly traceMultiprocess: boolean;
  /** KiB of one CPU's event ring; undefined: chosen from memory. */
  readonly ringKib: number | undefined;
  /** Bytes after which a table goes on in another file. */
  readonly maxFileSize: number | undefined;
  /** Undefined: nothing listens. */
  readonly http: HttpSettings | undefined;
  readonly requests: ReadonlyMap<Module, Request<unknown>>;
  /** As read, for run.json. */
  readonly raw: Readonly<Record<string, unknown>>;
}

const coreProperties = {
  $schema: { type: "string", description: "Where an editor finds config.schema.json." },
  interval: {
    type: "number",
    exclusiveMinimum: 0,
    maximum: 86400,
    default: 1,
    description: "Tick length in seconds, fractions allowed.",
  },
  trace_multiprocess: {
    enum: [true, false, "true", "false"],
    default: true,
    description: "Follow every process the target forks, or watch the target alone.",
  },
  output_dir: {
    type: "string",
    minLength: 1,
    default: ".",
    description: "Folder of the output files, created when missing.",
  },
  max_file_size: {
    type: ["integer", "null"],
    minimum: 65536,
    default: null,
    description: "Bytes after which a table goes on in another file: cpu.csv, cpu.1.csv, cpu.2.csv.",
  },
  ring_buffer_kib: {
    type: ["integer", "null"],
    minimum: 64,
    maximum: 1048576,
    default: null,
    description: "KiB of each CPU's event ring, rounded up to a power of two; null: chosen from memory.",
  },
  http: {
    type: ["object", "null"],
    default: null,
    description: "The HTTP server; null: nothing listens.",
    additionalProperties: false,
    properties: {
      port: {
        type: "integer",
        minimum: 0,
        maximum: 65535,
        default: 5000,
        description: "0: any that is free.",
      },
      host: {
        type: "string",
        minLength: 1,
        maxLength: 253,
        default: "127.0.0.1",
        description: "Name or address to listen on; one that others can reach takes a token.",
      },
      token: {
        type: ["string", "null"],
        pattern: "^[A-Za-z0-9._~+/-]{16,200}$",
        default: null,
        writeOnly: true,
        description: "16 to 200 letters, digits and . _ ~ + / -, which every client has to know.",
      },
    },
  },
};

/** Instead of a value that is nobody's to read (writeOnly). */
const hidden = "(not shown)";

function httpSettings(asked: Partial<HttpSettings> | null | undefined): HttpSettings | undefined {
  if (asked == null) return undefined;
  const { port, host, token } = coreProperties.http.properties;
  return {
    port: asked.port ?? port.default,
    host: asked.host ?? host.default,
    token: asked.token ?? token.default ?? undefined,
  };
}

export function schemaOf(modules: readonly Module[]): Record<string, unknown> {
  return {
    $schema: "http://json-schema.org/draft-07/schema#",
    title: "treesnoop configuration",
    type: "object",
    additionalProperties: false,
    properties: Object.assign({}, coreProperties, ...modules.map((module) => module.config)) as object,
  };
}

function position(text: string, offset: number): [line: number, column: number] {
  const before = text.slice(0, offset).split("\n");
  return [before.length, (before.at(-1)?.length ?? 0) + 1];
}

function parse(file: string, text: string): unknown {
  const problems: ParseError[] = [];
  const tree = parseTree(text, problems, { disallowComments: true, allowEmptyContent: false });
  const first = problems[0];
  if (first) {
    const words = printParseErrorCode(first.error).replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase();
    throw errors.configSyntax(file, ...position(text, first.offset), words);
  }
  if (tree === undefined) throw errors.configSyntax(file, 1, 1, "the file is empty");
  return JSON.parse(text) as unknown;
}

function list(values: readonly unknown[]): string {
  return values.map((value) => JSON.stringify(value)).join(", ");
}

function closest(word: string, known: readonly string[]): string | undefined {
  const [best] = nearest(word, known, 1);
  return best && best.far <= Math.max(2, word.length / 2) ? best.name : undefined;
}

function at(error: ErrorObject): string {
  return error.instancePath === "" ? "" : `${error.instancePath.slice(1).replaceAll("/", ".")} `;
}

/** The sentence and the hint of one schema error. */
function explain(error: ErrorObject, known: readonly string[], value: unknown): [string, string] {
  const schema = error.parentSchema as { writeOnly?: boolean; description?: string };
  const seen = schema.writeOnly === true ? hidden : printable(JSON.stringify(value)).slice(0, 80);
  switch (error.keyword) {
    case "additionalProperties": {
      const key = String((error.params as { additionalProperty: unknown }).additionalProperty);
      const near = closest(key, known);
      const where = error.instancePath === "" ? "" : ` in ${at(error).trim()}`;
      return [
        `unknown key ${printable(JSON.stringify(key))}${where}.`,
        near === undefined ? `Known keys: ${known.join(", ")}.` : `Did you mean "${near}"?`,
      ];
    }
    case "enum": {
      const allowed = (error.params as { allowedValues: unknown[] }).allowedValues;
      return [`${at(error)}is ${seen}.`, `Allowed: ${list(allowed)}.`];
    }
    case "pattern":
      if (schema.description !== undefined) return [`${at(error)}is ${seen}.`, `It takes ${schema.description}`];
      return [
        `${at(error)}is ${seen}, which is not a plain file name.`,
        "Output files lie in output_dir: no slash, no leading dot.",
      ];
    case "required": {
      const key = (error.params as { missingProperty: string }).missingProperty;
      return [`${at(error)}lacks the key "${key}".`, ""];
    }
    default:
      return [`${at(error)}${error.message ?? "is not valid"}, it is ${seen}.`, ""];
  }
}

/**
 * Of several errors (a union reports each branch) the deepest one names the real place; of those the one
 * about a key rather than about a value as a whole.
 */
function deepest(all: readonly ErrorObject[]): ErrorObject | undefined {
  const depth = (error: ErrorObject): number => error.instancePath.split("/").length;
  const whole = (error: ErrorObject): number => (["enum", "type"].includes(error.keyword) ? 1 : 0);
  return [...all]
    .filter((error) => error.keyword !== "anyOf")
    .sort((a, b) => depth(b) - depth(a) || whole(a) - whole(b))[0];
}

function valueAt(value: unknown, pointer: string): unknown {
  let found = value;
  for (const part of pointer.split("/").slice(1)) {
    found = (found as Record<string, unknown> | undefined)?.[part];
  }
  return found;
}

/** Half the time ajv takes is checking our own schema (the tests do that) and optimizing code that runs once. */
const quick = { meta: false, validateSchema: false, code: { optimize: false } } as const;

function validate(file: string, text: string, value: unknown, modules: readonly Module[]): void {
  const schema = schemaOf(modules);
  const ajv = new Ajv({ ...quick, allErrors: true, verbose: true, strict: false });
  if (ajv.validate(schema, value)) return;
  const error = deepest(ajv.errors ?? []);
  if (!error) return;
  const parent = error.parentSchema as { properties?: object } | undefined;
  const known = Object.keys(parent?.properties ?? {});
  const [sentence, hint] = explain(error, known, valueAt(value, error.instancePath));
  const path = error.instancePath.split("/").slice(1);
  const extra = (error.params as { additionalProperty?: string }).additionalProperty;
  if (extra !== undefined) path.push(extra);
  const tree = parseTree(text);
  const node = tree && findNodeAtLocation(tree, path);
  const [line] = position(text, node?.offset ?? 0);
  throw errors.configValue(`${file}, line ${String(line)}`, sentence, hint);
}

/** A file named by two modules, or the name of run.json, would be written twice. */
function distinctFiles(file: string, requests: ReadonlyMap<Module, Request<unknown>>): void {
  const users = new Map<string, string>([["run.json", "treesnoop's own record"]]);
  for (const [module, request] of requests) {
    const other = users.get(request.file);
    if (other !== undefined) {
      throw errors.configValue(
        file,
        `${module.fileKey} is ${JSON.stringify(request.file)}, which is also the file of ${other}.`,
        "Each module needs a file of its own.",
      );
    }
    users.set(request.file, module.fileKey);
  }
}

export function parseConfig(file: string, text: string, modules: readonly Module[]): Config {
  const value = parse(file, text);
  validate(file, text, value, modules);
  const raw = value as Record<string, unknown>;
  const requests = new Map<Module, Request<unknown>>();
  for (const module of modules) {
    const request = module.request(raw);
    if (request) requests.set(module, request);
  }
  distinctFiles(file, requests);
  return {
    interval: (raw["interval"] as number | undefined) ?? coreProperties.interval.default,
    outputDir: (raw["output_dir"] as string | undefined) ?? coreProperties.output_dir.default,
    traceMultiprocess: raw["trace_multiprocess"] !== false && raw["trace_multiprocess"] !== "false",
    ringKib: (raw["ring_buffer_kib"] as number | null | undefined) ?? undefined,
    maxFileSize: (raw["max_file_size"] as number | null | undefined) ?? undefined,
    http: httpSettings(raw["http"] as Partial<HttpSettings> | null | undefined),
    requests,
    raw,
  };
}

export function readConfig(file: string, modules: readonly Module[]): Config {
  let text: string;
  try {
    text = fs.readFileSync(file, "utf8");
  } catch (error) {
    throw errors.configUnreadable(file, reasonOf(error));
  }
  return parseConfig(file, text.replace(/^\ufeff/, ""), modules);
}

/** What the run goes by: defaults filled in, the command line's values, one spelling for each value. */
export function effective(config: Config, modules: readonly Module[]): Record<string, unknown> {
  const { properties } = schemaOf(modules) as { properties: Record<string, { default?: unknown }> };
  const defaults = Object.entries(properties).map(([key, schema]) => [key, schema.default] as const);
  const filled: Record<string, unknown> = { ...Object.fromEntries(defaults), ...config.raw };
  delete filled["$schema"];
  const modern: Record<string, unknown> = { bcc: "bpf", None: null };
  for (const [key, value] of Object.entries(filled)) {
    if (typeof value === "string" && value in modern) filled[key] = modern[value];
  }
  return {
    ...filled,
    interval: config.interval,
    output_dir: config.outputDir,
    trace_multiprocess: config.traceMultiprocess,
    http: config.http ? { ...config.http, token: config.http.token === undefined ? null : hidden } : null,
  };
}
