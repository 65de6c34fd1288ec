/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: which of many places a uprobe fired at. Taking an event out costs a wait for the kernel's
 * readers (docs/mem.md), so all places share one event and one program; a place is told by the page
 * offset of its instruction, which no address-space layout changes. Places of equal page offset go
 * to different events, told apart by the attach cookie.
 */
#ifndef TREESNOOP_SITES_H
#define TREESNOOP_SITES_H

#include "kernel.h"

#define SITE_PAGE 4096 /* files are mapped at multiples of this on every machine */
#define SITE_EVENTS 16

/* Index: cookie * SITE_PAGE + page offset; value: what the monitor put there, never 0. */
#define PROBE_SITES(name)                        \
  struct {                                       \
    __uint(type, BPF_MAP_TYPE_ARRAY);            \
    __uint(max_entries, SITE_PAGE *SITE_EVENTS); \
    __type(key, __u32);                          \
    __type(value, __u32);                        \
  } name SEC(".maps")

/* `sites` is the address of a PROBE_SITES map. 0: not one of ours. */
static __always_inline __u32 probe_site(void *sites, struct pt_regs *ctx) {
  __u32 index = bpf_get_attach_cookie(ctx) * SITE_PAGE + (PT_REGS_IP(ctx) & (SITE_PAGE - 1));
  __u32 *site = bpf_map_lookup_elem(sites, &index);

  return site ? *site : 0;
}

#endif
