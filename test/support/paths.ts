// Where the tests find things. Owns: the project's folders as seen from a compiled test, and scratch folders
// that go away with the test. Does not own: running anything.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { TestContext } from "node:test";

/** The project's folder: this file is compiled to build/test/support/. */
export const root = fileURLToPath(new URL("../../../", import.meta.url));

/** A program of test/workloads, as tools/setup.sh built it. */
export function workload(name: string): string {
  return join(root, "build", "workloads", name);
}

/** A fresh folder, removed when the test ends (kept for looking at with TREESNOOP_KEEP=1). */
export function scratch(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "treesnoop-test-"));
  t.after(() => {
    if (process.env.TREESNOOP_KEEP === undefined) rmSync(folder, { recursive: true, force: true });
    else t.diagnostic(`kept ${folder}`);
  });
  return folder;
}
