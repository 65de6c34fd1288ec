// Questions to /api/NumLatencyFrequency. Owns: asking one that goes on, its windows, what they say together. Does not own: what it ought to say.
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import type { Client } from "./http.js";
import { until } from "./wait.js";

export const url = "/api/NumLatencyFrequency";

export interface Ends {
  readonly type: string;
  readonly pid: number;
  readonly saddr: string;
  readonly daddr: string;
  readonly sport: number;
  readonly dport: number;
}

export interface Crossing extends Ends {
  readonly crosslayer: string;
  readonly direction: string;
  readonly pid_name: string;
  readonly "LAT(ms)": number;
  readonly "frequency(s)": number;
}

export interface Layer extends Ends {
  readonly layer: string;
  readonly direction: string;
  readonly num: number;
  readonly "pps(s)": number;
}

interface Drops extends Ends {
  readonly "drop(s)": number;
}

export type Inner = Crossing | Layer | Drops;

export const orderOfLines = [
  ...["send", "receive"].flatMap((direction) => ["linknetwork", "networktrans", "linktrans"].map((crossing) => `${crossing} ${direction}`)),
  ...["send", "receive"].flatMap((direction) => ["link", "network", "trans"].map((layer) => `${layer} ${direction}`)),
  "drop",
];

export function nameOf(inner: Inner): string {
  if ("crosslayer" in inner) return `${inner.crosslayer} ${inner.direction}`;
  if ("layer" in inner) return `${inner.layer} ${inner.direction}`;
  return "drop";
}

export function innerOf(line: string): Inner {
  const { type, data, ...rest } = JSON.parse(line) as { type: string; data: string };
  assert.equal(type, "NumLatencyFrequency");
  assert.deepEqual(rest, {});
  return JSON.parse(data) as Inner;
}

/** A question that goes on, and its windows of thirteen lines each. */
export class Asked {
  readonly windows: { readonly at: number; readonly lines: readonly Inner[] }[] = [];
  readonly #abort = new AbortController();

  static async open(t: TestContext, client: Client, params: object): Promise<Asked> {
    const asked = new Asked();
    t.after(() => {
      asked.close();
    });
    const response = await fetch(`http://127.0.0.1:${client.port}${url}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ type: "NumLatencyFrequency", params }),
      signal: asked.#abort.signal,
    });
    assert.equal(response.status, 200, await (response.ok ? "" : response.text()));
    assert.ok(response.body);
    void asked.#read(response.body);
    return asked;
  }

  async #read(body: AsyncIterable<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    try {
      for await (const part of body) {
        const lines = (rest + decoder.decode(part, { stream: true })).split("\n");
        rest = lines.pop() ?? "";
        for (let i = 0; i < lines.length; i += 13) this.windows.push({ at: Date.now(), lines: lines.slice(i, i + 13).map(innerOf) });
      }
    } catch {
      // closed here, or with the run
    }
  }

  close(): void {
    this.#abort.abort();
  }

  /** Waits for a window that began after now. */
  async settled(): Promise<void> {
    const then = this.windows.length;
    await until("two more windows", () => this.windows.length >= then + 2, 20);
  }

  lines(name: string): Inner[] {
    return this.windows.flatMap(({ lines }) => lines.filter((inner) => nameOf(inner) === name));
  }

  /** Packets of a layer in all windows. */
  num(name: string): number {
    return this.lines(name).reduce((sum, inner) => sum + (inner as Layer).num, 0);
  }

  /** Mean time between two layers in all windows, ms. */
  latency(name: string): number {
    let sum = 0;
    let count = 0;
    for (const inner of this.lines(name) as Crossing[]) {
      sum += inner["LAT(ms)"] * inner["frequency(s)"];
      count += inner["frequency(s)"];
    }
    return sum / count;
  }

  drops(): number {
    return this.lines("drop").reduce((sum, inner) => sum + (inner as Drops)["drop(s)"], 0);
  }

  pids(): Set<number> {
    return new Set(this.windows.flatMap(({ lines }) => lines.map(({ pid }) => pid)));
  }
}
