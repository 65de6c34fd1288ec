// The mem module against workloads that count themselves. Owns: that mem.csv's bytes and blocks are exact, phase by phase, in
// every allocator; and close, in real programs, to what their allocator says. Does not own: probes on functions
// (memleak_probes.test.ts).
// Runs beside others.
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { test, type TestContext } from "node:test";
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { matches, minus, watchHolds, type Heap, type Watched } from "./support/holds.js";
import { scratch, workload } from "./support/paths.js";
import { Command, execute, Run } from "./support/run.js";
import { until } from "./support/wait.js";

const config = { snoop_mem: "bpf", mem_output_file: "mem.csv", interval: 0.05 };

/** Phases reached after the threads were joined: whatever a thread's start allocates (its dtv) is not given back. */
const afterThreads = /^(base-joined|before-fork|before-exec|parent-|child-|grandchild-|end-child|end-grandchild)/;
const duringThreads = /^(base-threads|threads-)/;

async function phasesOf(t: TestContext, command: readonly string[], warning?: RegExp): Promise<Watched> {
  const watched = await watchHolds(t, {
    config,
    command,
    ...(warning === undefined ? {} : { warning }),
    // An orphan is looked at once its parent is gone; and the target stays until the last of the tree has left.
    after: { "grandchild-orphan": "child", "parent-alone": "grandchild" },
    expectedCode: 7,
  });
  const constant = (name: string): Heap => minus(watched.phase(name).seen, watched.phase(name).own);
  const start = constant("start");
  const threads = constant("base-threads");
  const joined = constant("base-joined");
  matches(watched, (name) => (duringThreads.test(name) ? threads : afterThreads.test(name) ? joined : start));
  // The constants are the allocator's and the C library's own blocks. They are not unlimited, or they would hide anything: a
  // thread costs the same as every other, and a fresh image starts with what the first one started with (that
  // is the comparison of start-after-exec above).
  const perThreads = minus(threads, start);
  assert.ok(perThreads.blocks >= 0 && perThreads.blocks <= 24 && perThreads.blocks % 8 === 0, `blocks for eight threads: ${perThreads.blocks}`);
  assert.ok(perThreads.bytes <= 8 * 4096 && perThreads.bytes % 8 === 0, `bytes for eight threads: ${perThreads.bytes}`);
  const record = watched.run.record().modules.mem;
  assert.equal(record?.events_lost ?? 0, 0, "nothing lost");
  return watched;
}

/** A program that allocates nothing before main, in a C library that does not either: mem.csv starts at nothing at all. */
function startsEmpty(watched: Watched): void {
  assert.deepEqual(watched.phase("start").seen, { bytes: 0, blocks: 0 });
  assert.deepEqual(watched.phase("start-after-exec").seen, { bytes: 0, blocks: 0 });
}

test("mem: every allocation function, threads, fork and exec, byte for byte", async (t) => {
  const watched = await phasesOf(t, [workload("heap_phases")]);
  startsEmpty(watched);
  assert.deepEqual(watched.table.header.slice(0, 5), ["Ticks", "PID", "COMM", "size(B)", "times"]);
  for (const row of watched.table.rows) assert.ok(row.number("size(B)") >= 0 && row.number("times") >= 0, row.toString());
});

test("mem: a static glibc binary, found by its symbols", async (t) => {
  await phasesOf(t, [workload("heap_static")]);
});

test("mem: a static musl binary, found by its symbols", async (t) => {
  startsEmpty(await phasesOf(t, [workload("heap_musl")]));
});

for (const [library, ...extra] of [
  // jemalloc has no pvalloc: libc's would answer, and jemalloc's free would not know the block.
  ["libjemalloc.so.2", "no-pvalloc"],
  ["libtcmalloc_minimal.so.4"],
  ["libmimalloc.so.2"],
] as const) {
  test(`mem: ${library} in front of libc`, async (t) => {
    await phasesOf(t, ["env", `LD_PRELOAD=${library}`, workload("heap_phases"), ...extra]);
  });
}

test("mem: an allocator of another name from a private folder, met while the program runs", async (t) => {
  const library = join(scratch(t), "libprivate.so");
  const [, installed = ""] = /libmimalloc\S* .*=> (\S+)$/m.exec(execFileSync("/sbin/ldconfig", ["-p"], { encoding: "utf8" })) ?? [];
  copyFileSync(installed, library);
  await phasesOf(t, ["env", `LD_PRELOAD=${library}`, workload("heap_phases")], /libprivate\.so was met while running/);
});

test("mem: a static binary started by a shell, met while it runs", async (t) => {
  startsEmpty(await phasesOf(t, ["sh", "-c", `${workload("heap_musl")}; exit $?`], /heap_musl was met while running/));
});

test("mem: a program in a root of its own, with its own C library", async (t) => {
  const folder = scratch(t);
  const program = workload("heap_phases");
  const needed = [...execFileSync("ldd", [program], { encoding: "utf8" }).matchAll(/(\/\S+) \(0x/g)].flatMap(([, file]) => (file === undefined ? [] : [file]));
  assert.ok(needed.length >= 2, "libc and the loader");
  // It starts /bin/true for us; any program that needs no more will do.
  for (const [from, to] of [...needed.map((file) => [file, file]), [program, "/heap_phases"], ["/bin/true", "/bin/true"]] as const) {
    mkdirSync(dirname(join(folder, to)), { recursive: true });
    copyFileSync(from, join(folder, to));
  }
  startsEmpty(await phasesOf(t, ["chroot", folder, "/heap_phases"], /libc\S* was met while running/));
});

test("mem: a filter that kills for any unknown system call does not kill for ours", async (t) => {
  const run = new Run(t, { config, command: [workload("heap_seccomp")] });
  const { stdout } = await run.quietly();
  const [, pid, bytes, blocks] = /^end main (\d+) (\d+) (\d+) /m.exec(stdout) ?? [];
  assert.deepEqual(run.table("mem.csv").ends(Number(pid)).map((row) => [row.text("size(B)"), row.text("times")]), [[bytes, blocks]]);
});

const interpreter = `
import ctypes
hold = ctypes.CDLL(None).heap_shim_hold
hold(b"start")
kept = [{i: str(i) * (i % 50)} for i in range(20000)]
hold(b"filled")
text = "x" * 5000000
hold(b"large")
del text
kept = kept[::2]
hold(b"half")
kept = None
hold(b"freed")
`;

test("mem: an interpreter behind a second malloc: each block once, as the interposed allocator counts it", async (t) => {
  const folder = scratch(t);
  const script = join(folder, "script.py");
  writeFileSync(script, interpreter);
  const watched = await watchHolds(t, {
    config,
    command: ["env", `LD_PRELOAD=${workload("heap_shim")}`, "PYTHONMALLOC=malloc", "python3", script],
  });
  // Nothing is subtracted: the shim is there from the image's first malloc.
  matches(watched, () => ({ bytes: 0, blocks: 0 }));
  const filled = minus(watched.phase("filled").own, watched.phase("start").own);
  assert.ok(filled.blocks > 40000, "the script allocated");
});

const mallinfo = `
import ctypes, signal, sys
class Info(ctypes.Structure):
    _fields_ = [(n, ctypes.c_size_t) for n in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
kept = [bytearray(i % 700) for i in range(50000)]
info = libc.mallinfo2()
print("mallinfo", libc.getpid(), info.uordblks + info.hblkhd, info.fsmblks, flush=True)
signal.sigwait([signal.SIGUSR1])
`;

test("mem: python3 with libc's malloc agrees with mallinfo2", async (t) => {
  const folder = scratch(t);
  const script = join(folder, "script.py");
  writeFileSync(script, mallinfo);
  // Without the per-thread cache, whose free chunks mallinfo2 counts as used.
  const run = new Run(t, {
    config,
    command: ["env", "GLIBC_TUNABLES=glibc.malloc.tcache_count=0", "PYTHONMALLOC=malloc", "python3", script],
  });
  const [, pidText, usedText, fastText] = await run.says(/^mallinfo (\d+) (\d+) (\d+)$/m);
  const pid = Number(pidText);
  const used = Number(usedText) - Number(fastText);
  const now = Date.now() / 1000;
  const row = await until("two rows after the count", () =>
    run.growing("mem.csv")?.of(pid).filter((candidate) => !candidate.isEnd && candidate.ticks > now)[1],
  );
  process.kill(pid, "SIGUSR1");
  const size = row.number("size(B)");
  const times = row.number("times");
  await run.quietly();
  assert.ok(times > 50000, `blocks: ${times}`);
  // A glibc chunk is the request and 8 bytes, rounded up to 16, and at least 32; a mapped one is rounded up to the page
  // (there are a handful). The print itself came between the two counts: a few buffers' worth.
  const slack = 16 * 4096;
  assert.ok(used >= size + 8 * times - slack, `mallinfo2 ${used}, treesnoop ${size} in ${times}`);
  assert.ok(used <= size + 32 * times + slack, `mallinfo2 ${used}, treesnoop ${size} in ${times}`);
});

test("mem: redis-server agrees with its allocator's own statistics", async (t) => {
  const folder = scratch(t);
  const socket = join(folder, "redis.sock");
  const run = new Run(t, {
    config,
    command: ["redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", folder],
    deadline: 90,
  });
  const ask = async (...request: string[]): Promise<string> => {
    const { connect } = await import("node:net");
    return new Promise((resolve, reject) => {
      const stream = connect(socket);
      let answer = "";
      stream.setEncoding("utf8");
      stream.on("error", reject);
      stream.on("data", (text: string) => {
        answer += text;
      });
      stream.on("close", () => {
        resolve(answer);
      });
      stream.end(`${request.join("\r\n")}\r\nQUIT\r\n`);
    });
  };
  await until("redis to answer", async () => (await ask("PING").catch(() => "")).includes("PONG"));
  const pid = Number(/process_id:(\d+)/.exec(await ask("INFO server"))?.[1]);
  const fill: string[] = [];
  for (let i = 0; i < 20000; i++) fill.push(`SET key:${i} ${"v".repeat(i % 400)}x`);
  await ask(...fill);
  const stats = await ask("MEMORY STATS");
  const allocated = Number(/allocator\.allocated\r\n:(\d+)/.exec(stats)?.[1]);
  const keys = Number(/keys\.count\r\n:(\d+)/.exec(stats)?.[1]);
  assert.equal(keys, 20000);
  const now = Date.now() / 1000;
  const row = await until("two rows after the fill", () =>
    run.growing("mem.csv")?.of(pid).filter((candidate) => !candidate.isEnd && candidate.ticks > now)[1],
  );
  process.kill(pid, "SIGTERM");
  const outcome = await run.finished;
  assert.equal(outcome.code, 0);
  const size = row.number("size(B)");
  assert.ok(row.number("times") > 40000, `blocks: ${row.number("times").toString()}`);
  // jemalloc counts size classes: at least what was asked for, at most a quarter more (and 16 for the smallest). Its
  // statistics, too, allocate while they are read.
  const slack = 256 * 1024;
  assert.ok(size <= allocated + slack, `jemalloc ${allocated}, treesnoop ${size}`);
  assert.ok(size >= allocated / 1.25 - 16 * row.number("times") - slack, `jemalloc ${allocated}, treesnoop ${size}`);
});

test("mem: a process watched from the middle of its life counts what it allocates from then on", async (t) => {
  const target = new Command(t, [workload("heap_phases")], { deadline: 120 });
  // Whatever was live before is unknown; a free of such a block must not be counted below zero.
  const seen = async (name: string): Promise<{ pid: number; own: Heap }> => {
    const [, pid, bytes, blocks] = await target.says(new RegExp(`^hold ${name} (\\d+) (\\d+) (\\d+) `, "m"));
    return { pid: Number(pid), own: { bytes: Number(bytes), blocks: Number(blocks) } };
  };
  const { pid } = await seen("start");
  process.kill(pid, "SIGUSR1");
  const { own: before } = await seen("malloc");
  const run = new Run(t, { config, options: ["-p", pid.toString()], deadline: 120 });
  await run.ticked("mem.csv", 2);
  const measure = async (): Promise<Heap> => {
    const now = Date.now() / 1000;
    const row = await until("two rows", () =>
      run.growing("mem.csv")?.of(pid).filter((candidate) => !candidate.isEnd && candidate.ticks > now)[1],
    );
    return { bytes: row.number("size(B)"), blocks: row.number("times") };
  };
  assert.deepEqual(await measure(), { bytes: 0, blocks: 0 });
  for (const name of ["malloc-zero", "calloc", "realloc-null"]) {
    process.kill(pid, "SIGUSR1");
    const { own } = await seen(name);
    assert.deepEqual(await measure(), minus(own, before), name);
  }
  // The first block is from before: growing it makes it a known one.
  process.kill(pid, "SIGUSR1");
  const { own: grown } = await seen("realloc-grow");
  assert.deepEqual(await measure(), grown, "realloc of a block from before the attach");
  process.kill(pid, "SIGKILL");
  await run.finished;
  const ends = run.table("mem.csv").ends(pid);
  assert.equal(ends.length, 1);
});

test("mem: fourteen generations of fork without exec", async (t) => {
  const watched = await watchHolds(t, { config, command: [workload("heap_forks"), "chain"] });
  matches(watched, () => ({ bytes: 0, blocks: 0 }));
  assert.equal(new Set([...watched.phases.values()].map(({ pid }) => pid)).size, 14);
});

test("mem: fifty living children, then the parent frees what all of them inherited", async (t) => {
  const watched = await watchHolds(t, { config, command: [workload("heap_forks"), "prefork"] });
  matches(watched, () => ({ bytes: 0, blocks: 0 }));
  assert.equal(watched.phases.size, 1 + 2 * 50);
});

test("mem: forks while eight threads allocate", async (t) => {
  const watched = await watchHolds(t, { config, command: [workload("heap_forks"), "threads"] });
  const joined = minus(watched.phase("joined").seen, watched.phase("joined").own);
  assert.ok(joined.blocks >= 0 && joined.blocks <= 16, `left by the threads' start: ${joined.blocks} blocks`);
  for (const [name, { seen }] of watched.phases) {
    if (!name.startsWith("inflight-")) continue;
    // A child inherits, out of its reach, what each thread had in its hands at that moment: two blocks of up to 507 bytes.
    const left = minus(seen, joined);
    const story = `${name}: ${left.bytes} B in ${left.blocks}`;
    assert.ok(left.blocks >= 0 && left.blocks <= 16 && left.bytes >= 0 && left.bytes <= 16 * 507, story);
    assert.ok(left.bytes >= left.blocks * 8, story);
  }
});

test("mem: 1.3 million live blocks are counted, or it is said that they are not", async (t) => {
  const watched = await watchHolds(t, { config, command: [workload("heap_forks"), "million"], deadline: 180 });
  const lost = watched.run.record().modules["mem"]?.events_lost ?? 0;
  if (lost === 0) {
    matches(watched, () => ({ bytes: 0, blocks: 0 }));
    return;
  }
  // What found no room is missing, exactly; and nothing goes below zero when it is freed.
  const many = watched.phase("many");
  assert.equal(many.seen.blocks + lost, many.own.blocks);
  assert.equal(many.seen.bytes, many.seen.blocks * 17);
  assert.deepEqual(watched.phase("none").seen, { bytes: 0, blocks: 0 });
});

test("mem: a vfork child allocates in its parent's memory", async (t) => {
  matches(await watchHolds(t, { config, command: [workload("heap_forks"), "vfork"] }), () => ({ bytes: 0, blocks: 0 }));
});

test("mem: what the dead leave behind makes room for the living", async (t) => {
  // Each perl ends with some hundred thousand blocks it never frees: more in all than the ledger holds at a time.
  const perl = `PERL_HASH_SEED=0 perl -e 'push @kept, "x" x 64 for 1..100000'`;
  const run = new Run(t, { config, command: ["sh", "-c", `i=0; while [ $i -lt 15 ]; do ${perl}; i=$((i+1)); done`], deadline: 120 });
  await run.quietly();
  const ends = run.table("mem.csv").rows.filter((row) => row.isEnd && row.text("COMM") === "perl");
  assert.equal(ends.length, 15);
  assert.ok(ends.every((row) => row.number("times") > 100_000));
  assert.equal(new Set(ends.map((row) => `${row.text("size(B)")} B in ${row.text("times")}`)).size, 1, "the same program with the same input");
  assert.equal(run.record().modules["mem"]?.events_lost ?? 0, 0);
});

test("mem: --host: whoever starts while it runs", async (t) => {
  const run = new Run(t, { config: { ...config, interval: 0.2 }, options: ["--host"], deadline: 60 });
  await run.ticked("mem.csv", 2);
  const { stdout } = await execute(t, [workload("leak_probes"), "child"]);
  const said = [...stdout.matchAll(/^end \S+ (\d+) (\d+) (\d+) /gm)];
  assert.equal(said.length, 2);
  for (const [, pid, bytes, blocks] of said) {
    const [end] = await until(`the END row of ${pid ?? ""}`, () => {
      const ends = run.growing("mem.csv")?.ends(Number(pid)) ?? [];
      return ends.length > 0 && ends;
    });
    assert.deepEqual([end?.text("size(B)"), end?.text("times")], [bytes, blocks]);
  }
  run.child.kill("SIGINT");
  assert.equal((await run.finished).stderr, "");
});
