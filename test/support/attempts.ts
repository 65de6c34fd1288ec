// Tests that the machine itself may disturb. Owns: trying such a test again. Those that count every packet: a kernel may leave tracing
// programs out in places; the one this was developed on does while a thread of pid 1 is current, so what a softirq does that
// interrupts pid 1 is not seen (docs/architecture.md). Those that compare two clocks' views of one moment: the monitor, or the witness,
// may be off the CPU just then. What is wrong is wrong each time.
import { test as once, type TestContext } from "node:test";

/** TREESNOOP_ATTEMPTS=1 shows what fails seldom. */
const most = Number(process.env["TREESNOOP_ATTEMPTS"] ?? 5);

/** The same test in a context of its own, whose hooks have run when this returns. */
async function attempt(t: TestContext, body: (t: TestContext) => Promise<void>): Promise<void> {
  const hooks: (() => unknown)[] = [];
  const own = {
    after: (hook: () => unknown) => hooks.push(hook),
    diagnostic: (text: string) => {
      t.diagnostic(text);
    },
  };
  try {
    await body(own as unknown as TestContext);
  } finally {
    for (const hook of hooks) await hook();
  }
}

/** Passes when one of the attempts does. Each that fails is told. */
export async function tried(t: TestContext, body: (t: TestContext) => Promise<void>): Promise<void> {
  for (let tries = 1; ; tries++)
    try {
      await attempt(t, body);
      return;
    } catch (error) {
      if (tries === most) throw error;
      t.diagnostic(`attempt ${tries}: ${error instanceof Error ? error.message : String(error)}`);
    }
}

/** As of node:test. */
export function test(name: string, body: (t: TestContext) => Promise<void>): void {
  void once(name, (t) => tried(t, body));
}
