/**
 * Owns: stderr, the only stream treesnoop writes to: messages, and the one status line of a terminal.
 * Owns not: what is worth saying.
 */

/** Names and paths are hostile text: no control character of theirs may reach the terminal. */
export function printable(text: string): string {
  // eslint-disable-next-line no-control-regex -- finding control characters is the purpose
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
}

export class Log {
  readonly #stream: NodeJS.WriteStream;
  readonly #quiet: boolean;
  #statusShown = false;

  constructor(stream: NodeJS.WriteStream, quiet: boolean) {
    this.#stream = stream;
    this.#quiet = quiet;
  }

  get interactive(): boolean {
    return this.#stream.isTTY && !this.#quiet;
  }

  error(sentence: string, hint = ""): void {
    this.#clearStatus();
    this.#stream.write(`treesnoop: ${sentence}\n`);
    if (hint) this.#stream.write(`  ${hint}\n`);
  }

  /** For terminals only: piped or quiet, treesnoop says errors and nothing else. */
  note(sentence: string): void {
    if (!this.interactive) return;
    this.#clearStatus();
    this.#stream.write(`${sentence}\n`);
  }

  status(line: string): void {
    if (!this.interactive) return;
    this.#stream.write(`\r\u001b[K${line.slice(0, (this.#stream.columns || 80) - 1)}`);
    this.#statusShown = true;
  }

  #clearStatus(): void {
    if (!this.#statusShown) return;
    this.#stream.write("\r\u001b[K");
    this.#statusShown = false;
  }
}
