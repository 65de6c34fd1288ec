// SPDX-License-Identifier: MIT
import { native } from "./native.js";

/** libbpf's own levels, most urgent first. */
export type LogLevel = "warn" | "info" | "debug";

const LEVELS: Readonly<Record<LogLevel, number>> = { warn: 0, info: 1, debug: 2 };

/**
 * Hears what libbpf says, up to this level, in this thread; undefined stops it. By default nothing
 * is printed, and errors carry what was said. The callback runs after the operation, before its
 * error is thrown.
 */
export function onLog(level: LogLevel, callback: ((line: string) => void) | undefined): void {
  if (!callback) {
    native.setLogListener();
    return;
  }
  native.setLogListener(LEVELS[level], (_level, text) => {
    for (const line of text.split("\n")) {
      if (line !== "") callback(line);
    }
  });
}

/** "1.1": of the libbpf this was linked with. */
export function libbpfVersion(): string {
  return native.libbpfVersion();
}
