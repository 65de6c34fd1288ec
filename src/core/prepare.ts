/**
 * Owns: everything before the first tick that can fail: the host, the target, the BPF object, the output
 * folder, each in the order in which a user would want to hear of it.
 * Owns not: ticking and stopping (session.ts).
 */
import * as fs from "node:fs";
import { BpfError, kernel, VerifierError } from "libbpf-ts";
import { Bpf } from "./bpf.js";
import { BpfSteps } from "./bpf-steps.js";
import type { Invocation } from "./cli.js";
import { readConfig, type Config } from "./config.js";
import { describe, errors, type RunError } from "./errors.js";
import { ringBytes, wakeBytes } from "./event-rings.js";
import { host } from "./host.js";
import type { Module } from "./contract.js";
import { ownStreams } from "./streams.js";
import { Attached, findUser, Launched, type Target, type User } from "./target.js";
import { treeParts } from "./tree.js";

/** config.json with what the command line says instead. */
export function configure(invocation: Invocation, modules: readonly Module[]): Config {
  const config = readConfig(invocation.config, modules);
  return {
    ...config,
    interval: invocation.interval ?? config.interval,
    outputDir: invocation.outputDir ?? config.outputDir,
  };
}

/** Refuses what was asked for and is not to be had here. */
export function checkHost(config: Config): void {
  if (!host.privileged()) throw errors.privileges();
  if (!host.btf()) throw errors.noBtf();
  for (const [module, request] of config.requests) {
    const missing = host.missing(module.needs(request.options));
    if (missing) throw errors.unavailable(module.name, missing.reason);
  }
}

function sudoUser(): User | undefined {
  const name = process.env["SUDO_USER"];
  return name === undefined ? undefined : findUser(name);
}

/** The environment run.sh wrote down before sudo cleared it. Only the invoking user's own file is read. */
function takeEnvironment(file: string): NodeJS.ProcessEnv {
  const fd = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW);
  try {
    const { uid } = fs.fstatSync(fd);
    if (uid !== Number(process.env["SUDO_UID"])) {
      throw errors.option(`--user-environment is not a file of the invoking user.`);
    }
    const pairs = fs.readFileSync(fd, "utf8").split("\0").filter(Boolean);
    return Object.fromEntries(
      pairs.map((pair) => {
        const at = pair.indexOf("=");
        return [pair.slice(0, at), pair.slice(at + 1)];
      }),
    );
  } finally {
    fs.closeSync(fd);
    fs.rmSync(file, { force: true });
  }
}

export interface Aim {
  readonly target: Target | undefined;
  readonly env: NodeJS.ProcessEnv;
}

/** Launches the target up to its pause, or finds the running one. */
export async function aim(invocation: Invocation): Promise<Aim> {
  const { userEnvironment, user } = invocation;
  const env = userEnvironment === undefined ? process.env : takeEnvironment(userEnvironment);
  if (invocation.mode === "host") return { target: undefined, env };
  if (invocation.pid !== undefined) return { target: new Attached(invocation.pid), env };
  const identity =
    user !== undefined ? findUser(user) : userEnvironment !== undefined ? sudoUser() : undefined;
  const { command, inherited } = invocation;
  return { target: await Launched.start(command, env, identity, inherited), env };
}

/** Numbers of the streams, by module. */
export function numberStreams(modules: readonly Module[]): Map<Module, number> {
  const streaming = modules.filter((module) => module.bpf(undefined).stream !== undefined);
  return new Map(streaming.map((module, index) => [module, ownStreams.first + index]));
}

/** Who asked for the program that the verifier refused. */
function refusal(error: unknown, config: Config): RunError {
  if (!(error instanceof BpfError)) return errors.load(describe(error), "");
  if (error instanceof VerifierError && !treeParts.programs.includes(error.program)) {
    for (const [module, { options }] of config.requests) {
      const { programs } = module.bpf(options);
      if (programs.includes(error.program)) return errors.unavailable(module.name, error.message);
    }
  }
  return errors.load(error.message, error.hint);
}

/** Loads the tree and what is switched on; what config.json switches on later is loaded then. */
export function loadObject(
  invocation: Invocation,
  config: Config,
  numbers: ReadonlyMap<Module, number>,
): Bpf {
  const constants: Record<string, number> = {
    host_mode: invocation.mode === "host" ? 1 : 0,
    follow_children: config.traceMultiprocess ? 1 : 0,
    event_wake_bytes: wakeBytes(ringBytes(config.ringKib)),
  };
  for (const [module, number] of numbers) {
    const variable = module.bpf(undefined).stream?.number; // whatever the options are now
    if (variable !== undefined) constants[variable] = number;
  }
  const wanted = [...config.requests].map(([module, { options }]) => module.bpf(options));
  try {
    const sizes = { event_rings: kernel.possibleCpus() };
    return new Bpf(new BpfSteps([treeParts, ...wanted], { constants, sizes }));
  } catch (error) {
    throw refusal(error, config);
  }
}
