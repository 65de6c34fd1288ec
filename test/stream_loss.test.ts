// What the rings cannot hold. Owns: that each missing event is told, at its place, to the process it is of, while the
// monitor is held up. Does not own: what a file or a pipe cannot take (stream_files.test.ts, stream_fifo.test.ts).
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { checkAll, floodConfig, readFlood } from "./support/flood.js";
import { workload } from "./support/paths.js";
import { refused, Run } from "./support/run.js";
import { delay, stop, until } from "./support/wait.js";

test("the least rings, a monitor that is held up: rows and LOST rows make up what happened", async (t) => {
  const run = new Run(t, {
    config: { ...floodConfig, ring_buffer_kib: 64 },
    input: "open",
    command: [workload("stream_crowd"), "160000", "100000", "2000"],
  });
  await run.says(/ready\n/);
  await stop(run.pid);
  run.write("go\n");
  await run.says(/half\n/);
  run.write("go\n");
  // From here on it goes on and off, for losses in many places.
  await until("the flood to be over", async () => {
    run.child.kill("SIGCONT");
    await delay(15);
    run.child.kill("SIGSTOP");
    return run.stdout.includes("flooder");
  });
  run.child.kill("SIGCONT");
  const { code, stdout } = await run.finished;
  assert.equal(code, 7);
  const flood = readFlood(stdout, run.path("syscall.csv"));
  checkAll(run.record().modules.syscall, flood);
  const [first, second, third] = flood.processes;
  assert.ok(first !== undefined && second !== undefined && third !== undefined);
  assert.equal(flood.name, "stream_crowd");
  for (const process of [first, second])
    assert.ok(process.events > 0 && process.lostRows > 0, `process ${process.pid}: both rows and losses`);
  // Its whole life fell into a time when the rings were full: all that is left of it is how much is missing.
  assert.deepEqual({ events: third.events, lost: third.lost }, { events: 0, lost: third.happened });
});

describe("ring_buffer_kib", () => {
  for (const size of [0, -64, 64.5, "64"])
    test(`${JSON.stringify(size)} is refused`, async (t) => {
      const run = new Run(t, { config: { ...floodConfig, ring_buffer_kib: size }, command: ["true"] });
      refused(await run.finished, 2, "ring_buffer_kib", String(size));
    });

  for (const size of [null, 100])
    test(`${JSON.stringify(size)} is accepted`, async (t) => {
      const run = new Run(t, {
        config: { ...floodConfig, ring_buffer_kib: size },
        command: [workload("stream_flood"), "100"],
      });
      const { stdout } = await run.quietly(7);
      checkAll(run.record().modules.syscall, readFlood(stdout, run.path("syscall.csv")));
      assert.equal(run.record().modules.syscall?.events_lost, 0);
    });
});
