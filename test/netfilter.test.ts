// Core's way to attach netfilter programs. Owns: that one place has one attachment however many ask, that another's program there is no
// obstacle, and that namespaces are kept apart. The witness is ping's own count. Does not own: what such a program sees (libbpf-ts's tests).
// Runs beside others.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { test } from "node:test";
import { BpfSteps } from "../src/core/bpf-steps.js";
import { Bpf } from "../src/core/bpf.js";
import { netfilterObject, twoHosts, type Host } from "./support/netns.js";

test("netfilter: one attachment a place, beside other programs, in each namespace its own", async (t) => {
  const { near, far } = await twoHosts(t);
  const file = netfilterObject(t);
  const open = (): Bpf => {
    const bpf = new Bpf(new BpfSteps([{ programs: ["count_packets"], maps: ["seen"] }], { constants: {}, sizes: {} }, file));
    t.after(() => {
      bpf.close();
    });
    return bpf;
  };
  const [ours, others] = [open(), open()];
  const spaces = [near, far].map(({ namespace }) => openSync(`/run/netns/${namespace}`, "r"));
  const place = { family: "ipv4", hook: "local_out", priority: -(2 ** 31) + 1 } as const;
  const packets = ({ object }: Bpf): number =>
    [...object.map<unknown, { packets: number }>("seen").entries()].reduce((sum, [, { packets }]) => sum + packets, 0);
  const ping = (host: Host, count: number): void => {
    execFileSync("ip", ["netns", "exec", host.namespace, "ping", "-q", "-c", String(count), "-i", "0.01", "127.0.0.1"]);
  };

  // One of these packets out is the request, another the answer.
  const links = [0, 0, 1].map((index) => ours.attachNetfilter("count_packets", { ...place, namespace: spaces[index] ?? -1 }));
  const beside = others.attachNetfilter("count_packets", { ...place, namespace: spaces[0] ?? -1 });
  for (const space of spaces) closeSync(space);
  ping(near, 3);
  ping(far, 4);
  assert.equal(packets(ours), 14);
  assert.equal(packets(others), 6);
  links[0]?.close();
  links[0]?.close();
  ping(near, 1);
  assert.equal(packets(ours), 16, "the second link holds it");
  links[1]?.close();
  ping(near, 1);
  ping(far, 1);
  assert.equal(packets(ours), 18, "the other namespace's goes on");
  assert.equal(packets(others), 10);
  beside.close();
  ping(near, 1);
  assert.equal(packets(others), 10);
});
