// Editing the configuration of a run that goes on. Owns: writing it as editors do, and waiting for an effect. Does not own:
// what the effect is.
import { renameSync, writeFileSync } from "node:fs";
import type { Run } from "./run.js";
import { until } from "./wait.js";

/** As an editor that writes in place does. */
export function edit(run: Run, config: object | string): void {
  writeFileSync(
    run.path("config.json"),
    typeof config === "string" ? config : JSON.stringify(config, undefined, 2),
  );
}

/** As an editor that writes a new file and moves it over the old one does. */
export function replace(run: Run, config: object): void {
  writeFileSync(run.path("config.json~"), JSON.stringify(config));
  renameSync(run.path("config.json~"), run.path("config.json"));
}

/** Waits until a table has rows later than now. */
export async function goesOn(run: Run, name: string): Promise<void> {
  const now = Date.now() / 1000;
  await until(`new rows in ${name}`, () =>
    run
      .growing(name)
      ?.ticks()
      .some((tick) => tick > now),
  );
}

/** Waits until run.json says that the module is on, or off. */
export async function switched(run: Run, module: string, on: boolean): Promise<void> {
  await until(`${module} to be ${on ? "on" : "off"}`, () => (run.record().modules[module]?.state === "running") === on);
}
