// Waiting for something to become true, with an end. Owns: polling. Does not own: any opinion on how long
// things take: a deadline here only keeps a broken run from hanging, it is no assertion about speed.
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";

export { delay };

/**
 * Polls until `probe` gives something other than undefined or false; throws naming `what` after `seconds`.
 */
export async function until<T>(
  what: string,
  probe: () => T | undefined | false | Promise<T | undefined | false>,
  seconds = 30,
): Promise<T> {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const answer = await probe();
    if (answer !== undefined && answer !== false) return answer;
    if (Date.now() > deadline) throw new Error(`gave up after ${seconds} s waiting for ${what}`);
    await delay(20);
  }
}

/** Stops a process, and comes back when each of its threads stands still. */
export async function stop(pid: number): Promise<void> {
  process.kill(pid, "SIGSTOP");
  await until(`process ${pid} to stop`, () =>
    readdirSync(`/proc/${pid}/task`).every((thread) =>
      /^State:\s+[TZ]/m.test(readFileSync(`/proc/${pid}/task/${thread}/status`, "utf8")),
    ),
  );
}
