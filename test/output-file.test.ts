// The files of a table as they are opened. Owns: names that are taken (older files and what continues them,
// links, pipes, anything else), whose they are, and the sentences when they cannot be. No root needed but for
// what belongs to others; no treesnoop running. Does not own: what is written to them.
// Runs beside others.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import {
  chownSync,
  closeSync,
  constants,
  existsSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { describe, test, type TestContext } from "node:test";
import { RunError } from "../src/core/errors.js";
import { keepOld } from "../src/core/old-files.js";
import { openOutput, type Opened, type Owner } from "../src/core/output-file.js";
import { scratch } from "./support/paths.js";

const time = String.raw`\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}`;
const someone: Owner = { uid: 12345, gid: 12346 };

function open(
  t: TestContext,
  folder: string,
  name: string,
  options: { overwrite?: boolean; owner?: Owner; inUse?: ReadonlySet<string> } = {},
): Opened {
  const output = openOutput(folder, name, options.overwrite ?? false, options.owner, options.inUse);
  t.after(() => {
    closeSync(output.fd);
  });
  return output;
}

function refused(work: () => unknown, ...words: RegExp[]): void {
  assert.throws(work, (error) => {
    assert.ok(error instanceof RunError);
    assert.equal(error.exitCode, 3);
    for (const word of words) assert.match(`${error.message}\n${error.hint}`, word);
    return true;
  });
}

function fifo(folder: string, name: string, owner?: Owner): string {
  const path = join(folder, name);
  execFileSync("mkfifo", [path]);
  if (owner) chownSync(path, owner.uid, owner.gid);
  return path;
}

function reader(t: TestContext, path: string): number {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  t.after(() => {
    closeSync(fd);
  });
  return fd;
}

/** Names and texts of all that is in a folder. */
const texts = (folder: string): Record<string, string> =>
  Object.fromEntries(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), "utf8")]));

describe("a new file", () => {
  test("is empty, appended to, and belongs to whom it is for", (t) => {
    const folder = scratch(t);
    const { fd, kept } = open(t, folder, "a.csv", { owner: someone });
    const status = lstatSync(join(folder, "a.csv"));
    assert.ok(status.isFile());
    assert.deepEqual([status.size, status.uid, status.gid], [0, someone.uid, someone.gid]);
    assert.equal(status.mode & 0o133, 0);
    assert.equal(kept, undefined);
    writeSync(fd, "one\n");
    writeFileSync(join(folder, "a.csv"), "");
    writeSync(fd, "two\n");
    assert.equal(readFileSync(join(folder, "a.csv"), "utf8"), "two\n");
    const flags = /^flags:\s+(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${String(fd)}`, "utf8"));
    assert.ok(Number.parseInt(flags?.[1] ?? "", 8) & 0o2000000, "is closed in what we launch");
  });

  test("is refused where there can be none, with the reason", (t) => {
    const folder = scratch(t);
    writeFileSync(join(folder, "file"), "");
    refused(() => openOutput(join(folder, "none"), "a.csv", false, undefined), /a\.csv/, /not exist/);
    refused(() => openOutput(join(folder, "file"), "a.csv", true, undefined), /a\.csv/, /not a folder/);
    refused(() => openOutput("/proc/self/net", "a.csv", false, undefined), /a\.csv/);
  });
});

describe("an older file", () => {
  for (const [name, kept, continued] of [
    ["cpu.csv", String.raw`cpu\.${time}\.csv`, "cpu.1.csv"],
    ["cpu.csv.gz", String.raw`cpu\.${time}\.csv\.gz`, "cpu.1.csv.gz"],
    ["cpu.csv.zst", String.raw`cpu\.${time}\.csv\.zst`, "cpu.1.csv.zst"],
    ["c.p.txt", String.raw`c\.p\.${time}\.txt`, "c.p.1.txt"],
    ["x.tar.gz", String.raw`x\.tar\.${time}\.gz`, "x.tar.1.gz"],
    ["plain", String.raw`plain\.${time}`, "plain.1"],
  ] as const) {
    test(`${name} is put aside by its time, with ${continued}`, (t) => {
      const folder = scratch(t);
      writeFileSync(join(folder, name), "old");
      writeFileSync(join(folder, continued), "older");
      const output = open(t, folder, name);
      assert.match(output.kept ?? "", new RegExp(`^${kept}$`));
      const stem = continued.slice(0, continued.indexOf(".1"));
      const aside = readdirSync(folder).filter((each) => each !== name && each !== output.kept);
      assert.equal(aside.length, 1);
      const begun = new RegExp(time).exec(output.kept ?? "")?.[0] ?? "";
      assert.equal(aside[0], `${stem}.${begun}.1${continued.slice(stem.length + 2)}`);
      assert.deepEqual(texts(folder), {
        [name]: "",
        [output.kept ?? ""]: "old",
        [aside.join("")]: "older",
      });
    });
  }

  test("goes aside with all that continue it and nothing else, twice in one second, too", (t) => {
    const folder = scratch(t);
    const others = ["a.01.csv", "a.0.csv", "a.1.csv.gz", "a.x.csv", "ab.1.csv", "a.1.2.csv", "a.-1.csv"];
    for (const name of others) writeFileSync(join(folder, name), name);
    mkdirSync(join(folder, "a.4.csv"));
    const kept: string[] = [];
    for (let round = 0; round < 3; round++) {
      for (const name of ["a.csv", "a.1.csv", "a.2.csv", "a.30.csv"]) {
        writeFileSync(join(folder, name), `${name} ${String(round)}`);
      }
      kept.push(open(t, folder, "a.csv").kept ?? "");
    }
    assert.equal(new Set(kept).size, 3);
    for (const [round, name] of kept.entries()) {
      assert.match(name, new RegExp(String.raw`^a\.${time}(-[23])?\.csv$`));
      const stem = name.slice(0, -4);
      for (const tail of ["", ".1", ".2", ".30"]) {
        const text = readFileSync(join(folder, `${stem}${tail}.csv`), "utf8");
        assert.equal(text, `a${tail}.csv ${String(round)}`);
      }
    }
    assert.equal(readdirSync(folder).length, others.length + 1 + 1 + 3 * 4);
    for (const name of others) assert.equal(readFileSync(join(folder, name), "utf8"), name);
  });

  test("that was removed leaves what continued it, which goes aside as well", (t) => {
    const folder = scratch(t);
    writeFileSync(join(folder, "a.2.csv"), "two");
    assert.equal(open(t, folder, "a.csv").kept, undefined);
    const [first, second, ...more] = readdirSync(folder).sort();
    assert.match(first ?? "", new RegExp(String.raw`^a\.${time}\.2\.csv$`));
    assert.deepEqual([second, more], ["a.csv", []]);
  });

  test("is removed on request, and what continues it up to the first gap", (t) => {
    const folder = scratch(t);
    for (const name of ["a.csv", "a.1.csv", "a.2.csv", "a.2025.csv"]) {
      writeFileSync(join(folder, name), name);
    }
    assert.equal(open(t, folder, "a.csv", { overwrite: true }).kept, undefined);
    const left = Object.entries(texts(folder)).sort();
    assert.equal(left.length, 2);
    assert.match(left[0]?.[0] ?? "", new RegExp(String.raw`^a\.${time}\.2025\.csv$`));
    assert.equal(left[0]?.[1], "a.2025.csv");
    assert.deepEqual(left[1], ["a.csv", ""]);
  });

  for (const overwrite of [false, true]) {
    test(`another table of this run is not taken for one, overwrite: ${String(overwrite)}`, (t) => {
      const folder = scratch(t);
      writeSync(open(t, folder, "a.1.csv").fd, "mine");
      open(t, folder, "a.csv", { overwrite, inUse: new Set([join(folder, "a.1.csv")]) });
      assert.deepEqual(texts(folder), { "a.1.csv": "mine", "a.csv": "" });
    });
  }

  test("of another kind keeps to itself: run.json has none that continue it", (t) => {
    const folder = scratch(t);
    writeFileSync(join(folder, "run.json"), "{}");
    writeFileSync(join(folder, "run.1.json"), "notes");
    const kept = keepOld(join(folder, "run.json"));
    assert.match(kept ?? "", new RegExp(String.raw`^run\.${time}\.json$`));
    assert.deepEqual(texts(folder), { [kept ?? ""]: "{}", "run.1.json": "notes" });
    assert.equal(keepOld(join(folder, "run.json")), undefined);
  });

  test("is found by its birth, not by when it was changed last", (t) => {
    const folder = scratch(t);
    writeFileSync(join(folder, "a.csv"), "");
    utimesSync(join(folder, "a.csv"), 1e9, 1e9);
    const { birthtimeMs } = lstatSync(join(folder, "a.csv"));
    const { kept } = open(t, folder, "a.csv");
    assert.equal(kept?.includes("2001-"), birthtimeMs === 1e12 || birthtimeMs === 0);
  });
});

describe("links", () => {
  for (const overwrite of [false, true]) {
    test(`are never followed, overwrite: ${String(overwrite)}`, (t) => {
      const folder = scratch(t);
      const elsewhere = scratch(t);
      writeFileSync(join(elsewhere, "victim"), "precious\n");
      const pipe = fifo(elsewhere, "pipe");
      reader(t, pipe);
      symlinkSync(join(elsewhere, "victim"), join(folder, "a.csv"));
      symlinkSync(join(elsewhere, "victim"), join(folder, "a.1.csv"));
      symlinkSync(join(elsewhere, "not-yet"), join(folder, "b.csv"));
      symlinkSync(pipe, join(folder, "c.csv"));
      symlinkSync("/dev/null", join(folder, "d.csv"));
      for (const name of ["a.csv", "b.csv", "c.csv", "d.csv"]) {
        writeSync(open(t, folder, name, { overwrite }).fd, "x\n");
        assert.ok(lstatSync(join(folder, name)).isFile());
      }
      assert.equal(readFileSync(join(elsewhere, "victim"), "utf8"), "precious\n");
      assert.deepEqual(readdirSync(elsewhere).sort(), ["pipe", "victim"]);
      const links = readdirSync(folder).filter((name) => lstatSync(join(folder, name)).isSymbolicLink());
      assert.equal(links.length, overwrite ? 0 : 5);
      for (const name of links) assert.match(readlinkSync(join(folder, name)), /^\//);
    });
  }
});

describe("a pipe", () => {
  for (const overwrite of [false, true]) {
    test(`that is read is written to and stays, overwrite: ${String(overwrite)}`, (t) => {
      const folder = scratch(t);
      const from = reader(t, fifo(folder, "a.csv"));
      const { fd, kept } = open(t, folder, "a.csv", { overwrite });
      assert.ok(fstatSync(fd).isFIFO());
      assert.equal(kept, undefined);
      assert.equal(writeSync(fd, "row\n"), 4);
      const bytes = Buffer.alloc(10);
      assert.equal(readSync(from, bytes), 4);
      assert.deepEqual(readdirSync(folder), ["a.csv"]);
      // Full, it says so at once instead of waiting.
      assert.throws(() => {
        for (;;) writeSync(fd, Buffer.alloc(65536));
      }, /EAGAIN/);
    });
  }

  test("may belong to root or to whom the files are for, nobody else", (t) => {
    const folder = scratch(t);
    reader(t, fifo(folder, "root.csv", { uid: 0, gid: 0 }));
    reader(t, fifo(folder, "someone.csv", someone));
    open(t, folder, "root.csv");
    open(t, folder, "root.csv", { owner: someone });
    open(t, folder, "someone.csv", { owner: someone });
    for (const owner of [undefined, { uid: 54321, gid: 1 }]) {
      for (const overwrite of [false, true]) {
        refused(() => openOutput(folder, "someone.csv", overwrite, owner), /someone\.csv/, /12345/, /mkfifo/);
      }
    }
    assert.ok(lstatSync(join(folder, "someone.csv")).isFIFO());
  });

  test("of somebody else's is not even opened", async (t) => {
    const folder = scratch(t);
    const path = fifo(folder, "a.csv", someone);
    const waits = spawn("cat", [path]); // until somebody opens the other end
    t.after(() => waits.kill());
    let output = "";
    waits.stdout.on("data", (data: Buffer) => {
      output += data.toString();
    });
    refused(() => openOutput(folder, "a.csv", false, undefined), /not yours/);
    execFileSync("sh", ["-c", 'echo row >"$0"', path], { timeout: 10_000 });
    await new Promise((resolve) => waits.on("close", resolve));
    assert.equal(output, "row\n");
  });

  test("that nobody reads is refused with what to do", (t) => {
    const folder = scratch(t);
    fifo(folder, "a.csv");
    refused(() => openOutput(folder, "a.csv", false, undefined), /a\.csv/, /Start its reader first/);
    refused(() => openOutput(folder, "a.csv", true, undefined), /nobody reads/);
    assert.ok(lstatSync(join(folder, "a.csv")).isFIFO());
  });
});

describe("anything else of that name", () => {
  for (const overwrite of [false, true]) {
    test(`is refused and left alone, overwrite: ${String(overwrite)}`, async (t) => {
      const folder = scratch(t);
      const server = createServer();
      await new Promise<void>((resolve) => server.listen(join(folder, "socket.csv"), resolve));
      t.after(() => server.close());
      execFileSync("mknod", [join(folder, "character.csv"), "c", "1", "3"]);
      execFileSync("mknod", [join(folder, "block.csv"), "b", "7", "255"]);
      mkdirSync(join(folder, "folder.csv"));
      for (const [name, kind] of [
        ["socket.csv", /a socket/],
        ["character.csv", /a device/],
        ["block.csv", /a device/],
        ["folder.csv", /a folder/],
      ] as const) {
        refused(() => openOutput(folder, name, overwrite, undefined), /in the way/, kind, /Remove it/);
        assert.ok(existsSync(join(folder, name)));
      }
      assert.equal(readdirSync(folder).length, 4);
    });
  }
});
