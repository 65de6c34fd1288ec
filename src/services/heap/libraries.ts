/**
 * Owns: which files may bring an allocator: those the loader would find, known before the target starts,
 * and those a process turns out to have mapped.
 */
import * as fs from "node:fs";
import * as path from "node:path";
import { loaderCache } from "../programs.js";

/** Names under which allocators are installed; a program itself is always looked at. */
const likely = /^(libc[.-]|libc\.so|ld-musl|libc\.musl)|alloc/;

/** Libraries of the dynamic loader's cache and of its environment variables, by likely name. */
export function installedAllocators(env: NodeJS.ProcessEnv): string[] {
  const found = loaderCache()
    .map(({ file }) => file)
    .filter((file) => likely.test(path.basename(file)));
  for (const folder of ["/lib", "/usr/lib", ...(env["LD_LIBRARY_PATH"] ?? "").split(":")]) {
    if (folder === "") continue;
    for (const name of listFolder(folder)) {
      if (likely.test(name) && name.includes(".so")) found.push(path.join(folder, name));
    }
  }
  found.push(...(env["LD_PRELOAD"] ?? "").split(/[: ]/).filter((file) => file.includes("/")));
  return found;
}

function listFolder(folder: string): string[] {
  try {
    return fs.readdirSync(folder);
  } catch {
    return [];
  }
}

/** Code files of a running process, by the link that opens what is mapped, whatever root it lives in. */
export function mappedFiles(pid: number): string[] {
  const process = `/proc/${String(pid)}`;
  try {
    const maps = fs.readFileSync(`${process}/maps`, "utf8");
    const files = new Map<string, string>();
    for (const match of maps.matchAll(/^(\S+) r.x\S* \S+ (\S+ [1-9]\d*) /gm)) {
      const [, range = "", inode = ""] = match;
      // The links write addresses without leading zeros, maps pads them to eight digits.
      const link = range.replace(/\b0+(?=[0-9a-f])/g, "");
      files.set(inode, `${process}/map_files/${link}`);
    }
    return [...files.values()];
  } catch {
    return []; // gone, or a kernel thread
  }
}

/** What the loader will map first into a process that has just executed: its program, LD_PRELOAD. */
export function firstFiles(pid: number): string[] {
  const process = `/proc/${String(pid)}`;
  try {
    const environment = fs.readFileSync(`${process}/environ`, "utf8").split("\0");
    const preload = environment.find((pair) => pair.startsWith("LD_PRELOAD="))?.slice(11) ?? "";
    const libraries = preload.split(/[: ]/).filter((file) => file.startsWith("/"));
    return [`${process}/exe`, ...libraries.map((file) => `${process}/root${file}`)];
  } catch {
    return [];
  }
}
