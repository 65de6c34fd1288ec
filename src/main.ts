/**
 * treesnoop: parse → session → exit code. Everything else is in core, which is only loaded here, so that
 * even a build that cannot be loaded ends in one sentence.
 */
async function main(argv: readonly string[]): Promise<number> {
  const { parseArguments } = await import("./core/cli.js");
  const { RunError } = await import("./core/errors.js");
  const { Log } = await import("./core/log.js");
  let log = new Log(process.stderr, false);
  try {
    const invocation = parseArguments(argv);
    if (!invocation) return 0;
    log = new Log(process.stderr, invocation.quiet);
    const { loadModules } = await import("./core/registry.js");
    const modules = await loadModules();
    if (invocation.mode === "modules") {
      const { modulesReport } = await import("./core/modules-report.js");
      process.stdout.write(modulesReport(modules));
      return 0;
    }
    const { runSession } = await import("./core/session.js");
    return await runSession(invocation, modules, log, async (settings) => {
      const { openServer } = await import("./http/server.js"); // only when something is to listen
      return openServer(settings, (sentence) => {
        log.error(sentence);
      });
    });
  } catch (error) {
    if (!(error instanceof RunError)) throw error;
    log.error(error.message, error.hint);
    return error.exitCode;
  }
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const sentence = error instanceof Error ? error.message.split("\n")[0] : String(error);
  process.stderr.write(`treesnoop: unexpected failure: ${sentence ?? ""}\n`);
  process.stderr.write("  If the build is not complete, run tools/setup.sh; else please report it.\n");
  process.exitCode = 3;
}
