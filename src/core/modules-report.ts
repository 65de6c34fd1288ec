/**
 * Owns: `treesnoop modules`: every module, what it needs, whether this host has it and why not.
 */
import { host } from "./host.js";
import type { Module } from "./contract.js";

const mark = { true: "yes", false: "no", unknown: "unknown" } as const;

export function modulesReport(modules: readonly Module[]): string {
  const lines: string[] = [];
  if (!host.privileged()) lines.push("Asked without root: what must be probed is shown as unknown.", "");
  for (const module of modules) {
    const needs = module.needs(undefined);
    const verdict = host.missing(needs) ? "not available" : "available";
    lines.push(`${module.name}: ${module.summary} (${verdict})`);
    for (const need of needs) {
      const answer = mark[String(need.supported) as keyof typeof mark];
      lines.push(`  ${answer.padEnd(8)}${need.feature.padEnd(28)}${need.reason}`);
    }
  }
  return `${lines.join("\n")}\n`;
}
