// The key `http`. Owns: that it is enough for a run, that nothing listens without it, that what cannot be listened on is refused before
// anything is launched. Does not own: what is answered (http.test.ts), edits while it runs (there too).
// Runs beside others.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { createServer } from "node:net";
import { describe, test } from "node:test";
import { clientOf } from "./support/http.js";
import { refused, Run } from "./support/run.js";

const http = { port: 0 };
const config = { snoop_cpu: "bpf", interval: 0.2 };

describe("configuration", () => {
  test("alone it is enough, for the whole machine", async (t) => {
    const run = new Run(t, { config: { http, interval: 0.2 }, options: ["--host"] });
    const client = await clientOf(run);
    assert.deepEqual(await client.json("/api/tables"), []);
    assert.equal(((await client.json("/api/run")) as { mode: string }).mode, "host");
    run.child.kill("SIGINT");
    await run.quietly();
  });

  test("without it nothing listens", async (t) => {
    for (const none of [{}, { http: null }]) {
      const run = new Run(t, { config: { snoop_cpu: "bpf", interval: 0.1, ...none }, command: ["sleep", "0.5"] });
      await run.ticked("cpu.csv", 1);
      const sockets = readFileSync(`/proc/${run.pid}/net/tcp`, "utf8") + readFileSync(`/proc/${run.pid}/net/tcp6`, "utf8");
      const own = new Set(
        readdirSync(`/proc/${run.pid}/fd`).flatMap((fd) => {
          try {
            return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${run.pid}/fd/${fd}`))?.[1] ?? [];
          } catch {
            return [];
          }
        }),
      );
      const listening = sockets.split("\n").map((line) => line.trim().split(/\s+/)).filter((fields) => fields[3] === "0A");
      assert.ok(!listening.some((fields) => own.has(fields[9] ?? "")));
      await run.quietly();
    }
  });

  test("what cannot be listened on is refused, nothing is launched", async (t) => {
    const taken = createServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    t.after(() => taken.close());
    const { port } = taken.address() as { port: number };
    const all = [
      [{ port }, String(port), "something else listens"],
      [{ port: 70000 }, "http.port", "70000"],
      [{ port: -1 }, "http.port"],
      [{ port: 1.5 }, "http.port"],
      [{ port: "5000" }, "http.port", "5000"],
      [{ prot: 5000 }, "prot", "port"],
      [{ port: 0, host: "" }, "http.host"],
      [{ port: 0, host: "no.such.name.invalid" }, "no.such.name.invalid"],
      [{ port: 0, host: "192.0.2.1", token: "0123456789abcdef" }, "192.0.2.1", "does not have"],
      [{ port: 0, host: "0.0.0.0" }, "0.0.0.0", "http.token", "openssl"],
      [{ port: 0, host: "::" }, "::", "http.token"],
      [{ port: 0, token: "tooshort" }, "http.token", "16"],
      [{ port: 0, token: 5 }, "http.token"],
      [5000, "http"],
    ] as const;
    await Promise.all(
      all.map(async ([settings, ...words]) => {
        const run = new Run(t, { config: { ...config, http: settings }, command: ["touch", "launched"] });
        const outcome = await run.finished;
        refused(outcome, 2, ...words);
        assert.ok(!outcome.stderr.includes("tooshort"), "a token is nobody's to read");
        assert.deepEqual(readdirSync(run.directory), ["config.json"]);
      }),
    );
  });
});
