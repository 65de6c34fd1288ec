// Prints: what the monitor has resident while eight clients stream two tables, minute by minute, and what they cost it, against the
// same run with nobody there. Minutes as the argument; 5 by default.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { WebSocket } from "ws";
import { residentMiB } from "../test/support/http.js";
import { cpuMs, heading, line, median, pause, program, type Running, times, watched, workload } from "./support/measure.js";

const minutes = Number(process.argv[2] ?? 5);
const config = { snoop_cpu: "bpf", snoop_syscall: "bpf", syscall_filter: ["getpriority"], interval: 1, http: { port: 0 } };

/** Reads and throws away, like a client that keeps up. */
async function consume(url: string, accept: string): Promise<void> {
  const { body } = await fetch(url, { headers: { accept } });
  let bytes = 0;
  for await (const part of body as unknown as AsyncIterable<Uint8Array>) bytes += part.length;
  if (bytes === 0) throw new Error(`${url}: nothing came`);
}

function streams(folder: string): Promise<void>[] {
  const { http } = JSON.parse(readFileSync(join(folder, "run.json"), "utf8")) as { http: { url: string } };
  const tables = ["cpu", "syscall"].map((module) => `${http.url}api/tables/${module}`);
  return tables.flatMap((url) => [
    consume(`${url}?stream`, "*/*"),
    consume(`${url}?stream&format=csv`, "*/*"),
    consume(url, "text/event-stream"),
    new Promise<void>((resolve) => new WebSocket(url.replace("http", "ws")).on("message", () => undefined).once("close", resolve)),
  ]);
}

/** Resident MiB each second of each minute, and CPU a second. */
async function run(clients: boolean, minutes: number): Promise<{ byMinute: number[]; cpu: number }> {
  const byMinute: number[] = [];
  let cpu = 0;
  const script = `echo ready; exec '${workload("tree_standing")}' 50 1 ${minutes * 60 + 20}`;
  await watched(config, ["sh", "-c", script], program, async (running: Running, folder) => {
    while (!running.stdout.includes("ready")) await pause(50);
    await pause(2000);
    const reading = clients ? streams(folder) : [];
    await pause(8000); // everything has been compiled and filled once
    const before = cpuMs(running.pid);
    const begun = performance.now();
    for (let minute = 0; minute < minutes; minute++) {
      const samples: number[] = [];
      while (performance.now() < begun + (minute + 1) * 60_000) {
        samples.push(residentMiB(running.pid));
        await pause(1000);
      }
      byMinute.push(median(samples));
    }
    cpu = (cpuMs(running.pid) - before) / (minutes * 60);
    await Promise.all(reading);
  });
  return { byMinute, cpu };
}

heading("the HTTP server: 51 processes, cpu and syscall events, eight clients stream both tables");
const alone = await run(false, 1);
line("nobody there: CPU a second", alone.cpu, "ms");
const { byMinute, cpu } = await run(true, minutes);
line("eight clients: CPU a second", cpu, "ms", times(cpu, alone.cpu));
const [first = Number.NaN] = byMinute;
line("nobody there: resident", alone.byMinute.at(-1) ?? Number.NaN, "MiB");
for (const [index, resident] of byMinute.entries())
  line(`eight clients: resident, minute ${index + 1}`, resident, "MiB", `${times(resident, first)} the first`);
