// SPDX-License-Identifier: MIT
// What the running kernel offers, found out by asking it, never by its version.
import { readFileSync } from "node:fs";
import { failure } from "./errors.js";
import { native } from "./native.js";

/** `reason` is a sentence; with "unknown" it says what kept us from finding out. */
export interface Answer {
  supported: true | false | "unknown";
  reason: string;
}

const CAP_SYS_ADMIN = 21n;
const CAP_BPF = 39n;
const ENOTSUP = -95;
const EPERM = -1;

function mayProbe(): boolean {
  const status = readFileSync("/proc/self/status", "utf8");
  const hex = /^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? "0";
  const capabilities = BigInt(`0x${hex}`);
  return (((capabilities >> CAP_SYS_ADMIN) | (capabilities >> CAP_BPF)) & 1n) === 1n;
}

function answerOf(what: string, result: number | undefined): Answer {
  if (result === undefined) {
    return { supported: "unknown", reason: `this build of libbpf has no name for ${what}` };
  }
  if (result > 0) return { supported: true, reason: `the kernel accepts ${what}` };
  if (result === 0 && !mayProbe()) {
    // An unprivileged attempt fails for another reason than the one asked about.
    return { supported: "unknown", reason: "probing needs CAP_BPF or root" };
  }
  if (result === 0) return { supported: false, reason: `the kernel refuses ${what}` };
  if (result === EPERM) return { supported: "unknown", reason: "probing needs CAP_BPF or root" };
  const reason =
    result === ENOTSUP
      ? `libbpf cannot probe ${what}`
      : `probing ${what} failed with error ${String(-result)}`;
  return { supported: "unknown", reason };
}

const NO_BTF: Answer = {
  supported: "unknown",
  reason: "the kernel has no BTF (CONFIG_DEBUG_INFO_BTF is off)",
};

function btfAnswer(what: string, found: boolean | undefined): Answer {
  if (found === undefined) return NO_BTF;
  return { supported: found, reason: `the kernel's BTF has ${found ? "" : "no "}${what}` };
}

function plainName(name: string, prefix: string): string {
  const lower = name.toLowerCase();
  return lower.startsWith(prefix) ? lower.slice(prefix.length) : lower;
}

/** Feature probes with three answers. None of them throws for a feature that is missing. */
export const kernel = {
  /** @param type "tracing", "BPF_PROG_TYPE_TRACING" … */
  hasProgramType(type: string): Answer {
    const name = plainName(type, "bpf_prog_type_");
    return answerOf(`programs of type ${name}`, native.probeProgramType(name));
  },

  /** @param type "ringbuf", "BPF_MAP_TYPE_RINGBUF" … */
  hasMapType(type: string): Answer {
    const name = plainName(type, "bpf_map_type_");
    return answerOf(`maps of type ${name}`, native.probeMapType(name));
  },

  /**
   * @param helper "ktime_get_boot_ns", "bpf_ktime_get_boot_ns", or its number. libbpf cannot probe
   *   the helpers of tracing, lsm and struct_ops programs: the answer is "unknown".
   */
  hasHelper(programType: string, helper: string | number): Answer {
    const type = plainName(programType, "bpf_prog_type_");
    const what = `helper ${String(helper)} in ${type} programs`;
    let id: number | undefined;
    if (typeof helper === "number") {
      id = helper;
    } else {
      const name = plainName(helper, "bpf_func_").replace(/^bpf_/, "");
      id = native.helperId(name);
      if (id === undefined && native.hasBtf()) {
        // Newer than the headers this was built with.
        const value = kernel.enumerators("bpf_func_id").get(`BPF_FUNC_${name}`);
        if (value === undefined) {
          return { supported: false, reason: `the kernel has no ${what}` };
        }
        id = Number(value);
      }
    }
    return answerOf(what, id === undefined ? undefined : native.probeHelper(type, id));
  },

  /** In vmlinux BTF: "struct task_struct", "enum foo", or a typedef's name. */
  hasType(name: string): Answer {
    return btfAnswer(name, native.hasType(name));
  },

  /** Members of anonymous structs and unions inside count. */
  hasMember(type: string, member: string): Answer {
    return btfAnswer(`member ${member} in ${type}`, native.hasMember(type, member));
  },

  /** A tracepoint tp_btf and raw_tp programs can attach to: "sched_switch". */
  hasTracepoint(name: string): Answer {
    return btfAnswer(`tracepoint ${name}`, native.hasType(`btf_trace_${name}`));
  },

  /** A function of the kernel proper, kfuncs included; not those of modules. */
  hasFunction(name: string): Answer {
    return btfAnswer(`function ${name}`, native.hasType(`func ${name}`));
  },

  /**
   * Names and values of an enum, without "enum": "skb_drop_reason".
   * @throws BpfError (ENOENT) when the kernel's BTF has none of that name
   */
  enumerators(name: string): ReadonlyMap<string, bigint> {
    const list = native.enumerators(name);
    if (!list) {
      throw failure("read enum", name, "ENOENT", "the kernel's BTF has no such enum");
    }
    const values = new Map<string, bigint>();
    for (let index = 0; index + 1 < list.length; index += 2) {
      values.set(String(list[index]), BigInt(list[index + 1] ?? 0n));
    }
    return values;
  },

  /** Whether the kernel describes its own types (CO-RE, tp_btf and the probes above need it). */
  hasBtf(): boolean {
    return native.hasBtf();
  },

  /** How many CPUs there may ever be: the length of what getPerCpu returns. */
  possibleCpus(): number {
    return native.possibleCpus();
  },
};
