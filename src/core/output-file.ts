/**
 * Owns: files in the output folder: created anew and never through a planted link, owned by the invoking
 * user, an older one kept under its own time, whole lines only even on a full disk.
 * Owns not: what is in them.
 */
import * as fs from "node:fs";
import * as path from "node:path";
import { describe, errors } from "./errors.js";

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

export function reasonOf(error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code;
  const known: Record<string, string> = {
    EACCES: "permission denied",
    EPERM: "permission denied",
    ENOENT: "it does not exist",
    EISDIR: "it is a folder",
    ENOTDIR: "a part of its path is not a folder",
    EEXIST: "a file of that name is in the way",
    EROFS: "the file system is read-only",
    ENOSPC: "the disk is full",
    EDQUOT: "the disk quota is used up",
    ELOOP: "it is a symbolic link",
  };
  return (code !== undefined ? known[code] : undefined) ?? describe(error);
}

function timeInName(time: Date): string {
  const two = (value: number): string => String(value).padStart(2, "0");
  const date = [time.getFullYear(), two(time.getMonth() + 1), two(time.getDate())].join("-");
  return `${date}T${[time.getHours(), time.getMinutes(), time.getSeconds()].map(two).join("-")}`;
}

/**
 * `cpu.csv` → `cpu.2026-11-20T10-15-00.csv`, by the time the old file was begun; the new name, if there
 * was an old file.
 */
export function keepOld(file: string): string | undefined {
  const old = fs.lstatSync(file, { throwIfNoEntry: false });
  if (!old) return undefined;
  const { dir, name, ext } = path.parse(file);
  const begun = timeInName(old.birthtimeMs > 0 ? old.birthtime : old.mtime);
  for (let again = 1; ; again++) {
    const suffix = again === 1 ? "" : `-${String(again)}`;
    const kept = path.join(dir, `${name}.${begun}${suffix}${ext}`);
    if (fs.lstatSync(kept, { throwIfNoEntry: false })) continue;
    fs.renameSync(file, kept);
    return path.basename(kept);
  }
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

function putAside(file: string): string | undefined {
  try {
    return keepOld(file);
  } catch (error) {
    throw errors.outputFile(file, reasonOf(error));
  }
}

export function openOutput(
  dir: string,
  name: string,
  overwrite: boolean,
  owner: Owner | undefined,
): { fd: number; kept: string | undefined } {
  const file = path.join(dir, name);
  const kept = overwrite ? undefined : putAside(file);
  return { fd: createFile(file, overwrite, owner), kept };
}
