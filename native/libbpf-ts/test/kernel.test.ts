// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { BpfError, kernel } from "libbpf-ts";

test("program and map types", () => {
  assert.equal(kernel.hasProgramType("raw_tracepoint").supported, true);
  assert.equal(kernel.hasProgramType("BPF_PROG_TYPE_CGROUP_SKB").supported, true);
  assert.equal(kernel.hasProgramType("no_such_type").supported, "unknown");
  assert.equal(kernel.hasMapType("ringbuf").supported, true);
  assert.equal(kernel.hasMapType("BPF_MAP_TYPE_HASH").supported, true);
  assert.equal(kernel.hasMapType("no_such_map").supported, "unknown");
});

test("helpers by name and number", () => {
  assert.equal(kernel.hasHelper("kprobe", "get_attach_cookie").supported, true);
  assert.equal(kernel.hasHelper("kprobe", "bpf_ktime_get_ns").supported, true);
  assert.equal(kernel.hasHelper("kprobe", 5).supported, true);
  assert.equal(kernel.hasHelper("socket_filter", "override_return").supported, false);
  assert.equal(kernel.hasHelper("socket_filter", "no_such_helper").supported, false);
  assert.equal(kernel.hasHelper("tracing", "ktime_get_ns").supported, "unknown");
});

test("what BTF knows", () => {
  assert.equal(kernel.hasBtf(), existsSync("/sys/kernel/btf/vmlinux"));
  assert.equal(kernel.hasType("struct task_struct").supported, true);
  assert.equal(kernel.hasType("struct no_such_struct").supported, false);
  assert.equal(kernel.hasMember("struct task_struct", "tgid").supported, true);
  assert.equal(kernel.hasMember("struct sk_buff", "dev").supported, true, "in an anonymous union");
  assert.equal(kernel.hasMember("struct task_struct", "no_such_member").supported, false);
  assert.equal(kernel.hasMember("struct no_such_struct", "x").supported, false);
  assert.equal(kernel.hasTracepoint("sched_switch").supported, true);
  assert.equal(kernel.hasTracepoint("no_such_tracepoint").supported, false);
  assert.equal(kernel.hasFunction("bpf_task_acquire").supported, true);
  assert.equal(kernel.hasFunction("no_such_function").supported, false);
  const answer = kernel.hasType("struct no_such_struct");
  assert.equal(answer.reason, "the kernel's BTF has no struct no_such_struct");
});

test("enumerators", () => {
  const reasons = kernel.enumerators("skb_drop_reason");
  assert.equal(reasons.get("SKB_NOT_DROPPED_YET"), 0n);
  assert.ok(reasons.size > 50);
  assert.equal(kernel.enumerators("bpf_map_type").get("BPF_MAP_TYPE_RINGBUF"), 27n);
  assert.throws(() => kernel.enumerators("no_such_enum"), BpfError);
});

test("without privileges the answer is unknown, not no", () => {
  const script = `
    import { kernel } from "libbpf-ts";
    process.setgid(65534); process.setuid(65534);
    console.log(JSON.stringify([
      kernel.hasProgramType("raw_tracepoint"), kernel.hasMapType("hash"),
      kernel.hasHelper("kprobe", "ktime_get_ns"), kernel.hasType("struct task_struct"),
    ].map((answer) => answer.supported)));
  `;
  const result = spawnSync(process.execPath, ["--input-type=module", "-e", script], {
    cwd: new URL("..", import.meta.url),
    encoding: "utf8",
  });
  assert.equal(result.stdout.trim(), '["unknown","unknown","unknown",true]', result.stderr);
});
