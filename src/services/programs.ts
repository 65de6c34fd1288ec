/**
 * Owns: finding a file by the name a shell or the dynamic loader would know it by.
 */
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";

/** The file a command name stands for, as execvp(3) looks it up. */
export function commandFile(command: string, env: NodeJS.ProcessEnv): string | undefined {
  if (command.includes("/")) return command;
  return (env["PATH"] ?? "/bin:/usr/bin")
    .split(":")
    .map((folder) => path.join(folder || ".", command))
    .find((file) => fs.statSync(file, { throwIfNoEntry: false })?.isFile() === true);
}

/** Libraries of the dynamic loader's cache, by soname; none without a glibc loader (Alpine). */
export function loaderCache(): { readonly name: string; readonly file: string }[] {
  try {
    const cache = execFileSync("/sbin/ldconfig", ["-p"], { encoding: "utf8", maxBuffer: 64 << 20 });
    return [...cache.matchAll(/^\s*(\S+) \(.*\) => (\S.*)$/gm)].map(([, name = "", file = ""]) => ({
      name,
      file,
    }));
  } catch {
    return [];
  }
}
