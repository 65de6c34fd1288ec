// What the HTTP server answers: every route against the files of the same run and against what the document of the
// interface promises. Owns: the answers, the ways of streaming. Does not own: the configuration
// (http_config.test.ts), clients that mean no good (http_guards.test.ts, http_hostile.test.ts).
// Runs beside others.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { once } from "node:events";
import { describe, test, type TestContext } from "node:test";
import { Ajv2020 } from "ajv/dist/2020.js";
import { WebSocket } from "ws";
import { parseTable } from "./support/csv.js";
import { type Client, clientOf } from "./support/http.js";
import { workload } from "./support/paths.js";
import { Run } from "./support/run.js";
import { until } from "./support/wait.js";

const config = { http: { port: 0 }, snoop_cpu: "bpf", snoop_syscall: "bpf", syscall_filter: ["getpriority"], interval: 0.2 };

interface Shown {
  readonly module: string;
  readonly ticks: number | null;
  readonly columns: readonly { readonly name: string; readonly type: string; readonly unit?: string }[];
  readonly all: number;
  readonly rows: readonly Readonly<Record<string, string | number | null>>[];
}

interface ApiDocument {
  readonly openapi: string;
  readonly paths: Readonly<
    Record<string, Record<string, { responses: Record<string, { content: Record<string, { schema: object }> }> }>>
  >;
}

/** A run that lasts until its input ends. Each thread makes some 260 events a second. */
async function standing(t: TestContext, children = "3", threads = "1"): Promise<{ run: Run; client: Client }> {
  const run = new Run(t, { config, input: "open", command: [workload("tree_standing"), children, threads] });
  const client = await clientOf(run);
  await run.says(/ready/);
  return { run, client };
}

/** Lines until `enough` of them, from a reply that goes on. */
async function lines(client: Client, path: string, accept: string, enough: (got: readonly string[]) => boolean): Promise<string[]> {
  const response = await fetch(`http://127.0.0.1:${client.port}${path}`, { headers: { accept } });
  assert.equal(response.status, 200);
  assert.ok(response.body);
  let text = "";
  const decoder = new TextDecoder();
  for await (const part of response.body as unknown as AsyncIterable<Uint8Array>) {
    text += decoder.decode(part, { stream: true });
    const got = text.split("\n").slice(0, -1);
    if (enough(got)) return got;
  }
  return text.split("\n").slice(0, -1);
}

describe("routes", () => {
  test("each answers what the OpenAPI document says, and / lists them", async (t) => {
    const { run, client } = await standing(t);
    const document = (await client.json("/api/openapi.json")) as ApiDocument;
    assert.match(document.openapi, /^3\.1\./);
    const { routes } = (await client.json("/")) as { routes: { url: string }[] };
    const listed = routes.map(({ url }) => url.replace(/:(\w+)/g, "{$1}"));
    assert.deepEqual(Object.keys(document.paths).sort(), listed.sort());
    const ajv = new Ajv2020({ strict: false });
    for (const [path, methods] of Object.entries(document.paths)) {
      for (const [method, { responses }] of Object.entries(methods)) {
        const schema = responses["200"]?.content["application/json"]?.schema;
        if (!schema) continue; // nothing but streams
        const asked = path.replace("{module}", "cpu");
        const json = { "content-type": "application/json" };
        const reply = await client.ask(asked, method === "post" ? { method: "POST", body: "{}", headers: json } : {});
        assert.equal(reply.status, 200, asked);
        assert.ok(ajv.validate(schema, JSON.parse(reply.text)), `${asked}: ${ajv.errorsText()}`);
      }
    }
    run.endInput();
    await run.quietly();
  });

  test("run.json, the list of tables", async (t) => {
    const { run, client } = await standing(t);
    const shown = (await client.json("/api/run")) as { start: string; http: { url: string }; modules: object };
    const written = run.record();
    assert.equal(shown.start, written.start);
    assert.deepEqual(Object.keys(shown.modules), Object.keys(written.modules));
    assert.equal(new URL(shown.http.url).port, String(client.port));
    const tables = (await client.json("/api/tables")) as { module: string; file: string; columns: { name: string; unit?: string }[] }[];
    assert.deepEqual(tables.map(({ module, file }) => [module, file]), [["cpu", "cpu.csv"], ["syscall", "syscall.csv"]]);
    for (const { file, columns } of tables)
      assert.deepEqual(columns.map(({ name }) => name), run.growing(file)?.header);
    assert.equal(tables[0]?.columns.find(({ name }) => name === "CPU%")?.unit, "%");
    run.endInput();
    await run.quietly();
  });

  test("a sampled table is its file's latest tick, digit for digit, as JSON and as CSV", async (t) => {
    const { run, client } = await standing(t);
    await run.ticked("cpu.csv", 2);
    const [asJson, asCsv, accepted] = [
      await client.ask("/api/tables/cpu"),
      await client.ask("/api/tables/cpu?format=csv"),
      await client.ask("/api/tables/cpu", { headers: { accept: "text/csv" } }),
    ];
    const posted = await client.ask("/api/tables/cpu", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: '{"format":"csv"}',
    });
    for (const { headers } of [asCsv, accepted, posted]) assert.match(headers["content-type"] ?? "", /^text\/csv/);
    run.endInput();
    await run.quietly();
    const file = readFileSync(run.path("cpu.csv"), "utf8");
    const [header = ""] = file.split("\n");
    for (const { text } of [asCsv, accepted, posted]) {
      assert.ok(text.startsWith(`${header}\n`));
      assert.ok(text.length > header.length + 1 && file.includes(text.slice(header.length)), text);
    }
    const shown = JSON.parse(asJson.text) as Shown;
    assert.equal(shown.all, shown.rows.length);
    assert.equal(shown.rows.length, 4, "the process and three children");
    for (const row of shown.rows) {
      assert.equal(row["Ticks"], shown.ticks);
      assert.equal(typeof row["ON CPU"], "number");
      assert.equal(typeof row["COMM"], "string");
    }
    // The numbers stand in the JSON as they do in the file.
    const digits = [...asJson.text.matchAll(/"ON CPU":([\d.]+)/g)].map((match) => match[1]);
    const rows = parseTable(Buffer.from(file)).rows.filter((row) => row.text("Ticks") === shown.ticks?.toFixed(6));
    assert.deepEqual(digits, rows.map((row) => row.text("ON CPU")));
  });

  test("an event table's interval has all its rows while they are few, as in the file", async (t) => {
    const { run, client } = await standing(t);
    const asked = await Promise.all([client.ask("/api/tables/syscall"), client.ask("/api/tables/syscall?format=csv")]);
    run.endInput();
    await run.quietly();
    const [{ text }, csv] = asked;
    const shown = JSON.parse(text) as Shown;
    const file = readFileSync(run.path("syscall.csv"), "utf8");
    assert.ok(shown.rows.length > 0 && shown.all === shown.rows.length);
    const body = csv.text.slice(csv.text.indexOf("\n"));
    assert.ok(file.includes(body), "the rows are one stretch of the file");
    assert.equal(body.split("\n").length - 2, shown.rows.length, "asked for at once: the same interval");
    for (const row of shown.rows) {
      assert.equal(row["SYSCALL"], "getpriority");
      assert.equal(typeof row["TID"], "number");
      if (row["ACTION"] === 0) assert.equal(row["RET"], null);
    }
  });

  test("of a flood the newest rows, and how many there were", async (t) => {
    const run = new Run(t, {
      config: { ...config, syscall_filter: ["read"], interval: 0.3 },
      input: "open",
      command: ["sh", "-c", "dd if=/dev/zero of=/dev/null bs=1 count=5000000 status=none & read x; kill $!; exit 0"],
    });
    const client = await clientOf(run);
    const seen: Shown[] = [];
    while (seen.length < 3) seen.push((await client.json("/api/tables/syscall")) as Shown);
    const json = await lines(client, "/api/tables/syscall?stream", "*/*", (got) => got.at(-1)?.includes("omitted") === true);
    const csv = await lines(client, "/api/tables/syscall?stream&format=csv", "*/*", (got) => got.at(-1)?.includes("LOST") === true);
    assert.ok((JSON.parse(json.at(-1) ?? "") as { omitted: number }).omitted > 10_000);
    const last = parseTable(Buffer.from(csv.join("\n") + "\n")).rows.at(-1); // as wide as the header
    assert.ok((last?.number("SYSCALL_ID") ?? 0) > 10_000);
    run.write("\n");
    await run.quietly();
    const { events_written: written = 0, events_lost: lost } = run.record().modules.syscall ?? {};
    assert.equal(lost, 0);
    assert.ok(seen.length > 0);
    for (const { rows, all } of seen) {
      assert.ok(rows.length <= 1000 && rows.length <= all);
      assert.ok(all <= written);
    }
    assert.ok(Math.max(...seen.map(({ all }) => all)) > 10_000, JSON.stringify(seen.map(({ all }) => all)));
  });

  test("what is not there is said to be not there", async (t) => {
    const { run, client } = await standing(t);
    for (const [path, status, words] of [
      ["/api/tables/mem", 404, ["mem", "cpu, syscall"]],
      ["/api/tables/cpu?formatt=csv", 400, ["/query/formatt", "format"]],
      ["/api/tables/cpu?format=xml", 400, ["/query/format", "csv"]],
      ["/nothing", 404, ["/nothing", "GET /"]],
    ] as const) {
      const reply = await client.ask(path);
      assert.equal(reply.status, status, path);
      const said = JSON.parse(reply.text) as { status: number };
      assert.equal(said.status, status);
      for (const word of words) assert.ok(reply.text.includes(word), `${path}: ${reply.text}`);
    }
    run.endInput();
    await run.quietly();
  });
});

describe("streaming", () => {
  test("lines, events and messages carry the same rows, those of the file", async (t) => {
    const { run, client } = await standing(t);
    const socket = new WebSocket(`ws://127.0.0.1:${client.port}/api/tables/cpu`);
    const messages: string[] = [];
    socket.on("message", (data: Buffer) => messages.push(data.toString()));
    const [plain, events, csv] = await Promise.all([
      lines(client, "/api/tables/cpu?stream", "*/*", (got) => got.length >= 12),
      lines(client, "/api/tables/cpu", "text/event-stream", (got) => got.length >= 24),
      lines(client, "/api/tables/cpu?stream&format=csv", "*/*", (got) => got.length >= 13),
      until("messages", () => messages.length >= 12),
    ]);
    const closed = once(socket, "close") as Promise<[number]>;
    run.endInput();
    await run.quietly();
    assert.equal((await closed)[0], 1001, "the run is over");
    const file = readFileSync(run.path("cpu.csv"), "utf8");
    const table = parseTable(Buffer.from(file));
    const known = new Set(table.rows.map((row) => `${row.text("Ticks")} ${row.text("PID")} ${row.text("ON CPU")}`));
    const check = (line: string): void => {
      const [, on = ""] = /"ON CPU":([\d.]+)/.exec(line) ?? [];
      const row = JSON.parse(line) as { Ticks: number | "END"; PID: number };
      const ticks = typeof row.Ticks === "number" ? row.Ticks.toFixed(6) : row.Ticks;
      assert.ok(known.has(`${ticks} ${row.PID} ${on}`), line);
    };
    plain.forEach(check);
    messages.forEach(check);
    for (const [index, line] of events.entries()) {
      if (index % 2 === 1) assert.equal(line, "");
      else check(line.replace(/^data: /, ""));
    }
    const [header, ...rows] = csv;
    assert.equal(header, file.split("\n")[0]);
    for (const row of rows) assert.ok(file.includes(`\n${row}\n`), row);
  });

  test("an event stream misses none and doubles none while they are few, and ends with the run", async (t) => {
    const { run, client } = await standing(t, "1", "0");
    let some = 0;
    const got = lines(client, "/api/tables/syscall?stream&format=csv", "*/*", (now) => {
      some = now.length;
      return false;
    });
    await until("those of several ticks", () => some > 600);
    run.endInput();
    await run.quietly();
    const [, ...rows] = await got; // the reply came to its proper end
    const file = readFileSync(run.path("syscall.csv"), "utf8").split("\n");
    const from = file.indexOf(rows[0] ?? "");
    assert.ok(from > 0);
    assert.deepEqual(rows, file.slice(from, from + rows.length));
  });

  test("a module that is switched off ends its streams, and the server goes on", async (t) => {
    const { run, client } = await standing(t);
    let some = 0;
    const got = lines(client, "/api/tables/cpu?stream", "*/*", (now) => {
      some = now.length;
      return false;
    });
    const socket = new WebSocket(`ws://127.0.0.1:${client.port}/api/tables/cpu`);
    await once(socket, "message");
    const closed = once(socket, "close") as Promise<[number, Buffer]>;
    await until("some rows", () => some > 0);
    writeFileSync(run.path("config.json"), JSON.stringify({ ...config, snoop_cpu: null, http: { port: 1 } }));
    await got;
    const [code, reason] = await closed;
    assert.deepEqual([code, String(reason)], [1000, "there is no more"]);
    await until("the table to go", async () => (await client.ask("/api/tables/cpu")).status === 404);
    assert.equal((await client.ask("/api/tables/syscall")).status, 200);
    run.endInput();
    await run.quietly();
    const { warnings, config: used } = run.record() as unknown as { warnings: string[]; config: { http: { port: number } } };
    assert.ok(warnings.some((text) => text.includes("next start")), JSON.stringify(warnings));
    assert.equal(used.http.port, 0);
  });
});
