// Prints: the most memory the monitor ever had resident, by the kernel's own account (VmHWM), against an idle node.
import { readFileSync } from "node:fs";
import { allModules, heading, line, pause, program, Running, times, watched } from "./support/measure.js";

function peakMb(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  // A process that has ended and is not yet reaped has no such line.
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) / 1024;
}

async function peakOf(config: object, command: readonly string[]): Promise<{ seen: number; told: number }> {
  let seen = 0;
  const { record } = await watched(config, command, program, async (running) => {
    while (running.child.exitCode === null && running.child.signalCode === null) {
      try {
        seen = Math.max(seen, peakMb(running.pid));
      } catch {
        return; // gone between the check and the look
      }
      await pause(5);
    }
  });
  return { seen, told: record.monitor.peak_rss_kb / 1024 };
}

const node = new Running([process.execPath, "-e", "setTimeout(() => {}, 1000)"]);
await pause(600);
const idle = peakMb(node.pid);
await node.finish();

heading("peak resident memory of the monitor, all five modules");
line("an idle node", idle, "MB");
for (const [what, command] of [
  ["watching a sleeper", ["sleep", "2"]],
  ["watching 2000 processes come and go", ["sh", "-c", "i=0; while [ $i -lt 2000 ]; do /bin/true; i=$((i+1)); done"]],
  ["watching 400 000 system calls", ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", "count=200000", "status=none"]],
  ["watching 1000 processes at once", ["sh", "-c", "i=0; while [ $i -lt 1000 ]; do sleep 3 & i=$((i+1)); done; wait"]],
] as const) {
  const { seen, told } = await peakOf(allModules, command);
  line(what, seen, "MB", `${times(seen, idle)} an idle node; run.json says ${told.toFixed(1)} MB`);
}
