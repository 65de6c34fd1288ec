/**
 * Owns: the command line, turned into one plain object.
 */
import * as fs from "node:fs";
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { errors } from "./errors.js";

export type Mode = "launch" | "attach" | "host" | "modules";

export interface Invocation {
  readonly mode: Mode;
  readonly command: readonly string[];
  readonly pid: number | undefined;
  readonly config: string;
  readonly interval: number | undefined;
  readonly duration: number | undefined;
  readonly outputDir: string | undefined;
  readonly user: string | undefined;
  readonly quiet: boolean;
  readonly overwrite: boolean;
  /** File that holds the environment of the user run.sh took through sudo. */
  readonly userEnvironment: string | undefined;
  /** "soft limit of open files,ignored signals" of the user's shell, as run.sh found them. */
  readonly inherited: string | undefined;
}

export const version = (
  JSON.parse(fs.readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
    version: string;
  }
).version;

export const defaultConfig = new URL("../../config.json", import.meta.url).pathname;

function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0) || !Number.isFinite(value)) {
    throw new InvalidArgumentError("It must be a number of seconds above 0.");
  }
  return value;
}

function processId(text: string): number {
  if (!/^[1-9]\d{0,9}$/.test(text)) throw new InvalidArgumentError("It must be a process id.");
  return Number(text);
}

const synopsis = `[options] [--] <cmd> [args...]    launch cmd, watch its tree until cmd exits
       run.sh [options] -p PID                  watch a running process and its tree until it exits
       run.sh [options] --host                  watch every process until Ctrl-C or --duration
       run.sh modules                           every module: what it needs, whether this host has it`;

interface Options {
  config: string;
  interval?: number;
  duration?: number;
  outputDir?: string;
  user?: string;
  pid?: number;
  host?: boolean;
  quiet?: boolean;
  overwrite?: boolean;
  userEnvironment?: string;
  inherited?: string;
}

/** Undefined when --help or --version has been answered. */
export function parseArguments(argv: readonly string[]): Invocation | undefined {
  const program = new Command("run.sh")
    .usage(synopsis)
    .argument("[cmd...]")
    .passThroughOptions()
    .option("-c, --config <file>", "configuration", defaultConfig)
    .option("-i, --interval <sec>", "tick length, instead of the configuration's", positive)
    .option("-d, --duration <sec>", "stop watching after this long", positive)
    .option("-o, --output-dir <dir>", "folder of the output files")
    .option("-u, --user <user>", "run cmd as this user")
    .option("-p, --pid <pid>", "watch a running process", processId)
    .option("--host", "watch every process")
    .option("-q, --quiet", "only errors")
    .option("--overwrite", "replace existing output files instead of renaming them")
    .addOption(new Option("--user-environment <file>").hideHelp())
    .addOption(new Option("--inherited <limit,signals>").hideHelp())
    .version(version)
    .configureOutput({ writeErr: () => undefined })
    .exitOverride();
  try {
    program.parse([...argv], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return undefined;
    throw errors.option(error.message.replace(/^error: /, "").replace(/\.?$/, "."));
  }
  const options = program.opts<Options>();
  const command = program.args;
  const explicit = argv.includes("--");
  const asked = [
    ...(options.pid !== undefined ? ["-p"] : []),
    ...(options.host === true ? ["--host"] : []),
    ...(command.length > 0 ? ["a command"] : []),
  ];
  if (asked.length > 1) throw errors.option(`${asked.join(" and ")} exclude each other.`);
  if (asked.length === 0) {
    throw errors.option("there is nothing to watch: neither a command, -p PID nor --host.");
  }
  const modules = command.length === 1 && command[0] === "modules" && !explicit;
  return {
    mode: modules ? "modules" : options.host ? "host" : options.pid !== undefined ? "attach" : "launch",
    command,
    pid: options.pid,
    config: options.config,
    interval: options.interval,
    duration: options.duration,
    outputDir: options.outputDir,
    user: options.user,
    quiet: options.quiet ?? false,
    overwrite: options.overwrite ?? false,
    userEnvironment: options.userEnvironment,
    inherited: options.inherited,
  };
}
