/**
 * Owns: whether a request fits the route's schemas, and the form of every answer that says no.
 * Owns not: the schemas (the routes), who is let in (guards.ts).
 */
import { isIPv4, isIPv6 } from "node:net";
import { Ajv, type ErrorObject } from "ajv";
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { describe } from "../core/errors.js";
import { nearest } from "../core/nearest.js";
import { type ObjectSchema, Refusal, type Schema } from "./contract.js";

/** `coerce`: of text, as in a URL, where "443" is a number; JSON says itself what is one. */
function validator(coerce: boolean): Ajv {
  return new Ajv({
    // The schemas are ours, a test looks at them; compiling the one they must fit delays the launch.
    meta: false,
    validateSchema: false,
    coerceTypes: coerce,
    useDefaults: true,
    strict: false,
    verbose: true,
    formats: { ipv4: isIPv4, ipv6: isIPv6 },
  });
}

/** "?stream" means "?stream=true"; what else has no value is empty. */
export function fillFlags(query: Record<string, unknown>, schema: ObjectSchema | undefined): void {
  for (const [name, { type }] of Object.entries(schema?.properties ?? {})) {
    if (type === "boolean" && query[name] === "") query[name] = "true";
  }
}

/** What is wrong, and at which place of the JSON. */
interface Fault {
  readonly path: string;
  readonly message: string;
}

function faultOf(error: ErrorObject): Fault {
  const { instancePath, keyword, params, parentSchema, message = "is not valid" } = error;
  if (keyword === "additionalProperties") {
    const key = String((params as { additionalProperty: unknown }).additionalProperty);
    const known = Object.keys((parentSchema as { properties?: object } | undefined)?.properties ?? {});
    const [best] = nearest(key, known, 1);
    return {
      path: `${instancePath}/${key}`,
      message: best ? `is not known; did you mean ${best.name}?` : "is not known",
    };
  }
  if (keyword === "enum") {
    const allowed = (params as { allowedValues: unknown[] }).allowedValues.map((value) => JSON.stringify(value));
    return { path: instancePath, message: `must be one of ${allowed.join(", ")}` };
  }
  return { path: instancePath, message };
}

interface Refused {
  readonly status: number;
  readonly message: string;
  readonly path?: string;
}

export const refusalSchema: Schema = {
  description: "What was wrong.",
  type: "object",
  properties: {
    status: { type: "integer" },
    message: { type: "string" },
    path: { type: "string", description: "where in the request: /query/format, /body/params/dport" },
  },
  required: ["status", "message"],
};

function refused(error: FastifyError): Refused {
  if (error instanceof Refusal) {
    const { status, message, path } = error;
    return { status, message, ...(path === undefined ? {} : { path }) };
  }
  const [first] = (error.validation ?? []) as unknown as ErrorObject[];
  if (first) {
    const { path, message } = faultOf(first);
    const where = error.validationContext === "querystring" ? "query" : (error.validationContext ?? "");
    return { status: 400, message: `${where}${path} ${message}.`, path: `/${where}${path}` };
  }
  const status = error.statusCode ?? 500;
  return { status, message: status < 500 ? error.message : "This went wrong here; treesnoop's stderr says how." };
}

/** `report`: what went wrong on our side, once for each way. */
export function answerErrors(app: FastifyInstance, report: (sentence: string) => void): void {
  const strict = validator(false);
  const lenient = validator(true);
  app.setValidatorCompiler(({ schema, httpPart }) =>
    (httpPart === "body" ? strict : lenient).compile(schema as object),
  );
  app.setSerializerCompiler(() => (value) => JSON.stringify(value));

  const reported = new Set<string>();
  app.setErrorHandler((error: FastifyError, request: FastifyRequest, reply: FastifyReply) => {
    const { status, message, path } = refused(error);
    if (status >= 500 && !(error instanceof Refusal) && !reported.has(error.message)) {
      reported.add(error.message);
      report(`http: ${request.method} ${request.url.split("?")[0] ?? ""}: ${describe(error)}.`);
    }
    return reply.code(status).send({ status, message, ...(path === undefined ? {} : { path }) });
  });
  app.setNotFoundHandler((request) => {
    throw new Refusal(404, `There is no ${request.method} ${request.url.split("?")[0] ?? ""}; GET / lists what there is.`);
  });
}
