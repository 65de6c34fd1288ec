// docs/analyzer.md's commands, run as they stand there, against servers configured as it says; only the port and the address of
// another machine are replaced. Owns: that each works and answers in the form shown. Does not own: what the answers hold.
// Runs beside others.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { clientOf } from "./support/http.js";
import { root } from "./support/paths.js";
import { execute, Run } from "./support/run.js";

const page = readFileSync(join(root, "docs/analyzer.md"), "utf8");
const config = JSON.parse(/^```json\n([\s\S]*?)^```$/m.exec(page)?.[1] ?? "") as { http: object };
const commands = [...page.matchAll(/^```sh\n([\s\S]*?)^```\n(?:```json\n([\s\S]*?)^```$)?/gm)].map(
  ([, command = "", shown]) => ({ command, shown }),
);
const token = "0123456789abcdef-of.docs";

test("every command of docs/analyzer.md", async (t) => {
  assert.ok(commands.length >= 11, String(commands.length));
  const busy = ["sh", "-c", "while ! read -r line; do ls / > /dev/null; sleep 0.05; done < /dev/null & read -r line; kill $!"];
  const start = async (http: object): Promise<{ run: Run; address: string }> => {
    const run = new Run(t, { config: { ...config, interval: 0.2, http }, input: "open", command: busy });
    const { port } = await clientOf(run);
    await run.ticked("cpu.csv", 1);
    return { run, address: `127.0.0.1:${port}` };
  };
  const open = await start({ ...config.http, port: 0 });
  const guarded = await start({ host: "0.0.0.0", port: 0, token });
  const check = async ({ command, shown }: (typeof commands)[number]): Promise<void> => {
    const script = command.replace("127.0.0.1:5000", open.address).replace("192.0.2.7:5000", guarded.address);
    assert.notEqual(script, command);
    const { code, stdout, stderr } = await execute(t, ["sh", "-c", script], {
      environment: { ...process.env, TOKEN: token },
      deadline: 30,
    });
    assert.deepEqual({ code, stderr }, { code: 0, stderr: "" }, command);
    assert.ok(stdout.length > 0, command);
    if (shown !== undefined) {
      const keys = (text: string): string[] => Object.keys(JSON.parse(text) as object);
      assert.deepEqual(keys(stdout), keys(shown), command);
    } else {
      assert.doesNotMatch(stdout, /^\{"status":/, command);
    }
  };
  await Promise.all(commands.map(check));
  for (const { run } of [open, guarded]) {
    run.write("\n");
    await run.finished;
  }
});

test("docs/analyzer.md has every route", async (t) => {
  const run = new Run(t, { config: { http: { port: 0 } }, input: "open", command: ["cat"] });
  const client = await clientOf(run);
  const { routes } = (await client.json("/")) as { routes: { url: string }[] };
  const headings = [...page.matchAll(/^## `(\S+)`$/gm)].map(([, url = ""]) => url.replace("NAME", ":module"));
  assert.deepEqual(headings.sort(), routes.map(({ url }) => url).sort());
  run.endInput();
  await run.quietly();
});
