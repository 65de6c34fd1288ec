/**
 * Owns: the status line and the closing summary, for a person at a terminal.
 */
import { printable } from "./log.js";
import type { ModuleRecord } from "./run-record.js";

export function statusLine(seconds: number, alive: number, modules: readonly ModuleRecord[]): string {
  const rows = modules.reduce((sum, module) => sum + module.rows, 0);
  const lost = modules.reduce((sum, module) => sum + module.events_lost, 0);
  return [
    `${seconds.toFixed(1)} s`,
    `${String(alive)} ${alive === 1 ? "process" : "processes"}`,
    `${String(rows)} rows`,
    `${String(lost)} lost`,
  ].join("  ");
}

export function summary(folder: string, modules: ReadonlyMap<string, ModuleRecord>): string[] {
  const width = Math.max(8, ...[...modules.values()].map((module) => module.file.length));
  const lines = [...modules].map(([name, module]) => {
    const lost = module.events_lost > 0 ? `, ${String(module.events_lost)} lost` : "";
    const state = module.state === "failed" ? `, failed: ${module.reason ?? ""}` : "";
    return `  ${printable(module.file).padEnd(width)}  ${String(module.rows)} rows${lost}${state}  (${name})`;
  });
  return [`treesnoop: in ${printable(folder)}`, ...lines, `  ${"run.json".padEnd(width)}`];
}
