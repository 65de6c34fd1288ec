// The udp_latency module against a reader that lets datagrams wait: two namespaces joined by a veth pair. Owns: that each
// datagram read late has its row, with the ports the sender names, the length, and the wait the reader itself reckons from the
// kernel's own stamp of the arrival; that nothing else has one; that what was dropped or could not be told is counted.
import assert from "node:assert/strict";
import { test } from "node:test";
import { twoHosts } from "./support/netns.js";
import { workload } from "./support/paths.js";
import { Command, execute, Run } from "./support/run.js";
import { agree, configuration, letters, listen, send, socketDrops, stamping, table, tool, udpCounter, warningsOf, watching } from "./support/udp.js";
import { delay, until } from "./support/wait.js";

test("udp_latency", async (whole) => {
  const { near, far } = await twoHosts(whole);
  await stamping(whole);

  await whole.test("each way of reading, IPv4, IPv6 and IPv4 on an IPv6 socket, small and large", async (t) => {
    for (const [how, bound, address, ip, size] of [
      ["recvmsg", near.ipv4, near.ipv4, 4, "0"],
      ["recvmmsg", near.ipv6, near.ipv6, 6, "100"],
      ["peek", "::", near.ipv4, 4, "1300"],
      ["thread", "0.0.0.0", near.ipv4, 4, "10"],
      ["recvmsg", "::", near.ipv6, 6, "9000"],
      // What comes after connect(2) finds its socket by another way.
      ["connect", near.ipv4, near.ipv4, 4, "20"],
      ["connect", near.ipv6, near.ipv6, 6, "20"],
    ] as const) {
      let port = 0;
      const { rows, read, pid, lost } = await listen(t, near, [bound, "7000", "24", "8", how, "10000000"], async () => {
        ({ port } = await send(t, far, address, "7000", "24", size, ...(how === "connect" ? ["slow"] : [])));
      });
      assert.equal(read.length, 24);
      assert.ok(rows.length >= 24 / 2, `${how}: ${rows.length} rows`);
      agree(rows, read);
      assert.equal(lost, 0, how);
      for (const row of rows) {
        assert.equal(row.pid, pid);
        assert.equal(row.text("COMM"), "udp_wait");
        const from = ip === 4 ? far.ipv4 : far.ipv6;
        const ends = ["SADDR", "SPORT", "DADDR", "DPORT", "IP"].map((name) => row.text(name));
        assert.deepEqual(ends, [from, port.toString(), address, "7000", ip.toString()], how);
      }
    }
  });

  await whole.test("loopback", async (t) => {
    const { rows, read, lost } = await listen(t, near, ["127.0.0.1", "7000", "20", "5", "recvmsg"], () =>
      send(t, near, "127.0.0.1", "7000", "20", "1"),
    );
    agree(rows, read);
    assert.deepEqual([read.length, lost], [20, 0]);
  });

  await whole.test("segments of one send, joined for a reader that asks so and apart for others", async (t) => {
    for (const [how, count] of [
      ["gro", 1],
      ["recvmsg", 10],
    ] as const) {
      const { rows, read, lost } = await listen(
        t,
        near,
        [near.ipv4, "7000", count.toString(), "20", how],
        () => send(t, far, near.ipv4, "7000", "10", "1000", "gso"),
      );
      assert.deepEqual([rows.length, lost], [count, 0], how);
      for (const [index, row] of rows.entries()) {
        assert.equal(row.number("LEN"), how === "gro" ? 10000 : 1000);
        const difference = (read[index]?.waited ?? 0) - row.number("LAT");
        assert.ok(difference > -500 && difference < 50000, `${row.toString()}: ${difference}`);
      }
    }
  });

  await whole.test("every datagram read is a row or counted, whoever reads how fast", async (t) => {
    const all = { udp_latency_threshold_ns: 0 };
    for (const [how, senders, share] of [
      ["recvmsg", 1, 0.1],
      ["spin", 2, 0.1],
      // Which of two threads took which is certain only while no other is about to say what it took.
      ["two", 2, 1],
    ] as const) {
      const count = senders * 3000;
      const { rows, read, lost } = await listen(
        t,
        near,
        [near.ipv4, "7000", count.toString(), "0", how, "100000000"],
        () =>
          Promise.all(
            Array.from({ length: senders }, () => send(t, far, near.ipv4, "7000", "3000", "1")),
          ),
        all,
      );
      assert.equal(read.length, count);
      assert.equal(rows.length + lost, count, how);
      assert.ok(lost <= count * share, `${how}: ${lost} of ${count} could not be told`);
      t.diagnostic(`${how}: ${lost} of ${count} could not be told`);
      const told = new Map(read.map((letter) => [`${letter.port} ${letter.length}`, letter.waited]));
      const differences = rows.map((row) => {
        const key = `${row.number("SPORT")} ${row.number("LEN")}`;
        const waited = told.get(key);
        assert.ok(waited !== undefined && told.delete(key), row.toString());
        return waited - row.number("LAT");
      });
      t.diagnostic(`the reader's figure less the row's: ${Math.min(...differences).toFixed(1)} to ${Math.max(...differences).toFixed(1)} µs`);
      assert.ok(Math.min(...differences) > -500);
    }
  });

  await whole.test("a thread that reports its read after another has read and reported the next: neither has a row", async (t) => {
    const run = new Run(t, { config: configuration({ udp_latency_threshold_ns: 0 }), command: near.inside(workload("udp_stuck"), "7000") });
    const { stdout } = await run.quietly();
    const ports = (name: string): number[] => [...stdout.matchAll(new RegExp(`^${name} (\\d+)$`, "gm"))].map(([, port]) => Number(port));
    assert.deepEqual([ports("plain").length, ports("held").length, ports("passed").length], [3, 1, 1], stdout);
    const rows = run.table(table).rows.filter((row) => !row.isEnd);
    assert.deepEqual(rows.map((row) => row.number("SPORT")), ports("plain"));
    assert.equal(run.record().modules.udp_latency?.events_lost, 2);
  });

  await whole.test("a full receive queue, and a socket closed on what it holds", async (t) => {
    const before = udpCounter(near, "RcvbufErrors");
    let drops = 0;
    const { run, rows, read, lost } = await listen(t, near, [near.ipv4, "7000", "10", "5", "leave", "20000"], async (pid) => {
      await send(t, far, near.ipv4, "7000", "200", "100");
      drops = socketDrops(near);
      process.kill(pid, "SIGUSR1");
    });
    agree(rows, read);
    assert.deepEqual([rows.length, lost], [10, 0]);
    assert.ok(drops > 0);
    assert.equal(udpCounter(near, "RcvbufErrors") - before, drops);
    const warnings = warningsOf(run);
    assert.ok(warnings.includes(` ${drops} datagrams were dropped before they could be read`), warnings);
    assert.ok(warnings.includes(` ${200 - drops - 10} datagrams were thrown away unread`), warnings);
  });

  await whole.test("a datagram with a wrong checksum never reaches its reader", async (t) => {
    const before = udpCounter(near, "InCsumErrors");
    const { run, rows, read, lost } = await listen(t, near, [near.ipv4, "7000", "5", "20", "hold"], async (pid) => {
      await send(t, far, near.ipv4, "7000", "1", "10");
      await send(t, far, near.ipv4, "7000", "3", "500", "spoil");
      await send(t, far, near.ipv4, "7000", "4", "100");
      process.kill(pid, "SIGUSR1");
    });
    assert.equal(udpCounter(near, "InCsumErrors") - before, 3);
    assert.equal(read.length, 5);
    assert.equal(rows.length + lost, 5);
    agree(rows, read.filter(({ length }) => rows.some((row) => row.number("LEN") === length)));
    const warnings = warningsOf(run);
    assert.ok(warnings.includes(" 3 datagrams were dropped before they could be read"), warnings);
  });

  await whole.test("one port, one tree; the whole host", async (t) => {
    const script = [7001, 7002].map((port) => `${tool} read ${near.ipv4} ${port} 10 5 recvmsg &`).join(" ");
    const run = new Run(t, {
      config: configuration({ udp_latency_dport: 7002 }),
      command: near.inside("sh", "-c", `${script} wait`),
    });
    await until("both readers", () => run.stdout.match(/^ready/gm)?.length === 2);
    const other = new Command(t, far.inside(tool, "read", far.ipv4, "7002", "10", "5", "recvmsg"));
    await other.says(/^ready/m);
    for (const [from, to, port] of [
      [far, near, "7001"],
      [far, near, "7002"],
      [near, far, "7002"],
    ] as const)
      await send(t, from, to.ipv4, port, "10", "10");
    await Promise.all([run.quietly(), other.finished]);
    const rows = run.table(table).rows.filter((row) => !row.isEnd);
    assert.deepEqual(new Set(rows.map((row) => `${row.text("DADDR")} ${row.text("DPORT")}`)), new Set([`${near.ipv4} 7002`]));
    assert.equal(rows.length, 10);

    const host = new Run(t, { config: configuration({ udp_latency_dport: 7003 }), options: ["--host"] });
    await watching(host);
    const seen = new Command(t, near.inside(tool, "read", near.ipv4, "7003", "10", "5", "recvmsg"));
    const pid = Number((await seen.says(/^ready (\d+)$/m))[1]);
    const { port } = await send(t, far, near.ipv4, "7003", "10", "10");
    const { stdout } = await seen.finished;
    host.child.kill("SIGINT");
    await host.finished;
    const found = host.table(table).rows.filter((row) => !row.isEnd);
    agree(found, letters(stdout));
    assert.equal(found.length, 10);
    for (const row of found) assert.deepEqual([row.pid, row.number("SPORT")], [pid, port]);
  });

  await whole.test("dig against dnsmasq: each query that waits, from the port dig names", async (t) => {
    const server = ["dnsmasq", "-k", "-C", "/dev/null", "-u", "root", "-p", "7053", "-R", "-h", "-q", "--log-facility=-", "--pid-file", "--address=/example.test/192.0.2.7"];
    const run = new Run(t, { config: configuration({ udp_latency_threshold_ns: 0, udp_latency_dport: 7053 }), command: near.inside("sh", "-c", `echo ready $$; exec ${server.join(" ")}`) });
    const pid = Number((await run.says(/^ready (\d+)$/m))[1]);
    const holding = (): boolean => / [0-9A-F]+:1B8D \S+ \S+ \S+:0*[1-9A-F]/m.test(near.ask("cat", "/proc/net/udp", "/proc/net/udp6"));
    await until("dnsmasq", () => near.ask("ss", "-Hlun", "sport = :7053") !== "");
    const expected: string[] = [];
    const bounds: (readonly [number, number])[] = [];
    for (const [index, [from, to]] of [[far.ipv4, near.ipv4], [far.ipv6, near.ipv6]].entries()) {
      for (let port = 7100; port < 7105; port++) {
        const begun = performance.now();
        process.kill(pid, "SIGSTOP");
        const dig = execute(t, far.inside("dig", "+short", "+tries=1", "+time=10", "-p", "7053", "-b", `${from}#${port}`, `@${to}`, "example.test"));
        await until("the query", holding);
        const there = performance.now();
        await delay(20 + 5 * index);
        const least = performance.now() - there;
        process.kill(pid, "SIGCONT");
        assert.equal((await dig).stdout, "192.0.2.7\n");
        bounds.push([least * 1000, (performance.now() - begun) * 1000]);
        expected.push(`${from} ${port} ${to} 7053`);
      }
    }
    process.kill(pid, "SIGTERM");
    await run.finished;
    const rows = run.table(table).rows.filter((row) => !row.isEnd);
    assert.deepEqual(rows.map((row) => ["SADDR", "SPORT", "DADDR", "DPORT"].map((name) => row.text(name)).join(" ")), expected);
    for (const [index, row] of rows.entries()) {
      const [least = 0, most = 0] = bounds[index] ?? [];
      assert.ok(row.number("LAT") > least && row.number("LAT") < most, `${row.toString()}: ${least} to ${most}`);
      assert.deepEqual([row.pid, row.text("COMM")], [pid, "dnsmasq"]);
    }
    assert.equal(run.record().modules.udp_latency?.events_lost, 0);
  });

  await whole.test("what waited before the run began is in no row, what comes later is", async (t) => {
    const reader = new Command(t, near.inside(tool, "read", near.ipv4, "7000", "20", "5", "hold"));
    const pid = Number((await reader.says(/^ready (\d+)$/m))[1]);
    const early = await send(t, far, near.ipv4, "7000", "10", "10");
    const run = new Run(t, { config: configuration(), options: ["-p", pid.toString()] });
    await watching(run);
    const late = await send(t, far, near.ipv4, "7000", "10", "100");
    process.kill(pid, "SIGUSR1");
    const { stdout } = await reader.finished;
    await run.quietly();
    const rows = run.table(table).rows.filter((row) => !row.isEnd);
    agree(rows, letters(stdout).filter(({ port }) => port !== early.port));
    assert.deepEqual([rows.length, run.record().modules.udp_latency?.events_lost], [late.count, 0]);
  });
});
