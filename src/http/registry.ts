/**
 * Owns: which routes there are: every file of the routes folder. Adding one touches nothing here.
 */
import * as fs from "node:fs";
import type { Route } from "./contract.js";

const folder = new URL("./routes/", import.meta.url);

export async function loadRoutes(): Promise<readonly Route[]> {
  const names = fs.readdirSync(folder).filter((name) => name.endsWith(".js"));
  const imported = await Promise.all(
    names.map(async (name) => (await import(new URL(name, folder).href)) as { default: Route }),
  );
  return imported.map((file) => file.default).sort((a, b) => (a.url < b.url ? -1 : 1));
}
