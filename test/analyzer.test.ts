// What /api/NumLatencyFrequency says of connections between network namespaces, against tshark on the wire, delay_in and delay_out, the
// kernel's own count of retransmissions. Owns: the counts, latencies, drops, processes and the form of the thirteen lines. Does not own: the server
// (http*.test.ts).
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, type TestContext } from "node:test";
import { WebSocket } from "ws";
import { test } from "./support/attempts.js";
import { Asked, type Crossing, innerOf, type Layer, nameOf, orderOfLines, url } from "./support/asked.js";
import type { Row } from "./support/csv.js";
import { Client, clientOf, freePort } from "./support/http.js";
import { told } from "./support/delays.js";
import { answers, configureWebServer, type Host, serveWeb, shape, sparseFile, twoHosts } from "./support/netns.js";
import { Capture, type Seen } from "./support/packet_times.js";
import { scratch } from "./support/paths.js";
import { Command, execute, Run } from "./support/run.js";
import { delay, until } from "./support/wait.js";

const http = { port: 0 };

async function watchedHost(t: TestContext, config: object = {}): Promise<{ run: Run; client: Client }> {
  const run = new Run(t, { config: { http, ...config }, options: ["--host"], deadline: 120 });
  return { run, client: await clientOf(run) };
}

async function over(run: Run): Promise<void> {
  run.child.kill("SIGINT");
  assert.equal((await run.finished).stderr.replace(/^.*http:.*\n/gm, ""), "");
}

/** Segments that a host has sent again, as its kernel counts them. */
function retransmitted(host: Host): number {
  return Number(/TcpRetransSegs\s+(\d+)/.exec(host.ask("nstat", "-a", "-z", "-s", "TcpRetransSegs"))?.[1]);
}

/** Attachments the process holds. */
function links(pid: number): number {
  return readdirSync(`/proc/${pid}/fdinfo`).filter((fd) => {
    try {
      return /^link_type:/m.test(readFileSync(`/proc/${pid}/fdinfo/${fd}`, "utf8"));
    } catch {
      return false;
    }
  }).length;
}

function sameCounts(asked: Asked, { sent, received }: Seen): void {
  for (const layer of ["link", "network", "trans"]) {
    assert.equal(asked.num(`${layer} send`), sent.length, `${layer} send`);
    assert.equal(asked.num(`${layer} receive`), received.length, `${layer} receive`);
  }
}

/** Bursts are further from each other than a window's lines may be late, ms: in a window shifted by half of it, some are missing. */
const [pause, edge] = [800, 350];

function sameWindows(asked: Asked, times: readonly number[], name: string): void {
  for (const [index, { at, lines }] of asked.windows.entries()) {
    const from = index === 0 ? -Infinity : (asked.windows[index - 1]?.at ?? 0);
    const num = (lines.find((inner) => nameOf(inner) === name) as Layer).num;
    const within = (slack: number): number => times.filter((time) => time > from - slack && time < at + slack).length;
    assert.ok(num >= within(-edge) && num <= within(edge), `${name}, window ${index}: ${num}, on the wire ${within(-edge)} to ${within(edge)}`);
  }
}

describe("NumLatencyFrequency", () => {
  test("TCP, IPv4 and IPv6: each window as tshark has it, all of them exactly; the process; the form", async (t) => {
    const { near, far } = await twoHosts(t);
    const web = configureWebServer(scratch(t), 0);
    sparseFile(`${web.folder}/page`, 20_000);
    await serveWeb(t, far, web);
    const capture = await Capture.start(t, near, far, "tcp port 80");
    const { run, client } = await watchedHost(t);
    const each = async (ip: "ipv4" | "ipv6"): Promise<(seen: Seen) => void> => {
      const [sip, dip] = [near[ip], far[ip]];
      const params = { ipv4: ip === "ipv4", ipv6: ip === "ipv6", sip, dip, sport: 0, dport: 80, protocol: "tcp" };
      const [asked, again, any, serverSide] = [
        await Asked.open(t, client, params),
        await Asked.open(t, client, params),
        await Asked.open(t, client, { ipv4: params.ipv4, ipv6: params.ipv6, sip, dport: 80 }),
        await Asked.open(t, client, { ...params, sip: dip, dip: sip, sport: 80, dport: 0 }),
      ];
      // Several connections by one process. Five bursts come at every fifth of a second.
      const address = ip === "ipv4" ? dip : `[${dip}]`;
      const curl = new Command(t, near.inside("curl", "-sS", "-f", "-H", "Connection: close", "--rate", `${60_000 / pause}/m`, "-o", "/dev/null", `http://${address}/page?[1-6]`), { deadline: 60 });
      assert.equal((await curl.finished).code, 0, curl.stderr);
      await asked.settled();
      return (seen) => {
        assert.ok(seen.sent.length > 30);
        for (const each of [asked, again, any]) sameCounts(each, seen);
        sameCounts(serverSide, { sent: seen.received, received: seen.sent });
        for (const each of [asked, again]) {
          sameWindows(each, seen.sent, "link send");
          sameWindows(each, seen.received, "trans receive");
        }
        for (const { lines } of asked.windows) {
          assert.deepEqual(lines.map(nameOf), orderOfLines);
          for (const inner of lines) {
            assert.deepEqual([inner.type, inner.saddr, inner.daddr, inner.sport, inner.dport], [ip, sip, dip, 0, 80]);
            const count = "num" in inner ? inner.num : "crosslayer" in inner ? inner["frequency(s)"] : inner["drop(s)"];
            if (count > 0) continue;
            assert.equal(inner.pid, -1);
            if ("crosslayer" in inner) assert.deepEqual([inner.pid_name, inner["LAT(ms)"]], ["NULL", 0]);
          }
        }
        const names = new Set((asked.lines("linktrans send") as Crossing[]).map(({ pid_name }) => pid_name));
        assert.deepEqual(names, new Set(["NULL", "curl"]));
        assert.deepEqual(asked.pids(), new Set([-1, curl.pid]));
        assert.deepEqual(new Set((serverSide.lines("linktrans receive") as Crossing[]).map(({ pid_name }) => pid_name)), new Set(["NULL", "nginx"]));
      };
    };
    const checks = await Promise.all([each("ipv4"), each("ipv6")]);
    const seen = await capture.stop();
    checks[0](seen.ipv4);
    checks[1](seen.ipv6);
    await over(run);
  });

  test("what comes to a connection that one end has let go of: TCP finds what it keeps of it", async (t) => {
    const { near, far } = await twoHosts(t);
    const { run, client } = await watchedHost(t, { snoop_delay_in: "bpf", delay_in_dport: 7000 });
    await until("the table", () => run.growing("delay_in.csv"));
    for (const ip of ["ipv4", "ipv6"] as const) {
      const ends = { ipv4: ip === "ipv4", ipv6: ip === "ipv6" };
      const [asked, serverSide] = [
        await Asked.open(t, client, { ...ends, sip: near[ip], dport: 7000 }),
        await Asked.open(t, client, { ...ends, sip: far[ip], sport: 7000 }),
      ];
      // Three close first, whose acknowledgement comes alone: theirs is in TIME_WAIT when the other end's FIN comes.
      const listening = new Command(t, far.inside("/usr/bin/python3", "-c", `import socket
listener = socket.create_server(("${far[ip]}", 7000), family=socket.AF_INET${ip === "ipv4" ? "" : "6"})
for _ in range(4): listener.accept()[0].close()`));
      await answers(far, "7000");
      const capture = await Capture.start(t, near, far, "tcp port 7000");
      const { code, stderr } = await execute(t, near.inside("/usr/bin/python3", "-c", `import socket, time
for _ in range(3):
  s = socket.create_connection(("${far[ip]}", 7000)); s.recv(1); time.sleep(0.3); s.close()`));
      assert.equal(code, 0, stderr);
      await asked.settled();
      const seen = (await capture.stop())[ip];
      const rows = (): Row[] => run.table("delay_in.csv").rows.filter((row) => row.text("DADDR") === far[ip]);
      await until("the rows", () => rows().length >= seen.sent.length);
      assert.deepEqual(rows().map(({ pid }) => pid), seen.sent.map(() => listening.pid));
      assert.ok(seen.sent.length >= 12, `${seen.sent.length} sent`);
      sameCounts(asked, seen);
      sameCounts(serverSide, { sent: seen.received, received: seen.sent });
      assert.equal(serverSide.drops(), 0);
    }
    await over(run);
  });

  test("UDP: dig and dnsmasq, both families, and only the protocol that was asked for", async (t) => {
    const { near, far } = await twoHosts(t);
    new Command(t, far.inside("dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--port=53", "--user=root", "--conf-file=/dev/null", "--pid-file=", "--address=/example.test/192.0.2.1"), { deadline: 100 });
    await answers(far, "53");
    const capture = await Capture.start(t, near, far, "udp port 53");
    const { run, client } = await watchedHost(t);
    const each = async (ip: "ipv4" | "ipv6"): Promise<(seen: Seen) => void> => {
      const params = { ipv4: ip === "ipv4", ipv6: ip === "ipv6", sip: near[ip], dip: far[ip], dport: 53 };
      const udp = await Asked.open(t, client, { ...params, protocol: "udp" });
      const tcp = await Asked.open(t, client, { ...params, protocol: "tcp" });
      for (let i = 0; i < 10; i++) {
        const { code, stdout } = await execute(t, near.inside("dig", "+short", "+tries=1", `@${far[ip]}`, `host${i}.example.test`));
        assert.equal(`${String(code)} ${stdout.trim()}`, "0 192.0.2.1");
      }
      await udp.settled();
      return (seen) => {
        assert.deepEqual([seen.sent.length, seen.received.length], [10, 10]);
        sameCounts(udp, seen);
        sameCounts(tcp, { sent: [], received: [] });
        assert.deepEqual(tcp.pids(), new Set([-1]));
      };
    };
    const checks = await Promise.all([each("ipv4"), each("ipv6")]);
    const seen = await capture.stop();
    checks[0](seen.ipv4);
    checks[1](seen.ipv6);
    await over(run);
  });

  test("latencies are those of delay_in and delay_out, in a queue of several ms", async (t) => {
    const { near, far } = await twoHosts(t);
    shape(near, "8mbit", 70_000); // a smaller bucket has packets cut in software, which then have no link line
    const web = configureWebServer(scratch(t), 0);
    sparseFile(`${web.folder}/page`, 300_000);
    const upload = sparseFile(join(scratch(t), "upload"), 250_000);
    await serveWeb(t, far, web);
    const { run, client } = await watchedHost(t, { snoop_delay_in: "bpf", snoop_delay_out: "bpf", delay_in_sport: 80, delay_out_dport: 80 });
    await until("both tables", () => run.growing("delay_in.csv") && run.growing("delay_out.csv"));
    const asked = await Asked.open(t, client, { ipv4: true, sip: near.ipv4, dip: far.ipv4, dport: 80 });
    for (const args of [["-T", upload, `http://${far.ipv4}/upload[1-2]`], [`http://${far.ipv4}/page?[1-30]`]]) {
      const { code, stderr } = await execute(t, near.inside("curl", "-sS", "-f", "-o", "/dev/null", ...args));
      assert.equal(code, 0, stderr);
    }
    await asked.settled();
    await over(run);
    const mean = (table: string, columns: readonly string[]): number => {
      const rows = run.table(table).rows.filter((row) => !row.isEnd);
      return rows.reduce((sum, row) => sum + columns.reduce((all, column) => all + row.number(column), 0), 0) / rows.length / 1000;
    };
    const counted = (table: string): number => run.table(table).rows.filter((row) => !row.isEnd).length;
    assert.equal(asked.num("link send"), counted("delay_out.csv"));
    assert.equal(asked.num("link receive"), counted("delay_in.csv") + told(run, "delay_in", /./));
    // Of what is received each takes its own last stamp: the analyzer's comes when delay_in has written its row.
    for (const [crossing, table, columns, leastMs, share, laterMs] of [
      ["linknetwork send", "delay_out.csv", ["QDISC"], 1, 0.02, 0],
      ["linktrans send", "delay_out.csv", ["QDISC", "IP"], 1, 0.02, 0],
      ["networktrans send", "delay_out.csv", ["IP"], 0, 0.3, 0],
      ["linknetwork receive", "delay_in.csv", ["MAC"], 0, 0.3, 0],
      ["networktrans receive", "delay_in.csv", ["IP"], 0, 0.3, 0.05],
      ["linktrans receive", "delay_in.csv", ["MAC", "IP"], 0, 0.3, 0.05],
    ] as const) {
      const [told, expected] = [asked.latency(crossing), mean(table, columns)];
      assert.ok(expected > leastMs, `${crossing}: ${expected} ms`);
      assert.ok(told > (1 - share) * expected && told < (1 + share) * expected + laterMs, `${crossing}: ${told} ms, ${columns.join(" + ")}: ${expected} ms`);
    }
  });

  test("drops are the kernel's own retransmissions, on a path that loses one in fifty", async (t) => {
    const { near, far } = await twoHosts(t);
    far.ask("nft", "add table inet lossy; add chain inet lossy in { type filter hook input priority 0; }; add rule inet lossy in tcp dport 7000 meta length > 1000 numgen inc mod 50 == 1 drop");
    const { run, client } = await watchedHost(t);
    const asked = await Asked.open(t, client, { ipv4: true, sip: near.ipv4, dip: far.ipv4, dport: 7000 });
    new Command(t, far.inside("iperf3", "-s", "-1", "-p", "7000"), { deadline: 60 });
    await answers(far, "7000");
    const before = retransmitted(near);
    const { code, stderr } = await execute(t, near.inside("iperf3", "-c", far.ipv4, "-p", "7000", "-n", "20M"), { deadline: 60 });
    assert.equal(code, 0, stderr);
    await asked.settled();
    const counted = retransmitted(near) - before;
    assert.ok(counted > 10);
    assert.equal(asked.drops(), counted);
    await over(run);
  });

  test("drops: answers to a SYN, and what the sender's own filter refuses, as the kernel counts both", async (t) => {
    const { near, far } = await twoHosts(t);
    // Of two answers to a SYN the first is lost. Later every acknowledgement is, and what is sent again does not get out.
    near.ask("nft", "add table inet own; add chain inet own in { type filter hook input priority 0; }; add rule inet own in tcp sport 7000 tcp flags & syn == syn numgen inc mod 2 == 0 counter drop");
    const { run, client } = await watchedHost(t);
    const [sender, server] = [
      await Asked.open(t, client, { ipv4: true, sip: near.ipv4, dport: 7000 }),
      await Asked.open(t, client, { ipv4: true, sip: far.ipv4, sport: 7000 }),
    ];
    const before = [near, far].map(retransmitted);
    const listening = new Command(t, far.inside("/usr/bin/python3", "-c", `import socket
listener = socket.create_server(("${far.ipv4}", 7000)); listener.accept()[0].recv(1)`));
    await answers(far, "7000");
    const script = `import socket, subprocess, time
s = socket.create_connection(("${far.ipv4}", 7000))
def nft(rules): return subprocess.run(["nft", rules], check=True, capture_output=True, text=True).stdout
nft("add chain inet own out { type filter hook output priority 0; }; add rule inet own in tcp sport 7000 counter drop")
s.send(b"x"); nft("add rule inet own out tcp dport 7000 counter drop")
while "packets 0" in nft("list chain inet own out"): time.sleep(0.1)
nft("flush chain inet own out"); time.sleep(0.5)`;
    const { code, stderr } = await execute(t, near.inside("/usr/bin/python3", "-c", script));
    assert.equal(code, 0, stderr);
    await listening.finished;
    await Promise.all([sender.settled(), server.settled()]);
    const [again = 0, answersAgain] = [near, far].map((host, index) => retransmitted(host) - (before[index] ?? 0));
    const lost = [...near.ask("nft", "list", "chain", "inet", "own", "in").matchAll(/counter packets (\d+)/g)].map(([, count]) => Number(count));
    assert.ok(again > 0 && lost.length === 2 && !lost.includes(0), `${again} sent again, lost ${lost.join()}`);
    assert.deepEqual([sender.drops(), server.drops()], [again + lost.reduce((all, each) => all + each, 0), answersAgain]);
    assert.ok(answersAgain);
    await over(run);
  });

  test("a tree: its own connections only; nothing is attached while nobody asks", async (t) => {
    const { near, far } = await twoHosts(t);
    const web = configureWebServer(scratch(t), 0);
    sparseFile(`${web.folder}/page`, 1000);
    await serveWeb(t, far, web);
    // Reads to the server's end: who closes first has packets in TIME_WAIT, whose answers have no socket.
    const script = `echo ready; while read line; do exec 3<>/dev/tcp/${far.ipv4}/80; printf 'GET /page HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3 >/dev/null; exec 3>&-; echo done; done`;
    const run = new Run(t, { config: { http }, command: near.inside("bash", "-c", script), input: "open", deadline: 100 });
    const client = await clientOf(run);
    await run.says(/^ready/m);
    const idle = links(run.pid);
    assert.ok(idle > 0);
    const asked = await Asked.open(t, client, { ipv4: true, dip: far.ipv4, dport: 80 });
    assert.ok(links(run.pid) > idle);
    const capture = await Capture.start(t, near, far, "tcp port 80");
    run.write("\n");
    await run.says(/^done/m);
    const { ipv4: own } = await capture.stop();
    const { code } = await execute(t, near.inside("curl", "-sS", "-f", "-o", "/dev/null", `http://${far.ipv4}/page`));
    assert.equal(code, 0);
    await asked.settled();
    sameCounts(asked, own);
    asked.close();
    await until("all that to be detached", () => links(run.pid) === idle);
    run.endInput();
    await run.quietly();
  });

  test("processes that end within a window, and a tick forgets, each have their own pid and name", async (t) => {
    const { near, far } = await twoHosts(t);
    const web = configureWebServer(scratch(t), 0);
    sparseFile(`${web.folder}/page`, 1000);
    await serveWeb(t, far, web);
    const { run, client } = await watchedHost(t, { interval: 0.1 });
    const each = async (protocol: string, dport: number, name: string, ...command: readonly string[]): Promise<void> => {
      const asked = await Asked.open(t, client, { ipv4: true, dip: far.ipv4, dport, protocol });
      for (const round of [1, 2]) {
        const from = asked.windows.length;
        const short = new Command(t, near.inside(...command));
        assert.equal((await short.finished).code, 0, short.stderr);
        await until("two windows", () => asked.windows.length >= from + 2);
        const lines = asked.windows.slice(from).flatMap((window) => window.lines.filter(({ pid }) => pid !== -1));
        assert.ok(lines.length > 0);
        for (const inner of lines) {
          assert.equal(inner.pid, short.pid, `${name} ${round}: ${JSON.stringify(inner)}`);
          if ("pid_name" in inner) assert.equal(inner.pid_name, name);
        }
      }
    };
    await Promise.all([
      each("udp", 4097, "bash", "bash", "-c", `echo > /dev/udp/${far.ipv4}/4097`),
      each("tcp", 80, "curl", "curl", "-sS", "-f", "-o", "/dev/null", `http://${far.ipv4}/page`),
    ]);
    await over(run);
  });

  test("who is gone asks for nothing more: before the run has begun, or behind other requests of a connection", async (t) => {
    const port = await freePort();
    const run = new Run(t, { config: { http: { port } }, options: ["--host"], deadline: 100 });
    const early = new Client(`http://127.0.0.1:${port}/`);
    const questions = (first: number): string =>
      Array.from({ length: 16 }, (_, index) => `GET ${url}?dport=${first + index} HTTP/1.1\r\nHost: localhost:${port}\r\n\r\n`).join("");
    await until("the server to listen", async () => {
      const socket = early.connect();
      const connected = await once(socket, "connect").then(() => true, () => false);
      if (connected) socket.end(questions(1));
      return connected;
    });
    const client = await clientOf(run);
    const socket = client.connect();
    socket.write(questions(101));
    await once(socket, "data");
    socket.destroy();
    await until("no connection", () => client.ask("/api/run").then(({ status }) => status === 200));
    const all = await Promise.all(Array.from({ length: 32 }, (_, index) => Asked.open(t, client, { dport: 20000 + index })));
    for (const each of all) each.close();
    await over(run);
  });

  test("who asks the same later is told of what comes from then on, a second from then", async (t) => {
    const { run, client } = await watchedHost(t);
    const reader = createSocket("udp4");
    const sender = createSocket("udp4");
    t.after(() => {
      for (const socket of [reader, sender]) socket.close();
    });
    reader.bind(0, "127.0.0.1");
    await once(reader, "listening");
    const { port } = reader.address();
    const send = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i++) await new Promise((resolve) => { sender.send("x", port, "127.0.0.1", resolve); });
    };
    const params = { ipv4: true, dip: "127.0.0.1", dport: port, protocol: "udp" };
    const first = await Asked.open(t, client, params);
    await send(5);
    await delay(400);
    const from = Date.now();
    const second = await Asked.open(t, client, params);
    await send(3);
    await second.settled();
    assert.deepEqual([first.num("network send"), second.num("network send")], [8, 3]);
    assert.ok((second.windows[0]?.at ?? 0) - from > 990);
    const { num = 0, "pps(s)": rate = 0 } = (second.lines("network send") as Layer[])[0] ?? {};
    assert.ok(num / rate > 0.99, `a window of ${num / rate} s`);
    await over(run);
  });

  test("once, as events and as messages; many at once; what cannot be asked", async (t) => {
    const { run, client } = await watchedHost(t);
    const query = `${url}?ipv4=true&ipv6=false&sip=127.0.0.1&dip=127.0.0.1&sport=0&dport=1&protocol=tcp`;
    const first = await client.ask(`${query}&once`);
    assert.equal(first.status, 200);
    assert.deepEqual(first.text.trimEnd().split("\n").map(innerOf).map(nameOf), orderOfLines);
    const anywhere = await client.ask(`${url}?sip=&dip=&once`);
    assert.deepEqual([anywhere.status, innerOf(anywhere.text.split("\n")[0] ?? "").saddr], [200, "0.0.0.0"], anywhere.text);
    const posted = await client.ask(`${url}?once`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ type: "NumLatencyFrequency", params: { ipv4: true, ipv6: true, sip: "0.0.0.0", dip: "::", sport: 0, dport: 0, protocol: "udp" } }) });
    assert.deepEqual([posted.status, posted.text.trimEnd().split("\n").length], [200, 26]);
    const events = await client.ask(`${query}&once`, { headers: { accept: "text/event-stream" } });
    assert.match(String(events.headers["content-type"]), /^text\/event-stream/);
    assert.deepEqual(events.text.trimEnd().split("\n\n").map((event) => nameOf(innerOf(event.replace(/^data: /, "")))), orderOfLines);
    const messages: string[] = [];
    const socket = new WebSocket(`ws://127.0.0.1:${client.port}${query}`);
    socket.on("message", (data: Buffer) => messages.push(data.toString()));
    await until("a window by WebSocket", () => messages.length >= 13);
    assert.deepEqual(messages.slice(0, 13).map(innerOf).map(nameOf), orderOfLines);

    // With the WebSocket's there are 32.
    const many = await Promise.all(Array.from({ length: 31 }, (_, index) => Asked.open(t, client, { ipv4: true, dip: "127.0.0.1", dport: 20000 + index })));
    assert.equal((await client.ask(`${url}?dport=2&once`)).status, 503);
    await Promise.all(many.map((each) => each.settled()));
    many.pop()?.close();
    // Two in one packet, and one place.
    await until("one place", async () => {
      const ask = (port: number, more = ""): string => `GET ${url}?dport=${port}&once HTTP/1.1\r\nHost: localhost:${client.port}\r\n${more}\r\n`;
      const heard = await client.raw(ask(3) + ask(4, "Connection: close\r\n"));
      const statuses = [...heard.matchAll(/^HTTP\/1\.1 (\d+)/gm)].map(([, status]) => status).join();
      assert.ok(["503,503", "200,503"].includes(statuses), statuses);
      return statuses === "200,503";
    });
    for (const each of many) each.close();
    socket.close();
    await until("room", async () => (await client.ask(`${url}?dport=2&once`)).status === 200);

    for (const [params, path] of [
      ["sip=300.0.0.1", "/query/sip"],
      ["ipv6=true&sip=127.0.0.1", "/query/sip"],
      ["ipv4=true&dip=::1", "/query/dip"],
      ["ipv6=true&sip=::ffff:127.0.0.1", "/query/sip"],
      ["ipv4=false&ipv6=false", "/query/ipv4"],
      ["sport=65536", "/query/sport"],
      ["sport=-1", "/query/sport"],
      ["protocol=icmp", "/query/protocol"],
      ["sips=1.2.3.4", "/query/sips"],
    ] as const) {
      const { status, text } = await client.ask(`${url}?${params}`);
      const said = JSON.parse(text) as { message: string; path?: string };
      assert.deepEqual([status, said.path], [400, path], params);
      assert.ok(said.message.startsWith(path.slice(1)), text);
    }
    for (const [params, path] of [
      [{ dip: "300.0.0.1" }, "/body/params/dip"],
      [{ dport: "80" }, "/body/params/dport"],
      [{ ipv4: false }, "/body/params/ipv4"],
    ] as const) {
      const body = JSON.stringify({ type: "NumLatencyFrequency", params });
      const { status, text } = await client.ask(url, { method: "POST", headers: { "content-type": "application/json" }, body });
      assert.deepEqual([status, (JSON.parse(text) as { path?: string }).path], [400, path], text);
    }
    await over(run);
  });
});

