/**
 * Owns: files in the output folder: created anew and never through a planted link, owned by the invoking
 * user, or a pipe of theirs.
 * Owns not: what is in them, what becomes of older ones (old-files.ts).
 */
import * as fs from "node:fs";
import * as path from "node:path";
import { getSystemErrorName } from "node:util";
import { describe, errors } from "./errors.js";
import { keepOldTable, removeOldTable } from "./old-files.js";

/** Who the files belong to: whoever called sudo, else whoever runs this. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

export function invokingUser(env: NodeJS.ProcessEnv = process.env): Owner | undefined {
  if (process.geteuid?.() !== 0) return undefined;
  const uid = Number(env["SUDO_UID"]);
  const gid = Number(env["SUDO_GID"]);
  return Number.isInteger(uid) && Number.isInteger(gid) && uid > 0 ? { uid, gid } : undefined;
}

/**
 * Makes the folder and whatever lacks above it, each given to the owner. Step by step: Node's recursive
 * mkdir never ends where a file system answers ENOENT to mkdir itself, as /proc does.
 */
export function makeFolder(folder: string, owner: Owner | undefined): void {
  try {
    const lacking: string[] = [];
    for (let each = path.resolve(folder); !fs.existsSync(each); each = path.dirname(each)) {
      lacking.push(each);
    }
    for (const each of lacking.reverse()) {
      fs.mkdirSync(each, 0o755);
      if (owner) fs.lchownSync(each, owner.uid, owner.gid);
    }
    fs.accessSync(folder, fs.constants.W_OK | fs.constants.X_OK);
    if (!fs.statSync(folder).isDirectory()) throw new Error("it is not a folder");
  } catch (error) {
    throw errors.outputFolder(folder, reasonOf(error));
  }
}

const reasons: Readonly<Record<string, string>> = {
  EACCES: "permission denied",
  EPERM: "permission denied",
  ENOENT: "it does not exist",
  EISDIR: "it is a folder",
  ENOTDIR: "a part of its path is not a folder",
  EEXIST: "a file of that name is in the way",
  EROFS: "the file system is read-only",
  ENOSPC: "the disk is full",
  EDQUOT: "the disk quota is used up",
  EFBIG: "it may not become longer (ulimit -f)",
  ELOOP: "it is a symbolic link",
  EAGAIN: "its reader does not keep up",
  EPIPE: "nobody reads it any more",
};

export function reasonOf(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  return (code !== undefined ? reasons[code] : undefined) ?? describe(error);
}

/** Of an errno. */
export function reasonOfErrno(errno: number): string {
  const code = getSystemErrorName(-errno);
  return reasons[code] ?? code;
}

/**
 * Creates the file; O_EXCL follows no link and takes over no file somebody planted meanwhile. What is to
 * be kept has been put aside before.
 */
export function createFile(file: string, overwrite: boolean, owner: Owner | undefined): number {
  try {
    if (overwrite) fs.rmSync(file, { force: true });
    const { O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = fs.constants;
    // O_APPEND: after half a write is cut off, the next goes where the file ends.
    const fd = fs.openSync(file, O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW, 0o644);
    if (owner) fs.fchownSync(fd, owner.uid, owner.gid);
    return fd;
  } catch (error) {
    throw errors.outputFile(file, reasonOf(error));
  }
}

/** What fails meanwhile is about this file. */
function about<T>(file: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw errors.outputFile(file, reasonOf(error));
  }
}

function kindOf(there: fs.Stats): string {
  if (there.isDirectory()) return "folder";
  return there.isSocket() ? "socket" : "device";
}

/** Opens a pipe that is there. It is looked at again once it is open: it may have been swapped. */
function openPipe(file: string, owner: Owner | undefined): number {
  const { O_NOFOLLOW, O_NONBLOCK, O_WRONLY } = fs.constants;
  let fd: number;
  try {
    fd = fs.openSync(file, O_WRONLY | O_NONBLOCK | O_NOFOLLOW);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENXIO") throw errors.pipeWithoutReader(file);
    throw errors.outputFile(file, reasonOf(error));
  }
  const opened = fs.fstatSync(fd);
  if (opened.isFIFO() && isOurs(opened, owner)) return fd;
  fs.closeSync(fd);
  throw errors.pipeOfOthers(file, opened.uid);
}

function isOurs(there: fs.Stats, owner: Owner | undefined): boolean {
  return there.uid === 0 || there.uid === (owner?.uid ?? process.geteuid?.());
}

export interface Opened {
  readonly fd: number;
  /** Name an older file of this name has now. */
  readonly kept: string | undefined;
}

/**
 * A table's file, created anew; or the pipe of that name, if it is ours and somebody reads it. `inUse`:
 * tables of this run, which are not to be taken for old ones that continue this one (`a.csv`, `a.1.csv`).
 */
export function openOutput(
  dir: string,
  name: string,
  overwrite: boolean,
  owner: Owner | undefined,
  inUse: ReadonlySet<string> = new Set(),
): Opened {
  const file = path.resolve(dir, name);
  const there = about(file, () => fs.lstatSync(file, { throwIfNoEntry: false }));
  if (there?.isFIFO()) {
    // Before it is opened: that alone tells its reader that somebody came.
    if (!isOurs(there, owner)) throw errors.pipeOfOthers(file, there.uid);
    return { fd: openPipe(file, owner), kept: undefined };
  }
  if (there && !there.isFile() && !there.isSymbolicLink()) {
    throw errors.outputInTheWay(file, kindOf(there));
  }
  const kept = about(file, () => {
    if (overwrite) removeOldTable(file, inUse);
    return keepOldTable(file, inUse);
  });
  return { fd: createFile(file, false, owner), kept };
}
