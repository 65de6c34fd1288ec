/**
 * Owns: what this kernel offers, in sentences. Asked of BTF and by probing, never of the version.
 * Owns not: what a module makes of a no.
 */
import * as fs from "node:fs";
import { kernel, openTracefs, type Answer } from "libbpf-ts";
import { describe } from "./errors.js";
import type { Need } from "./contract.js";

const need = (feature: string, answer: Answer, fix = ""): Need => ({
  feature,
  supported: answer.supported,
  reason: answer.supported === false && fix ? `${answer.reason} ${fix}` : answer.reason,
});

export const host = {
  btf: (): boolean => kernel.hasBtf(),

  /** CAP_SYS_ADMIN, CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, read from the effective set. */
  privileged(): boolean {
    const effective = /^CapEff:\s*([0-9a-f]+)/m.exec(fs.readFileSync("/proc/self/status", "utf8"))?.[1];
    const wanted = [12n, 21n, 38n, 39n].reduce((mask, bit) => mask | (1n << bit), 0n);
    return effective !== undefined && (BigInt(`0x${effective}`) & wanted) === wanted;
  },

  tracepoint: (name: string): Need =>
    need(`tp_btf/${name}`, kernel.hasTracepoint(name), "It needs a newer kernel."),

  programType: (type: string, feature: string): Need => need(feature, kernel.hasProgramType(type)),

  mapType: (type: string, feature: string): Need => need(feature, kernel.hasMapType(type)),

  kernelFunction: (name: string): Need =>
    need(name, kernel.hasFunction(name), "It needs a newer kernel."),

  /** Where cgroup2 is mounted, wherever the host chose to (/sys/fs/cgroup is only a habit). */
  cgroup2(): string | undefined {
    const mount = fs
      .readFileSync("/proc/self/mounts", "utf8")
      .split("\n")
      .map((line) => line.split(" "))
      .find((fields) => fields[2] === "cgroup2");
    return mount?.[1]?.replaceAll("\\040", " ");
  },

  cgroup2Mounted(): Need {
    const where = host.cgroup2();
    return {
      feature: "cgroup2",
      supported: where !== undefined,
      reason:
        where !== undefined
          ? `cgroup2 is mounted on ${where}.`
          : "cgroup2 is not mounted; mount it: mkdir -p /run/cgroup2 && mount -t cgroup2 none /run/cgroup2",
    };
  },

  /** Uprobes through tracefs, mounted or not. */
  uprobeEvents(): Need {
    const feature = "uprobe events";
    if (!host.privileged()) return { feature, supported: "unknown", reason: "Only root can look." };
    try {
      openTracefs().close();
      return { feature, supported: true, reason: "tracefs can be opened." };
    } catch (error) {
      return {
        feature,
        supported: false,
        reason: `tracefs cannot be opened (${describe(error)}); it needs CONFIG_UPROBE_EVENTS=y.`,
      };
    }
  },

  file: (path: string, feature: string): Need => {
    const there = fs.existsSync(path);
    return { feature, supported: there, reason: `${path} ${there ? "is there" : "is missing"}.` };
  },

  /** A program on PATH, and the package that brings it. */
  command(name: string, inPackage: string): Need {
    const folders = (process.env["PATH"] ?? "").split(":").filter(Boolean);
    const there = folders.some((folder) => fs.existsSync(`${folder}/${name}`));
    return {
      feature: name,
      supported: there,
      reason: there ? `${name} is installed.` : `${name} is missing; install the package ${inPackage}.`,
    };
  },

  /** The first need that is definitely missing. */
  missing: (needs: readonly Need[]): Need | undefined =>
    needs.find((each) => each.supported === false),
};
