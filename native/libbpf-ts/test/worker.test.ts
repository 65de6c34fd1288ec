// SPDX-License-Identifier: MIT
// Several environments in one process: each with its own objects, errors and log.
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { BpfObject, RingBuffer, onLog } from "libbpf-ts";
import { load, u32, until } from "./support.js";

const support = JSON.stringify(new URL("support.js", import.meta.url).href);
const library = JSON.stringify(import.meta.resolve("libbpf-ts"));

function start(body: string): Worker {
  const source = `
    import { parentPort } from "node:worker_threads";
    const { BpfObject, RingBuffer, VerifierError, onLog } = await import(${library});
    const { load, u32, REFUSED } = await import(${support});
    ${body}
  `;
  return new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`));
}

/** Its first message and its exit code; listens to both at once, for they may come together. */
async function outcome(worker: Worker): Promise<{ message: unknown; code: unknown }> {
  const [[message], [code]] = (await Promise.all([
    once(worker, "message"),
    once(worker, "exit"),
  ])) as [unknown[], unknown[]];
  return { message, code };
}

test("four workers load, read and end while the main thread works", async () => {
  const body = `
    for (let round = 0; round < 5; round++) {
      const loaded = load("emit");
      const reader = new RingBuffer([loaded.map("ring")]);
      loaded.program("emit").testRun({ context: u32(100, 0) });
      let count = reader.consume(() => {});
      if (count !== 75) throw new Error("records: " + count);
      try {
        BpfObject.open(REFUSED).load();
        throw new Error("accepted");
      } catch (error) {
        if (!(error instanceof VerifierError) || error.program !== "careless") throw error;
      }
      loaded.close();
    }
    parentPort.postMessage("done");
  `;
  const workers = Array.from({ length: 4 }, () => start(body));
  const ends = workers.map(async (worker) => {
    assert.deepEqual(await outcome(worker), { message: "done", code: 0 });
  });
  for (let round = 0; round < 5; round++) load("add_up").close();
  await Promise.all(ends);
});

test("a worker torn down with everything open", async () => {
  const body = `
    const loaded = load("emit", "fork_seen");
    loaded.program("fork_seen").attach();
    const reader = new RingBuffer([loaded.map("ring")], { onReadable() {
      reader.consume(() => {});
      parentPort.postMessage("read");
    } });
    setInterval(() => loaded.program("emit").testRun({ context: u32(100, 0) }), 1);
  `;
  for (let round = 0; round < 5; round++) {
    const worker = start(body);
    await once(worker, "message");
    await worker.terminate();
  }
});

test("the log goes to the thread that caused it", async () => {
  const lines: string[] = [];
  onLog("debug", (line) => lines.push(line));
  const worker = start(`
    let heard = 0;
    onLog("debug", () => heard++);
    load("emit").close();
    parentPort.postMessage(heard);
  `);
  const { message } = await outcome(worker);
  assert.ok(Number(message) > 0);
  assert.deepEqual(lines, []);
  load().close();
  assert.ok(lines.length > 0);
  onLog("debug", undefined);
});

test("a ring is read here while another thread fills it through its own object", async () => {
  const loaded = load("emit");
  let calls = 0;
  let records = 0;
  using reader = new RingBuffer([loaded.map("ring")], {
    onReadable: () => {
      calls++;
      records += reader.consume(() => undefined);
    },
  });
  for (let round = 0; round < 50; round++) {
    assert.equal(loaded.program("emit").testRun({ context: u32(40, 0) }), 0);
    if (round % 10 === 0) await sleep(1);
  }
  await until(() => records === 50 * 30);
  assert.ok(calls > 0);
  loaded.close();
});

test("objects that are dropped without closing do no harm", async () => {
  for (let round = 0; round < 20; round++) {
    BpfObject.open(new URL("main.bpf.o", import.meta.url).pathname);
    load().map("counts");
  }
  globalThis.gc?.();
  await sleep(10);
  globalThis.gc?.();
});
