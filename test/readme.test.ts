/**
 * The README's commands, run as they stand there.
 * Runs beside others.
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { after, before, describe, it } from "node:test";

const root = path.resolve(import.meta.dirname, "../..");
const readme = fs.readFileSync(path.join(root, "README.md"), "utf8");
const blocks = (language: string): string[] =>
  [...readme.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)]
    .filter((match) => match[1] === language)
    .map((match) => match[2] ?? "");

describe("README", () => {
  let folder = "";
  before(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), "treesnoop-readme-"));
    fs.symlinkSync(path.join(root, "run.sh"), path.join(folder, "run.sh"));
  });
  after(() => {
    fs.rmSync(folder, { recursive: true });
  });

  it("has the two commands", () => {
    assert.deepEqual(blocks("sh"), ["./run.sh ls /\n", "npm test\n"]);
  });

  it("runs the first as it stands there", () => {
    const run = spawnSync("sh", ["-c", blocks("sh")[0] ?? ""], { cwd: folder, encoding: "utf8" });
    assert.equal(run.status, 0, run.stderr);
    assert.equal(run.stdout, execFileSync("ls", ["/"], { encoding: "utf8" }));
    assert.equal(run.stderr, "");
  });

  it("shows the files as they are", () => {
    const shown = [...readme.matchAll(/^\$ head -n (\d+) (\S+)\n([\s\S]*?)(?=^\$|^```)/gm)];
    assert.ok(shown.length >= 2);
    for (const [, , file = "", text = ""] of shown) {
      const [header = "", first = ""] = text.split("\n");
      const [ownHeader, ownFirst = ""] = fs.readFileSync(path.join(folder, file), "utf8").split("\n");
      assert.equal(ownHeader, header, file);
      const shape = (row: string): string => row.replace(/\d+/g, "0");
      assert.equal(shape(ownFirst.replace(/\.\d+/g, "")), shape(first.replace(/\.\d+/g, "")), file);
    }
  });

  it("gives the modules it lists, in a table and by the command", () => {
    const listed = [...readme.matchAll(/^\| `(\w+)` \|/gm)].map((match) => match[1] ?? "").sort();
    const report = execFileSync(path.join(root, "run.sh"), ["modules"], { encoding: "utf8" });
    const known = [...report.matchAll(/^(\w+): /gm)].map((match) => match[1] ?? "").sort();
    assert.deepEqual(listed, known);
  });

  it("reads with pandas as shown", () => {
    const script = blocks("python")[0] ?? "";
    const sums = execFileSync("/usr/bin/python3", ["-c", script], { cwd: folder, encoding: "utf8" });
    assert.match(sums, /ls\s+\d/);
  });

  it("links to pages that are there", () => {
    for (const [, page = ""] of readme.matchAll(/\]\((docs\/[^)]+)\)/g)) {
      assert.ok(fs.existsSync(path.join(root, page)), page);
    }
  });

  it("names the options of --help", () => {
    const help = execFileSync(path.join(root, "run.sh"), ["--help"], { encoding: "utf8" });
    for (const [, option = ""] of readme.matchAll(/`(--?[a-z-]+)[ `]/g)) {
      assert.ok(help.includes(option), option);
    }
  });
});
