// SPDX-License-Identifier: MIT
// Writers that are left open: by a process that ends, by a worker that ends.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { Worker } from "node:worker_threads";
import { readRows } from "./stream-support.js";

const support = JSON.stringify(new URL("stream-support.js", import.meta.url).href);

/** A program with a writer; 100 records and a line are on their way to a.csv in the folder. */
function program(folder: string, body: string): string {
  return `
    import { parentPort } from "node:worker_threads";
    import { Streaming } from ${support};
    const streaming = new Streaming({ folder: ${JSON.stringify(folder)} });
    const { writer, file } = streaming.writing("a.csv");
    const tap = writer.tap(2, streaming.object.btf, "struct sample", { onEvents() {} });
    streaming.emit(1, 100);
    file.append("0,1,appended,,\\n", 1);
    ${body}
  `;
}

function temporary(context: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "libbpf-ts-"));
  context.after(() => {
    rmSync(folder, { recursive: true });
  });
  return folder;
}

/** The exit code of the program in a process of its own. */
async function run(folder: string, body: string): Promise<unknown> {
  const child = spawn(process.execPath, ["--input-type=module", "--eval", program(folder, body)], {
    stdio: ["ignore", "inherit", "inherit"],
    timeout: 20000,
  });
  const [code] = (await once(child, "exit")) as unknown[];
  return code;
}

function work(folder: string, body: string): Worker {
  const source = encodeURIComponent(program(folder, body));
  return new Worker(new URL(`data:text/javascript,${source}`));
}

test("a writer, its files, rings and taps keep no process alive", async (context) => {
  const folder = temporary(context);
  const begun = performance.now();
  assert.equal(await run(folder, ""), 0);
  assert.ok(performance.now() - begun < 10000);
  assert.equal(readRows(join(folder, "a.csv")).length, 101);
});

test("a sync that is waited for does, and no longer than it takes", async (context) => {
  const body = `
    await Promise.all([writer.sync(), writer.sync(true), writer.sync()]);
    if (streaming.rows("a.csv").length !== 101) process.exit(1);
    await writer.sync();
    process.exitCode = 9;
  `;
  assert.equal(await run(temporary(context), body), 9);
});

test("process.exit() waits for nothing, but leaves whole lines", async (context) => {
  const folder = temporary(context);
  assert.equal(await run(folder, "void writer.sync(true); process.exit(7);"), 7);
  assert.ok(readRows(join(folder, "a.csv")).length <= 101);
  const busy = `
    setInterval(() => { streaming.emit(1, 1000); void writer.sync(); }, 1);
    setTimeout(() => process.exit(8), 100);
  `;
  assert.equal(await run(temporary(context), busy), 8);
});

test("a worker that ends with its writer open leaves everything in the file", async (context) => {
  for (const [code, body] of [
    [0, ""],
    [5, "void writer.sync(true); process.exit(5);"],
  ] as const) {
    const folder = temporary(context);
    assert.deepEqual(await once(work(folder, body), "exit"), [code]);
    assert.equal(readRows(join(folder, "a.csv")).length, 101);
  }
});

test("workers torn down in the middle of it", async (context) => {
  const body = `
    setInterval(() => {
      streaming.emit(1, 1000);
      streaming.open(writer, Math.random() + ".csv").close();
      writer.tap(2, streaming.object.btf, "struct sample", { onEvents() {} }).close();
      void writer.sync();
      parentPort.postMessage("done");
    }, 1);
  `;
  for (let round = 0; round < 8; round++) {
    const worker = work(temporary(context), body);
    await once(worker, "message");
    await worker.terminate();
  }
});
