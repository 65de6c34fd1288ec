/**
 * Owns: a module's file as the module sees it: opened in the output folder, written by the writer's thread,
 * its figures.
 * Owns not: how a file is created (output-file.ts), what is in it.
 */
import * as fs from "node:fs";
import { join } from "node:path";
import type { CsvFile, CsvFileFigures, CsvWriter } from "libbpf-ts";
import { openOutput, type Owner, reasonOfErrno } from "./output-file.js";

/** A pipe's reader is waited for so long when the file is closed, ms. */
const closeMs = 500;

function compressionOf(name: string): "none" | "gzip" | "zstd" {
  if (name.endsWith(".gz")) return "gzip";
  return name.endsWith(".zst") ? "zstd" : "none";
}

export interface Output {
  readonly file: CsvFile;
  /** Name an older file of this name has now. */
  readonly kept: string | undefined;
}

/** The output folder. */
export class Folder {
  readonly dir: string;
  readonly overwrite: boolean;
  readonly #owner: Owner | undefined;
  readonly #fd: number;
  readonly #writer: CsvWriter;
  readonly #maxSize: number | undefined;
  /** Tables of this run. */
  readonly #inUse = new Set<string>();

  constructor(
    dir: string,
    overwrite: boolean,
    owner: Owner | undefined,
    writer: CsvWriter,
    maxSize: number | undefined,
  ) {
    this.dir = dir;
    this.overwrite = overwrite;
    this.#owner = owner;
    this.#writer = writer;
    this.#maxSize = maxSize;
    this.#fd = fs.openSync(dir, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
  }

  /** `overwrite`: whether an older file of that name may go. */
  open(name: string, header: string, overwrite: boolean): Output {
    const { fd, kept } = openOutput(this.dir, name, overwrite, this.#owner, this.#inUse);
    this.#inUse.add(join(this.dir, name));
    try {
      const file = this.#writer.openFile({
        fd,
        folderFd: this.#fd,
        name,
        header,
        maxSize: this.#maxSize,
        compression: compressionOf(name),
      });
      return { file, kept };
    } finally {
      fs.closeSync(fd); // the writer has its own
    }
  }

  close(): void {
    fs.closeSync(this.#fd);
  }
}

/** The figures of a module's files, those it has finished with included. */
export class Outputs {
  #now: CsvFile;
  readonly #earlier: CsvFile[] = [];

  constructor(first: CsvFile) {
    this.#now = first;
  }

  get file(): CsvFile {
    return this.#now;
  }

  moveTo(next: CsvFile): void {
    this.close();
    this.#earlier.push(this.#now);
    this.#now = next;
  }

  figures(): Omit<CsvFileFigures, "problem" | "bytes"> & { readonly problem: string } {
    const all = [...this.#earlier, this.#now].map((file) => file.figures());
    const sum = (key: Exclude<keyof CsvFileFigures, "problem">): number =>
      all.reduce((total, figures) => total + figures[key], 0);
    const errno = all.at(-1)?.problem ?? 0;
    return {
      rows: sum("rows"),
      events: sum("events"),
      rowsLost: sum("rowsLost"),
      eventsLost: sum("eventsLost"),
      files: sum("files"),
      problem: errno === 0 ? "" : reasonOfErrno(errno),
    };
  }

  close(): void {
    this.#now.close(closeMs);
  }
}
