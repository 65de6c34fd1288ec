// What the kernel holds on behalf of a process. Owns: listing a process's BPF objects from its file
// descriptors, asking whether they still exist (workloads/bpfalive.c), and looking for breakpoints in a
// process's code. Does not own: treesnoop.
import assert from "node:assert/strict";
import { closeSync, openSync, readdirSync, readFileSync, readSync } from "node:fs";
import type { TestContext } from "node:test";
import { workload } from "./paths.js";
import { execute } from "./run.js";

/** What the kernel says of each descriptor of a process. */
function fdinfo(pid: number): string[] {
  const folder = `/proc/${pid}/fdinfo`;
  return readdirSync(folder).flatMap((fd) => {
    try {
      return [readFileSync(`${folder}/${fd}`, "utf8")];
    } catch {
      return []; // closed meanwhile
    }
  });
}

/** `["prog", "12", "link", "3", …]` for bpfalive, from /proc/PID/fdinfo. */
export function bpfObjects(pid: number): string[] {
  const found: string[] = [];
  for (const text of fdinfo(pid)) {
    // A link's and a program array's own lines name the program too: each id is taken under its own kind.
    for (const [, kind, id] of text.matchAll(/^(prog|link|map)_id:\s+(\d+)$/gm))
      if (kind !== undefined && id !== undefined) found.push(kind, id);
  }
  return found;
}

/** Ids of the programs that a process has loaded, and of each link it holds the id of its program. */
export function bpfPrograms(pid: number): { readonly loaded: readonly string[]; readonly linked: readonly string[] } {
  const loaded = new Set<string>();
  const linked: string[] = [];
  for (const text of fdinfo(pid)) {
    const program = /^prog_id:\s+(\d+)$/m.exec(text)?.[1];
    if (program === undefined) continue;
    if (/^link_id:/m.test(text)) linked.push(program);
    else if (/^prog_type:/m.test(text)) loaded.add(program);
  }
  return { loaded: [...loaded].sort(), linked: linked.sort() };
}

/** Those of the objects that still exist. */
export async function alive(t: TestContext, objects: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await execute(t, [workload("bpfalive"), ...objects]);
  assert.ok(code === 0 || code === 1, stderr);
  return stdout;
}

/**
 * Offsets at which a process's mapped code differs from the file it was mapped from: breakpoints, for one.
 */
export function changedCode(pid: number): string[] {
  const changed: string[] = [];
  const memory = openSync(`/proc/${pid}/mem`, "r");
  try {
    for (const line of readFileSync(`/proc/${pid}/maps`, "utf8").split("\n")) {
      const match = /^([0-9a-f]+)-([0-9a-f]+) r-xp ([0-9a-f]+) \S+ \d+\s+(\/\S+)$/.exec(line);
      if (match === null) continue;
      const [, from = "", to = "", offset = "", file = ""] = match;
      const start = parseInt(from, 16);
      const here = Buffer.alloc(parseInt(to, 16) - start);
      const there = readFileSync(file).subarray(parseInt(offset, 16));
      const length = Math.min(readSync(memory, here, 0, here.length, start), there.length);
      for (let at = 0; at < length; at++)
        if (here[at] !== there[at]) changed.push(`${file}+0x${(at + parseInt(offset, 16)).toString(16)}`);
    }
  } finally {
    closeSync(memory);
  }
  return changed;
}
