// Prints: how long it takes until the target's first instruction with all five modules, against starting it bare; and what
// run.sh adds when nothing is to be set up.
import { allModules, alternate, bare, heading, line, monitor, program, times, watched } from "./support/measure.js";

// date says when it ran; what it costs to start it is in the bare measurement as well.
const date = ["date", "+%s%N"];

async function untilDate(run: () => Promise<{ stdout: string }>): Promise<number> {
  const start = performance.timeOrigin + performance.now();
  const { stdout } = await run();
  return Number(BigInt(stdout.trim()) / 1000n) / 1000 - start;
}

async function elapsed(command: readonly string[]): Promise<number> {
  return (await bare(command)).ms;
}

const launched = await alternate(7, {
  bare: () => untilDate(() => bare(date)),
  none: () => untilDate(() => watched({ interval: 0.5 }, date, monitor)),
  cpu: () => untilDate(() => watched({ snoop_cpu: "bpf", cpu_output_file: "cpu.csv" }, date, monitor)),
  all: () => untilDate(() => watched(allModules, date, monitor)),
  script: () => untilDate(() => watched(allModules, date, program)),
});
heading("launch to the target's first instruction (median of 7)");
line("bare", launched.bare, "ms");
line("treesnoop, no module", launched.none, "ms");
line("treesnoop, cpu alone", launched.cpu, "ms");
line("treesnoop, all five modules", launched.all, "ms", `${times(launched.all, launched.bare)} bare`);
line("./run.sh, all five modules", launched.script, "ms");

const started = await alternate(9, {
  node: () => elapsed([process.execPath, "-e", "0"]),
  main: () => elapsed([...monitor, "--version"]),
  script: () => elapsed([...program, "--version"]),
});
heading("start-up (median of 9)");
line("node -e 0", started.node, "ms");
line("node dist/main.js --version", started.main, "ms", `${times(started.main, started.node)} node`);
line("./run.sh --version", started.script, "ms", `run.sh adds ${(started.script - started.main).toFixed(1)} ms`);
