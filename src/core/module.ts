/**
 * Owns: what a module imports, all of it and from here only: the contract, the host's answers, the help
 * that modules share.
 * Owns not: the contract itself (contract.ts). Nothing in core imports this file.
 */
import type { Module } from "./contract.js";

export * from "./contract.js";
export { monotonicNs } from "./clock.js";
export { RunError } from "./errors.js";
export { host } from "./host.js";
export { nearest } from "./nearest.js";
export { attachAll, Counters, Totals } from "./sampling.js";

/** Schema of an output file's name: in the output folder, no way out of it, and nothing hidden. */
export const fileName = {
  type: "string",
  pattern: "^[^./\\u0000][^/\\u0000]*$",
  maxLength: 200,
} as const;

/** Keeps the options' type for the author and hides it from core, which only hands them back. */
export function defineModule<Options>(module: Module<Options>): Module {
  return module;
}

/** The config keys of a module that is either on or off, and reading them: to be spread into it. */
export function onOff(name: string): Pick<Module<null>, "config" | "fileKey" | "request"> {
  const [key, fileKey, standard] = [`snoop_${name}`, `${name}_output_file`, `${name}.csv`];
  return {
    config: {
      [key]: { enum: ["bpf", "bcc", null, "None"], default: null },
      [fileKey]: { ...fileName, default: standard },
    },
    fileKey,
    request(config) {
      if ((config[key] ?? "None") === "None") return undefined;
      return { options: null, file: (config[fileKey] as string | undefined) ?? standard };
    },
  };
}
