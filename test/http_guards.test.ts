// Who the HTTP server lets in. Owns: Host, Origin and what browsers say of a page, the token, the status of each refusal.
// Does not own: clients that want to wear it out (http_hostile.test.ts).
// Runs beside others.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { WebSocket } from "ws";
import { clientOf, type Client } from "./support/http.js";
import { Run } from "./support/run.js";

const config = { snoop_cpu: "bpf", interval: 0.1 };
const token = "a-token.of~32/letters+and_digits";
const key = { "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-version": "13" };

/** The first line of what is answered to this. */
async function status(client: Client, path: string, headers: readonly string[]): Promise<number> {
  const heard = await client.raw([`GET ${path} HTTP/1.1`, "Connection: close", ...headers, "", ""].join("\r\n"));
  return Number(/^HTTP\/1\.1 (\d+)/.exec(heard)?.[1]);
}

test("Host and Origin: no page of somebody else's, whatever its name points to", async (t) => {
  const run = new Run(t, { config: { ...config, http: { port: 0 } }, input: "open", command: ["cat"] });
  const client = await clientOf(run);
  const { port } = client;
  const own = `Host: 127.0.0.1:${port}`;
  for (const [expected, ...headers] of [
    [200, own],
    [200, `Host: localhost:${port}`],
    [200, `Host: LOCALHOST:${port}`],
    [200, `Host: [::1]:${port}`],
    [403, `Host: attacker.example:${port}`],
    [403, "Host: attacker.example"],
    [403, "Host: 127.0.0.1"],
    [403, `Host: 127.0.0.1:${port === 5000 ? 5001 : 5000}`],
    [403, `Host: 127.0.0.1.attacker.example:${port}`],
    [403, `Host: localhost:${port}@attacker.example`],
    [403, `Host: localhost:${port}0`],
    [403, "Host:"],
    [400],
    [200, own, `Origin: http://127.0.0.1:${port}`],
    [200, own, `Origin: http://localhost:${port}`],
    [403, own, "Origin: http://attacker.example"],
    [403, own, `Origin: http://attacker.example:${port}`],
    [403, own, `Origin: https://127.0.0.1:${port}`],
    [403, own, "Origin: http://127.0.0.1:8080"],
    [403, own, "Origin: null"],
    [403, own, "Origin:"],
    [200, own, "Sec-Fetch-Site: same-origin"],
    [200, own, "Sec-Fetch-Site: none"],
    [200, own, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"],
    [403, own, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"],
    [403, own, "Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: embed"],
    [403, own, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"],
    [403, own, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"],
    [403, own, "Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors"],
  ] as const)
    assert.equal(await status(client, "/api/run", headers), expected, headers.join(", "));
  // A path nobody has tells no more than one that is there.
  assert.equal(await status(client, "/no/such", [`Host: attacker.example:${port}`]), 403);
  const { headers } = await client.ask("/api/run");
  assert.equal(headers["access-control-allow-origin"], undefined);
  assert.equal(headers["x-content-type-options"], "nosniff");
  assert.equal(headers["cache-control"], "no-store");
  run.endInput();
  await run.quietly();
});

test("a WebSocket is refused by a status, as anything else; who offers another protocol is answered in this one", async (t) => {
  const run = new Run(t, { config: { ...config, http: { port: 0 } }, input: "open", command: ["cat"] });
  const client = await clientOf(run);
  const upgrade = { connection: "Upgrade", upgrade: "websocket", ...key };
  for (const [path, headers, expected] of [
    ["/api/tables/cpu", { origin: "http://attacker.example" }, 403],
    ["/api/tables/cpu", { host: `attacker.example:${client.port}` }, 403],
    ["/api/tables/nothing", {}, 404],
    ["/api/tables/cpu?format=xml", {}, 400],
    ["/api/run", {}, 400],
    ["/nothing", {}, 404],
  ] as const)
    assert.equal((await client.ask(path, { headers: { ...upgrade, ...headers } })).status, expected, path);
  const json = '{"format":"csv"}';
  for (const [expected, request, ...more] of [
    [200, "GET /api/run"],
    [404, "GET /nothing"],
    [403, "GET /api/run", "Origin: http://attacker.example"],
    [200, "POST /api/tables/cpu", "Content-Type: application/json", `Content-Length: ${json.length}`, "", json],
  ] as const) {
    // As curl --http2 says it.
    const offer = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"];
    const heard = await client.raw([`${request} HTTP/1.1`, `Host: 127.0.0.1:${client.port}`, ...offer, ...more, ...(more.length > 2 ? [] : ["", ""])].join("\r\n"));
    assert.match(heard, new RegExp(`^HTTP/1.1 ${expected} `), request);
  }
  const socket = new WebSocket(`ws://localhost:${client.port}/api/tables/cpu`, { origin: `http://localhost:${client.port}` });
  assert.match(String((await once(socket, "message"))[0]), /^\{"Ticks":/);
  socket.terminate();
  run.endInput();
  await run.quietly();
});

test("a token: who knows it and who does not; it is written nowhere", async (t) => {
  const run = new Run(t, {
    config: { ...config, http: { port: 0, host: "0.0.0.0", token } },
    input: "open",
    command: ["cat"],
  });
  const client = await clientOf(run);
  const local = `http://127.0.0.1:${client.port}`;
  const ask = async (path: string, headers: Record<string, string> = {}): Promise<number> => {
    const response = await fetch(`${local}${path}`, { headers });
    await response.body?.cancel();
    return response.status;
  };
  const bearer = { authorization: `Bearer ${token}` };
  assert.equal(await ask("/api/run", bearer), 200);
  assert.equal(await ask("/api/run"), 401);
  assert.equal(await ask("/nothing"), 401);
  assert.equal(await ask("/api/run", { authorization: `Bearer ${token}x` }), 401);
  assert.equal(await ask("/api/run", { authorization: `Bearer ${token.slice(1)}` }), 401);
  assert.equal(await ask("/api/run", { authorization: `Basic ${Buffer.from(`x:${token}`).toString("base64")}` }), 401);
  // In the URL only where a browser has no other way.
  const query = `token=${encodeURIComponent(token)}`;
  assert.equal(await ask(`/api/run?${query}`), 401);
  assert.equal(await ask(`/api/tables/cpu?stream&${query}`), 401);
  assert.equal(await ask(`/api/tables/cpu?${query}`, { accept: "text/event-stream" }), 200);
  assert.equal(await ask("/api/tables/cpu?token=wrong", { accept: "text/event-stream" }), 401);
  assert.equal(await ask("/api/tables/cpu", { accept: "text/event-stream" }), 401);
  const socket = new WebSocket(`ws://127.0.0.1:${client.port}/api/tables/cpu?${query}`);
  await once(socket, "message");
  socket.terminate();
  const refusal = (await once(new WebSocket(`ws://127.0.0.1:${client.port}/api/tables/cpu`), "error")) as [Error];
  assert.match(refusal[0].message, /401/);
  // The address it was reached by is its name as well; another's is not.
  assert.equal(await status(client, "/api/run", [`Host: 0.0.0.0:${client.port}`, `Authorization: Bearer ${token}`]), 200);
  assert.equal(await status(client, "/api/run", [`Host: 192.0.2.1:${client.port}`, `Authorization: Bearer ${token}`]), 403);

  const shown = await (await fetch(`${local}/api/run`, { headers: bearer })).text();
  run.endInput();
  await run.quietly();
  assert.ok(!shown.includes(token));
  assert.ok(!readFileSync(run.path("run.json"), "utf8").includes(token));
});
