/**
 * Owns: which modules there are: every file (or folder with an index) of the modules folder. Adding one
 * touches nothing here.
 */
import * as fs from "node:fs";
import type { Module } from "./contract.js";

const folder = new URL("../modules/", import.meta.url);

export async function loadModules(): Promise<readonly Module[]> {
  const stems = fs
    .readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() || entry.name.endsWith(".js"))
    .map((entry) => (entry.isDirectory() ? `${entry.name}/index.js` : entry.name))
    .sort();
  const imported = await Promise.all(
    stems.map(async (stem) => (await import(new URL(stem, folder).href)) as { default: Module }),
  );
  return imported.map((file) => file.default);
}
