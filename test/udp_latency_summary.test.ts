// The udp_latency_summary module against the rows of udp_latency, which are the same measurement datagram by datagram, against the reader's
// own figures, and against the socket's and the namespace's own counters of drops. Owns: that datagrams, percentiles, the
// longest wait and drops of a process add up. Does not own: how long one datagram waits (udp_latency.test.ts).
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Row } from "./support/csv.js";
import { twoHosts } from "./support/netns.js";
import { edit } from "./support/edit.js";
import { Command, Run } from "./support/run.js";
import { agree, listen, send, socketDrops, stamping, summary, tool, udpCounter, watching } from "./support/udp.js";
import { until } from "./support/wait.js";

const header = "Ticks,PID,COMM,DATAGRAMS,P50,P90,P99,MAX,DROPS";
const all = { udp_latency_threshold_ns: 0 };

const sum = (rows: readonly Row[], column: string): number => rows.reduce((total, row) => total + row.number(column), 0);

/** The smallest of them that the share does not exceed. */
function percentile(figures: readonly number[], share: number): number {
  const sorted = [...figures].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? NaN;
}

test("udp_latency_summary", async (whole) => {
  const { near, far } = await twoHosts(whole);
  await stamping(whole);

  await whole.test("percentiles and the longest of one tick, of the rows and of the reader", async (t) => {
    const { run, rows, sums, read, lost } = await listen(
      t,
      near,
      [near.ipv4, "7000", "120", "2", "hold", "10000000"],
      async (pid) => {
        await send(t, far, near.ipv4, "7000", "120", "10");
        process.kill(pid, "SIGUSR1");
      },
      { ...all, interval: 30 },
    );
    assert.equal(run.table(summary).header.join(","), header);
    assert.deepEqual([sums.length, rows.length, lost], [1, 120, 0]);
    const [row] = sums;
    assert.ok(row?.isEnd === true);
    agree(rows, read, 0);
    const waits = rows.map((each) => each.number("LAT"));
    for (const [column, share] of [["P50", 0.5], ["P90", 0.9], ["P99", 0.99]] as const) {
      const figure = row.number(column);
      assert.ok(Math.abs(figure / percentile(waits, share) - 1) <= 0.126, `${column} ${figure}: ${percentile(waits, share)}`);
      const own = percentile(read.map((letter) => letter.waited), share);
      assert.ok(Math.abs(figure / own - 1) <= 0.25, `${column} ${figure}, the reader ${own}`);
    }
    assert.deepEqual([row.number("DATAGRAMS"), row.number("MAX"), row.number("DROPS")], [120, Math.max(...waits), 0]);
  });

  await whole.test("over many ticks: every datagram once, each tick's longest, IPv4 and IPv6", async (t) => {
    for (const address of [near.ipv4, near.ipv6]) {
      const { rows, sums, lost } = await listen(
        t,
        near,
        ["::", "7000", "60", "15", "recvmsg", "10000000"],
        () => send(t, far, address, "7000", "60", "10"),
        all,
      );
      assert.ok(sums.length >= 3, `${sums.length} rows`);
      assert.deepEqual([rows.length, sum(sums, "DATAGRAMS"), lost], [60, 60, 0]);
      const waits = new Set(rows.map((row) => row.number("LAT")));
      for (const row of sums.filter((each) => each.text("MAX") !== "")) {
        assert.ok(waits.has(row.number("MAX")), row.toString());
        assert.ok(row.number("P50") <= row.number("P90") && row.number("P90") <= row.number("P99") && row.number("P99") <= row.number("MAX"));
      }
      assert.equal(Math.max(...waits), Math.max(...sums.filter((row) => row.text("MAX") !== "").map((row) => row.number("MAX"))));
    }
  });

  await whole.test("drops: the socket's own counter, a full queue and wrong checksums", async (t) => {
    // Of more than 76 bytes: the kernel looks at the checksums of others before it looks for their socket.
    const errors = (): number => udpCounter(near, "RcvbufErrors") + udpCounter(near, "InCsumErrors");
    const before = errors();
    const spoiled = await listen(t, near, [near.ipv4, "7000", "12", "5", "hold", "20000"], async (pid) => {
      await send(t, far, near.ipv4, "7000", "5", "50");
      await send(t, far, near.ipv4, "7000", "3", "500", "spoil");
      await send(t, far, near.ipv4, "7000", "200", "100");
      process.kill(pid, "SIGUSR1");
    });
    assert.ok(errors() - before > 3);
    assert.equal(spoiled.read.length, 12);
    assert.equal(sum(spoiled.sums, "DROPS"), errors() - before);
    assert.equal(sum(spoiled.sums, "DATAGRAMS") + spoiled.lost, 12);

    let drops = 0;
    const full = await listen(t, near, [near.ipv4, "7000", "10", "5", "leave", "20000"], async (pid) => {
      await send(t, far, near.ipv4, "7000", "300", "100");
      drops = socketDrops(near);
      process.kill(pid, "SIGUSR1");
    });
    assert.ok(drops > 0);
    assert.equal(sum(full.sums, "DROPS"), drops);
    assert.equal(sum(full.sums, "DATAGRAMS"), 10);
  });

  await whole.test("alone, whole host: readers apart, nobody's rows where nothing is read", async (t) => {
    const run = new Run(t, { config: { snoop_udp_latency_summary: "bpf", interval: 0.2 }, options: ["--host"] });
    await watching(run, summary);
    const readers = [7001, 7002].map((port) => new Command(t, near.inside(tool, "read", near.ipv4, String(port), port === 7001 ? "10" : "25", "5", "recvmsg")));
    const pids: number[] = [];
    for (const reader of readers) pids.push(Number((await reader.says(/^ready (\d+)$/m))[1]));
    await send(t, far, near.ipv4, "7001", "10", "10");
    await send(t, far, near.ipv4, "7002", "25", "10");
    for (const reader of readers) await reader.finished;
    const written = (): readonly number[] => pids.map((pid) => run.growing(summary)?.ends(pid).length ?? 0);
    await until("END of both", () => written().every((count) => count === 1));
    run.child.kill("SIGINT");
    await run.finished;
    const rows = run.table(summary);
    assert.deepEqual(pids.map((pid) => sum(rows.of(pid), "DATAGRAMS")), [10, 25]);
    for (const row of rows.rows) assert.ok(row.isEnd || row.number("DATAGRAMS") + row.number("DROPS") > 0, row.toString());
  });
});

test("udp_latency_summary: an edit of the module it shares everything with takes nothing from it", async (t) => {
  const script = `import socket, sys
for line in sys.stdin:
    with socket.socket(type=socket.SOCK_DGRAM) as there, socket.socket(type=socket.SOCK_DGRAM) as here:
        there.bind(("127.0.0.1", 0))
        for i in range(5): here.sendto(b"x", there.getsockname()); there.recv(1)
    print("did", line, flush=True)`;
  const config = { snoop_udp_latency: "bpf", snoop_udp_latency_summary: "bpf", udp_latency_threshold_ns: 3_000_000, interval: 0.1 };
  const run = new Run(t, { config, command: ["/usr/bin/python3", "-c", script], input: "open" });
  const step = async (name: string): Promise<void> => {
    run.write(`${name}\n`);
    await run.says(new RegExp(`^did ${name}`, "m"));
  };
  await step("before");
  edit(run, { ...config, udp_latency_threshold_ns: 2_000_000 });
  await until("the edit", () => run.record().config["udp_latency_threshold_ns"] === 2_000_000);
  await step("after");
  run.endInput();
  await run.quietly();
  assert.equal(sum(run.table(summary).rows, "DATAGRAMS"), 10);
});
