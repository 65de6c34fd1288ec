/**
 * Owns: what a signal to treesnoop means: the first reaches the target, the second kills it; without a
 * target of ours the first ends the watching.
 */
import * as fs from "node:fs";
import { Launched, type Target } from "./target.js";

const passedOn = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const;

/**
 * Ctrl-C goes to every process of the terminal's foreground group, the target among them: passing it on
 * would interrupt the target twice. In front of a terminal is who stands in its foreground group.
 */
function fromTerminal(signal: NodeJS.Signals): boolean {
  if (signal !== "SIGINT" && signal !== "SIGQUIT") return false;
  try {
    // After the parenthesised name: state ppid pgrp session tty_nr tpgid (proc(5)).
    const fields = fs.readFileSync("/proc/self/stat", "utf8").split(") ").at(-1)?.split(" ") ?? [];
    return fields[2] === fields[5];
  } catch {
    return false;
  }
}

export class Interruptions {
  /** Resolves when the watching is to end. */
  readonly stop: Promise<void>;
  readonly #handlers = new Map<NodeJS.Signals, () => void>();

  constructor(target: Target | undefined) {
    let end: () => void = () => undefined;
    this.stop = new Promise((resolve) => {
      end = resolve;
    });
    let count = 0;
    for (const signal of passedOn) {
      const handle = (): void => {
        count++;
        if (!(target instanceof Launched)) end();
        else if (count > 1) target.signal("SIGKILL");
        else if (!fromTerminal(signal)) target.signal(signal);
      };
      this.#handlers.set(signal, handle);
      process.on(signal, handle);
    }
  }

  close(): void {
    for (const [signal, handle] of this.#handlers) process.off(signal, handle);
  }
}
