// Many rows to many clients. Owns: that who does not read is dropped and nobody else notices, and that what the server needs does not
// grow. Does not own: which rows come (http.test.ts), five minutes of it (bench/http.ts).
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { WebSocket } from "ws";
import { clientOf, residentMiB } from "./support/http.js";
import { workload } from "./support/paths.js";
import { Run } from "./support/run.js";
import { until } from "./support/wait.js";

test("a client that does not read its stream is dropped, others get theirs, and the run tells of it", async (t) => {
  const crowd = "i=0; while [ $i -lt 300 ]; do sleep 1000 & p=\"$p $!\"; i=$((i+1)); done; echo ready; read x; kill $p; exit 0";
  const run = new Run(t, {
    config: { snoop_cpu: "bpf", http: { port: 0 }, interval: 0.05 },
    input: "open",
    command: ["sh", "-c", crowd],
    deadline: 120,
  });
  const client = await clientOf(run);
  await run.says(/ready/);
  const request = `GET /api/tables/cpu?stream HTTP/1.1\r\nHost: localhost:${client.port}\r\n\r\n`;
  const reader = client.connect();
  let read = 0;
  reader.on("data", (part: Buffer) => (read += part.length));
  reader.write(request);
  const dropped = (): number | undefined => run.record().http?.clients_dropped;
  const lazy = [client.connect().pause(), client.connect().pause()];
  for (const socket of lazy) socket.write(request);
  const deaf = new WebSocket(`ws://localhost:${client.port}/api/tables/cpu`);
  await once(deaf, "open");
  deaf.pause();
  await until("three to be dropped", () => dropped() === 3, 60);
  const before = read;
  await until("the others' rows", () => read > before + 100_000);
  assert.ok(!reader.destroyed);
  for (const socket of [...lazy, deaf]) socket.resume();
  run.write("\n");
  await run.quietly();
  assert.equal(dropped(), 3);
});

test("eight clients stream: what the server needs stays as it is", async (t) => {
  const run = new Run(t, {
    config: { snoop_syscall: "bpf", syscall_filter: ["getpriority"], snoop_cpu: "bpf", http: { port: 0 }, interval: 0.1 },
    input: "open",
    command: [workload("tree_standing"), "20", "1"],
    deadline: 120,
  });
  const client = await clientOf(run);
  await run.says(/ready/);
  let received = 0;
  const stop = new AbortController();
  const url = (path: string): string => `http://127.0.0.1:${client.port}/api/tables/${path}`;
  const read = async (path: string, accept: string): Promise<void> => {
    const { body } = await fetch(url(path), { headers: { accept }, signal: stop.signal });
    for await (const part of body as unknown as AsyncIterable<Uint8Array>) received += part.length;
  };
  const reading = ["cpu?stream", "syscall?stream", "syscall?stream&format=csv"].flatMap((path) => [
    read(path, "*/*").catch(() => undefined),
    read(path, "text/event-stream").catch(() => undefined),
  ]);
  const sockets = ["cpu", "syscall"].map((module) => new WebSocket(url(module).replace("http", "ws")));
  for (const socket of sockets) socket.on("message", (data: Buffer) => (received += data.length));
  await until("a while", () => received > 1e6);
  const early = residentMiB(run.pid);
  await until("a while more", () => received > 6e6, 60);
  const late = residentMiB(run.pid);
  stop.abort();
  for (const socket of sockets) socket.terminate();
  await Promise.all(reading);
  run.endInput();
  await run.quietly();
  t.diagnostic(`${early.toFixed(1)} MiB, then ${late.toFixed(1)} MiB`);
  assert.ok(late < early + 40, `${early} MiB, then ${late} MiB`);
});
