/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: which connections somebody asks for over HTTP, and what is counted of their packets: how
 * many at each layer, and how long from one to the other. Owns not: where packets are met
 * (core/packets.bpf.c, core/analyzer.bpf.c).
 */
#ifndef TREESNOOP_ANALYZER_H
#define TREESNOOP_ANALYZER_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include "owner.h"
#include "packets.h"
#include "tree.h"

#define ANALYZER_QUERIES 32
#define ANALYZER_LEAST 24 /* as far as the ports behind an IPv4 header */

enum analyzer_direction { ANALYZER_SEND, ANALYZER_RECEIVE };

/* A query, as the asking end sees the connection: s is local. And a packet, as its headers have it.
 */
struct analyzer_ends {
  __u32 saddr[4], daddr[4]; /* network order, IPv4 in the first; all 0: any */
  __u16 sport, dport;       /* 0: any */
  __u8 ip;                  /* 4 or 6 */
  __u8 protocol;            /* IPPROTO_TCP or IPPROTO_UDP */
};

/* Crossings are numbered by the sum of their two layers less one. */
struct analyzer_count {
  __u64 packets[PACKET_LAYERS];
  __u64 crossings[PACKET_LAYERS], crossing_ns[PACKET_LAYERS];
};

struct analyzer_total {
  struct analyzer_count directions[2];
  __u64 drops;
  __u64 owner_ns; /* when its owner was seen last */
  __u32 owner;    /* process; 0: nobody of the tree */
};

/* By query. Totals are never cleared: who asks reckons with differences. */
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, ANALYZER_QUERIES);
  __type(key, __u32);
  __type(value, struct analyzer_total);
} analyzer_totals SEC(".maps");

struct analyzer_ends analyzer_queries[ANALYZER_QUERIES] = {};
__u32 analyzer_active = 0; /* a bit for each query that is asked */

/* `at`: the packet's IP header. Fragments but the first and IPv6 with extension headers have no
 * ports to be found by. */
static __always_inline bool analyzer_read(struct analyzer_ends *ends, struct sk_buff *skb,
                                          const unsigned char *at) {
  struct iphdr *v4 = kernel_type(iphdr, at);
  __u16 protocol = skb->protocol;
  struct ipv6hdr *v6;
  struct udphdr *ports; /* TCP's lie there too */

  __builtin_memset(ends, 0, sizeof(*ends));
  if (protocol == bpf_htons(ETH_P_IP)) {
    if (v4->frag_off & bpf_htons(0x1fff)) return false;
    ends->ip = 4;
    ends->protocol = v4->protocol;
    ends->saddr[0] = v4->saddr;
    ends->daddr[0] = v4->daddr;
    ports = kernel_type(udphdr, at + v4->ihl * 4);
  } else {
    if (protocol != bpf_htons(ETH_P_IPV6)) return false;
    v6 = kernel_type(ipv6hdr, at);
    ends->ip = 6;
    ends->protocol = v6->nexthdr;
    __builtin_memcpy(ends->saddr, &v6->saddr, 16);
    __builtin_memcpy(ends->daddr, &v6->daddr, 16);
    ports = kernel_type(udphdr, at + 40);
  }
  ends->sport = bpf_ntohs(ports->source);
  ends->dport = bpf_ntohs(ports->dest);
  return true;
}

static __always_inline bool analyzer_end(const __u32 *wanted, const __u32 *address,
                                         __u16 wanted_port, __u16 port) {
  if (wanted_port && wanted_port != port) return false;
  if (!(wanted[0] | wanted[1] | wanted[2] | wanted[3])) return true;
  return wanted[0] == address[0] && wanted[1] == address[1] && wanted[2] == address[2] &&
         wanted[3] == address[3];
}

/*
 * Global functions, here and below: the verifier looks at them once, not for each query. What is
 * received has the asking end as its destination.
 */
__noinline int analyzer_matches(const struct analyzer_ends *ends, __u32 index, bool received) {
  const struct analyzer_ends *query = &analyzer_queries[index % ANALYZER_QUERIES];
  const __u32 *local, *remote;

  if (!ends || query->ip != ends->ip || query->protocol != ends->protocol) return 0;
  local = received ? ends->daddr : ends->saddr;
  remote = received ? ends->saddr : ends->daddr;
  return analyzer_end(query->saddr, local, query->sport, received ? ends->dport : ends->sport) &&
         analyzer_end(query->daddr, remote, query->dport, received ? ends->sport : ends->dport);
}

/* A bit for each query this packet belongs to. */
__noinline int analyzer_match(const struct analyzer_ends *ends, bool received) {
  __u32 active = analyzer_active, found = 0;

  for (int i = 0; i < ANALYZER_QUERIES && active >> i; i++) {
    __u32 matches = active >> i & analyzer_matches(ends, i, received);

    found |= (matches & 1) << i;
  }
  return found;
}

/* `packet` has come to the layer. Programs of one CPU can be interrupted by each other, hence the
 * atomics. */
__noinline int analyzer_count_one(const struct packet *packet, __u32 query, __u32 direction,
                                  __u32 layer) {
  struct analyzer_total *total = bpf_map_lookup_elem(&analyzer_totals, &query);
  struct analyzer_count *count;

  if (!packet || !total || direction > 1 || layer >= PACKET_LAYERS) return 0;
  count = &total->directions[direction];
  __sync_fetch_and_add(&count->packets[layer], 1);
  for (__u32 other = 0; other < PACKET_LAYERS; other++) {
    bool before = direction == ANALYZER_SEND ? other > layer : other < layer;
    __u32 crossing = other + layer - 1;

    asm volatile(""
                 : "+r"(crossing)); /* the verifier sees the bounds only where they are checked */
    if (!before || crossing >= PACKET_LAYERS || !packet->ns[other]) continue;
    __sync_fetch_and_add(&count->crossings[crossing], 1);
    __sync_fetch_and_add(&count->crossing_ns[crossing], packet->ns[layer] - packet->ns[other]);
  }
  return 0;
}

__noinline int analyzer_reach(const struct packet *packet, __u32 direction, __u32 layer) {
  __u32 queries = packet ? packet->queries : 0;

  for (int i = 0; i < ANALYZER_QUERIES && queries >> i; i++)
    if (queries >> i & 1) analyzer_count_one(packet, i, direction, layer);
  return 0;
}

/* A layer before its socket is known: in a tree it waits until then. */
static __always_inline void analyzer_pass(const struct packet *packet, __u32 direction,
                                          __u32 layer) {
  if (host_mode && packet->queries) analyzer_reach(packet, direction, layer);
}

__noinline int analyzer_own(__u32 query, __u32 process, __u64 ns) {
  struct analyzer_total *total = bpf_map_lookup_elem(&analyzer_totals, &query);

  if (!total) return 0;
  total->owner = process;
  total->owner_ns = ns;
  return 0;
}

/* It has come to the layer where its socket is known. `process`: whose it is. */
static __always_inline void analyzer_know(struct packet *packet, __u32 process, __u32 direction,
                                          __u32 layer) {
  __u32 queries = packet->queries;

  if (!host_mode && !process) {
    packet->queries = 0;
    return;
  }
  if (!host_mode && direction == ANALYZER_SEND) {
    analyzer_reach(packet, direction, PACKET_TRANSPORT);
  } else if (!host_mode) {
    analyzer_reach(packet, direction, PACKET_LINK);
    analyzer_reach(packet, direction, PACKET_NETWORK);
  }
  analyzer_reach(packet, direction, layer);
  for (int i = 0; i < ANALYZER_QUERIES && queries >> i; i++)
    if (queries >> i & 1) analyzer_own(i, process, packet->ns[layer]);
}

#endif
