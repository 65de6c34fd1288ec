/**
 * Prints config.schema.json, put together from the modules' fragments: npm run schema.
 */
import { schemaOf } from "./core/config.js";
import { loadModules } from "./core/registry.js";

process.stdout.write(`${JSON.stringify(schemaOf(await loadModules()), undefined, 2)}\n`);
