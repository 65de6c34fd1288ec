/**
 * Owns: putting one pair of programs (entry, return) at many places of the tree's address spaces, with as
 * few kernel events as can be: the other half of bpf/include/sites.h.
 */
import * as fs from "node:fs";
import { type Link, openTracefs, type Tracefs, type UprobeEvent } from "libbpf-ts";
import type { Context } from "../core/module.js";

const groupPrefix = "treesnoop_";
/** As SITE_PAGE and SITE_EVENTS in sites.h. */
const page = 4096;
const maxEvents = 16;

export interface Site {
  readonly file: string;
  /** In the file, bytes; of the instruction. */
  readonly offset: number;
  /** What the entry program finds for this place; not 0. */
  readonly value: number;
  /** Whether the return is wanted too. */
  readonly returns: boolean;
}

export interface SitePrograms {
  /** Prefix of the events' names, unique among the users of this class. */
  readonly label: string;
  /** PROBE_SITES map of the entry program. */
  readonly map: string;
  readonly entry: string;
  readonly return: string;
}

/** Sites whose page offsets differ, and differ from those in use. */
function groupByOffset(sites: readonly Site[]): Site[][] {
  const groups: { sites: Site[]; taken: Set<number> }[] = [];
  for (const site of sites) {
    const at = site.offset % page;
    let group = groups.find((each) => !each.taken.has(at));
    if (!group) groups.push((group = { sites: [], taken: new Set() }));
    group.sites.push(site);
    group.taken.add(at);
  }
  return groups.map((group) => group.sites);
}

export class ProbeSites {
  readonly #context: Context;
  readonly #programs: SitePrograms;
  readonly #tracefs: Tracefs;
  readonly #open: { close(): void }[] = [];
  #events = 0;

  constructor(context: Context, programs: SitePrograms) {
    this.#context = context;
    this.#programs = programs;
    this.#tracefs = openTracefs();
    // What a killed monitor left: definitions without effect, since its perf events went with it.
    this.#tracefs.removeStale(groupPrefix, (group) => {
      return !fs.existsSync(`/proc/${/\d+/.exec(group)?.[0] ?? ""}`);
    });
  }

  /** Probes the places, from this moment on. False when there is no event left to put them in. */
  add(sites: readonly Site[]): boolean {
    return groupByOffset(sites).every((group) => this.#addGroup(group));
  }

  #addGroup(sites: readonly Site[]): boolean {
    const cookie = this.#events;
    if (cookie >= maxEvents) return false;
    this.#events++;
    const map = this.#context.map<number>(this.#programs.map);
    for (const site of sites) map.set(cookie * page + (site.offset % page), site.value);
    // The return first: an entry without its return would leave a call open.
    const returning = sites.filter((site) => site.returns);
    if (returning.length > 0) this.#attach(returning, cookie, this.#programs.return, true);
    this.#attach(sites, cookie, this.#programs.entry, false);
    return true;
  }

  #attach(sites: readonly Site[], cookie: number, program: string, retprobe: boolean): void {
    const [first, ...others] = sites;
    if (!first) return;
    const { scope, object } = this.#context;
    const event: UprobeEvent = this.#tracefs.defineUprobe({
      group: `${groupPrefix}${String(process.pid)}`,
      name: `${this.#programs.label}${String(cookie)}${retprobe ? "return" : "entry"}`,
      path: first.file,
      offset: first.offset,
      retprobe,
    });
    this.#open.push(event);
    for (const { file, offset } of others) this.#tracefs.addPlace(event, file, offset);
    scope.cover(event);
    const link: Link = object
      .program(program)
      .attachScopedUprobe({ event, cookie: BigInt(cookie), anchorPid: scope.anchor() });
    this.#open.push(link);
  }

  stop(): void {
    for (const each of this.#open.splice(0).reverse()) each.close();
    this.#tracefs.close();
  }
}
