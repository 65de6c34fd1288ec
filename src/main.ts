/**
 * treesnoop: parse → session → exit code. Everything else is in core.
 */
import { parseArguments } from "./core/cli.js";
import { describe, RunError } from "./core/errors.js";
import { Log } from "./core/log.js";
import { modulesReport } from "./core/modules-report.js";
import { loadModules } from "./core/registry.js";
import { runSession } from "./core/session.js";

async function main(argv: readonly string[]): Promise<number> {
  let log = new Log(process.stderr, false);
  try {
    const invocation = parseArguments(argv);
    if (!invocation) return 0;
    log = new Log(process.stderr, invocation.quiet);
    const modules = await loadModules();
    if (invocation.mode === "modules") {
      process.stdout.write(modulesReport(modules));
      return 0;
    }
    return await runSession(invocation, modules, log);
  } catch (error) {
    if (error instanceof RunError) {
      log.error(error.message, error.hint);
      return error.exitCode;
    }
    log.error(`unexpected failure: ${describe(error)}`, process.env["TREESNOOP_DEBUG"] ? String((error as Error).stack) : "");
    return 3;
  }
}

process.exitCode = await main(process.argv.slice(2));
