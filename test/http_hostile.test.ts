// Clients that mean no good. Owns: that each gets a clear status or a closed connection, that the server then answers
// others as before, and that nothing is missing in the tables of the run meanwhile, by the workload's own count.
// Does not own: who is let in (http_guards.test.ts).
// Runs beside others.
import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, test, type TestContext } from "node:test";
import { WebSocket } from "ws";
import { checkAll, floodConfig, readFlood } from "./support/flood.js";
import { clientOf, residentMiB, type Client } from "./support/http.js";
import { workload } from "./support/paths.js";
import { Run } from "./support/run.js";
import { delay, until } from "./support/wait.js";

/** A MiB, and what the server may grow by whatever is done to it. */
const bearableMiB = 100;

/** While the workload makes its calls the attack goes on; afterwards all is as if nobody had come. */
async function besieged(t: TestContext, attack: (client: Client, run: Run) => Promise<void>): Promise<void> {
  const run = new Run(t, {
    config: { ...floodConfig, snoop_cpu: "bpf", http: { port: 0 } },
    input: "open",
    command: [workload("stream_flood"), "5000", "60000", "5000"],
    deadline: 120,
  });
  const client = await clientOf(run);
  await run.says(/ready\n/);
  const before = residentMiB(run.pid);
  run.write("\n");
  await attack(client, run);
  await run.says(/ready\nready\n/);
  await until("an answer", async () => (await client.ask("/api/tables").catch(() => undefined))?.status === 200);
  const grown = residentMiB(run.pid) - before;
  run.write("\n");
  const { stdout } = await run.quietly(7);
  const flood = readFlood(stdout.replace(/ready\n/g, ""), run.path("syscall.csv"));
  checkAll(run.record().modules.syscall, flood);
  assert.equal(flood.events, 2 * 70_000);
  assert.equal(flood.lost, 0);
  assert.ok(grown < bearableMiB, `grew by ${grown} MiB`);
  const { modules } = run.record();
  assert.deepEqual(Object.values(modules).map(({ state }) => state), ["stopped", "stopped"]);
}

/** Sends the head and then bytes until it is stopped; gives how many went out and the status that came. */
async function pour(client: Client, head: readonly string[], chunked: boolean): Promise<{ sent: number; status: number }> {
  const socket = client.connect();
  let heard = "";
  let sent = 0;
  socket.setEncoding("latin1").on("data", (part: string) => (heard += part));
  const closed = new Promise((resolve) => socket.once("close", resolve));
  socket.write([...head, `Host: 127.0.0.1:${client.port}`, "", ""].join("\r\n"));
  const size = 1 << 16;
  const piece = chunked ? `${size.toString(16)}\r\n${" ".repeat(size)}\r\n` : " ".repeat(size);
  while (sent < 100e6 && !socket.destroyed && !socket.writableEnded) {
    sent += size;
    if (!socket.write(piece)) await Promise.race([once(socket, "drain").catch(() => undefined), closed]);
  }
  socket.end();
  await closed;
  return { sent, status: Number(/^HTTP\/1\.1 (\d+)/.exec(heard)?.[1]) };
}

describe("a hostile client changes nothing", () => {
  test("bodies of 100 MB, announced and not, where one is expected and where none is", async (t) => {
    await besieged(t, async (client) => {
      const length = "Content-Length: 100000000";
      const json = "Content-Type: application/json";
      for (const [chunked, expected, ...head] of [
        [false, 413, "POST /api/tables/cpu HTTP/1.1", json, length],
        [false, 413, "POST /nothing HTTP/1.1", json, length],
        [false, 413, "GET /api/run HTTP/1.1", length],
        [true, 413, "POST /api/tables/cpu HTTP/1.1", json, "Transfer-Encoding: chunked"],
        [true, 200, "GET /api/run HTTP/1.1", "Transfer-Encoding: chunked"],
        [true, 413, "POST /nothing HTTP/1.1", json, "Transfer-Encoding: chunked"],
      ] as const) {
        const { sent, status } = await pour(client, head, chunked);
        // A reset may come before the answer was read.
        if (!Number.isNaN(status)) assert.equal(status, expected, head.join());
        assert.ok(sent < 50e6, `${head.join()}: ${sent} bytes were taken`);
      }
      const small = { method: "POST", headers: { "content-type": "application/json" }, body: `"${"x".repeat(16 << 10)}"` };
      assert.equal((await client.ask("/api/tables/cpu", small)).status, 413);
    });
  });

  test("what is no JSON, no HTTP, or no path", async (t) => {
    await besieged(t, async (client) => {
      const json = { "content-type": "application/json" };
      for (const [body, status, word, headers = json] of [
        ["{", 400, "JSON"],
        ["", 400, "empty"],
        ['{"format":"csv"', 400, "JSON"],
        ['{"format":7}', 400, "/body/format"],
        ['{"stream":"yes"}', 400, "/body/stream"],
        ['{"__proto__":{"format":"csv"}}', 400, ""],
        ['{"constructor":{"prototype":{"x":1}}}', 400, ""],
        ["[]", 400, "object"],
        ["null", 400, "object"],
        [`${"[".repeat(8000)}${"]".repeat(8000)}`, 400, ""],
        ["{}", 415, "", { "content-type": "text/plain" }],
        ["format=csv", 415, "", { "content-type": "application/x-www-form-urlencoded" }],
      ] as const) {
        const reply = await client.ask("/api/tables/cpu", { method: "POST", headers, body });
        assert.equal(reply.status, status, `${body.slice(0, 40)}: ${reply.text}`);
        assert.ok(reply.text.includes(word), reply.text);
        assert.doesNotMatch(reply.text, /\bat .*\.js/, "no stack trace");
      }
      for (const path of [
        "/../../../../etc/passwd",
        "/api/tables/../../../../etc/passwd",
        "/api/tables/..%2f..%2f..%2fetc%2fpasswd",
        "/api/tables/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/api/tables/..%5c..%5cetc",
        "/api/tables/%00",
        "/api/tables/%ff",
        "/api/tables/%",
        "/api/tables/__proto__",
        "/api/tables/constructor",
        `/api/tables/${"a".repeat(5000)}`,
        "//etc/passwd",
        "http://attacker.example/api/run",
        "/api/tables/cpu?format=csv&format=../../etc/passwd",
        "/api/tables/cpu?__proto__[format]=csv",
        `/api/tables/cpu?${"a=b&".repeat(3000)}`,
      ]) {
        const { status, text } = await client.ask(path);
        assert.ok(status >= 400 && status < 500, `${path.slice(0, 60)}: ${status}`);
        assert.ok(!text.includes("root:"), path);
      }
      for (const bytes of [
        "\0\0\0\0\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        `GET / HTTP/1.1\r\nX: ${"x".repeat(1 << 17)}\r\n\r\n`,
        "POST /api/tables/cpu HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /api/tables/cpu HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
      ]) {
        const heard = await client.raw(bytes);
        assert.match(heard, /^(HTTP\/1\.1 4\d\d |$)/, JSON.stringify(bytes.slice(0, 40)));
      }
    });
  });

  test("2000 connections: some are answered, some told that there are too many, the rest closed", async (t) => {
    await besieged(t, async (client) => {
      const stream = client.connect();
      stream.write(`GET /api/tables/cpu?stream HTTP/1.1\r\nHost: localhost:${client.port}\r\n\r\n`);
      let streamed = 0;
      stream.on("data", (part: Buffer) => (streamed += part.length));
      await until("the first rows", () => streamed > 1000);
      const tally = new Map<string, number>();
      const sockets = Array.from({ length: 2000 }, () => {
        const socket = client.connect();
        let heard = "";
        let told = false;
        const tell = (): void => {
          if (told) return;
          told = true;
          const status = /^HTTP\/1\.1 (\d+)/.exec(heard)?.[1] ?? "closed";
          tally.set(status, (tally.get(status) ?? 0) + 1);
        };
        socket.setEncoding("latin1").on("data", (part: string) => {
          heard += part;
          tell(); // and stays where it is
        });
        socket.once("close", tell);
        socket.write(`GET /api/run HTTP/1.1\r\nHost: localhost:${client.port}\r\n\r\n`);
        return socket;
      });
      await until("all to be told", () => [...tally.values()].reduce((sum, count) => sum + count, 0) === 2000, 60);
      const { 200: answered = 0, 503: refusedBy503 = 0, closed = 0 } = Object.fromEntries(tally) as Record<string, number>;
      assert.equal(answered + refusedBy503 + closed, 2000, JSON.stringify([...tally]));
      // 64 at a time: those that have been answered and ask nothing more are closed after a while, and make room.
      assert.ok(answered > 0 && answered < refusedBy503 && closed > 0, JSON.stringify([...tally]));
      const before = streamed;
      await until("more rows for who was there before", () => streamed > before);
      for (const socket of sockets) socket.destroy();
      stream.destroy();
    });
  });

  test("those that say nothing, or nothing more, are closed", async (t) => {
    await besieged(t, async (client) => {
      const host = `Host: localhost:${client.port}\r\n`;
      const heard = await Promise.all([
        client.raw(""),
        client.raw("GET /api/run HTTP/1.1\r\nX: "),
        client.raw(`POST /api/tables/cpu HTTP/1.1\r\n${host}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{`),
        client.raw(`GET /api/run HTTP/1.1\r\n${host}\r\n`),
      ]);
      assert.match(heard[0], /^(HTTP\/1\.1 408 |$)/);
      assert.match(heard[1], /^HTTP\/1\.1 408 /);
      assert.match(heard[2], /^HTTP\/1\.1 408 /);
      assert.match(heard[3], /^HTTP\/1\.1 200 /);
    });
  });

  test("requests without end whose answers nobody reads", async (t) => {
    await besieged(t, async (client) => {
      const request = `GET /api/tables HTTP/1.1\r\nHost: localhost:${client.port}\r\n\r\n`;
      const sockets = Array.from({ length: 20 }, () => client.connect().pause());
      for (let round = 0; round < 20; round++) {
        for (const socket of sockets) if (socket.writableLength < 1e6) socket.write(request.repeat(500));
        await delay(50);
      }
      for (const socket of sockets) socket.destroy();
    });
  });

  test("WebSockets that speak: too much, anything at all, nonsense, pings without end", async (t) => {
    await besieged(t, async (client) => {
      const url = `ws://localhost:${client.port}/api/tables/cpu`;
      const closedBy = async (act: (socket: WebSocket) => void): Promise<number> => {
        const socket = new WebSocket(url);
        socket.on("error", () => undefined);
        await once(socket, "open");
        const closed = once(socket, "close") as Promise<[number]>;
        act(socket);
        return (await closed)[0];
      };
      const raw = (socket: WebSocket): { write(bytes: Buffer): void; pause(): void } =>
        (socket as unknown as { _socket: { write(bytes: Buffer): void; pause(): void } })._socket;
      assert.equal(await closedBy((socket) => { socket.send("hello"); }), 1008);
      assert.ok([1006, 1009].includes(await closedBy((socket) => { socket.send("x".repeat(1 << 20)); })));
      assert.ok([1002, 1006].includes(await closedBy((socket) => { raw(socket).write(Buffer.from("no frame at all")); })));
      const pinging = new WebSocket(url);
      pinging.on("error", () => undefined);
      await once(pinging, "open");
      raw(pinging).pause();
      for (let round = 0; round < 100; round++) {
        for (let count = 0; count < 2000; count++) pinging.ping(Buffer.alloc(100));
        await delay(5);
      }
      pinging.terminate();
    });
  });
});
