/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: what delay_in and delay_out both ask of a TCP segment: its ends, its place in the stream,
 * and whether it is wanted.
 */
#ifndef TREESNOOP_DELAY_H
#define TREESNOOP_DELAY_H

#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>

#include "connection.h"
#include "packets.h"
#include "tree.h"

struct segment {
  struct connection connection; /* as in the packet: s is who sent it */
  __u32 seq, ack;
  __u32 length;   /* of the data */
  __u32 segments; /* it was cut into, or put together of */
  __u32 size;     /* of the data of each of several */
  __u32 span;     /* of its place in the stream: data, SYN, FIN */
  bool syn;
  __u8 protocol; /* as IP's own header has it */
};

/* What config.json asks for; 0: any port. */
struct delay_choice {
  __u16 sport, dport;
  __u32 sample; /* one connection in so many */
};

/* Whether sequence number a comes before b. */
static __always_inline bool seq_before(__u32 a, __u32 b) { return (__s32)(a - b) < 0; }

/* Where the next segment begins. */
static __always_inline __u32 segment_end(const struct segment *segment) {
  return segment->seq + segment->span;
}

static __always_inline struct skb_shared_info *segment_shared(struct sk_buff *skb) {
  return kernel_type(skb_shared_info, skb->head + skb->end);
}

/* skb's network and transport headers are set. */
static __always_inline void segment_read(struct segment *segment, struct sk_buff *skb) {
  struct connection *ends = &segment->connection;
  unsigned char *head = skb->head;
  __u16 network = skb->network_header, transport = skb->transport_header;
  struct iphdr *v4 = kernel_type(iphdr, head + network);
  struct tcphdr *tcp = kernel_type(tcphdr, head + transport);
  struct skb_shared_info *shared = segment_shared(skb);
  struct ipv6hdr *v6;
  __u64 data;

  __builtin_memset(segment, 0, sizeof(*segment));
  ends->ip = v4->version;
  if (ends->ip == 6) {
    v6 = kernel_type(ipv6hdr, head + network);
    segment->protocol = v6->nexthdr;
    __builtin_memcpy(ends->saddr6, &v6->saddr, 16);
    __builtin_memcpy(ends->daddr6, &v6->daddr, 16);
  } else {
    segment->protocol = v4->protocol;
    __builtin_memcpy(ends->saddr4, &v4->saddr, 4);
    __builtin_memcpy(ends->daddr4, &v4->daddr, 4);
  }
  ends->sport = bpf_ntohs(tcp->source);
  ends->dport = bpf_ntohs(tcp->dest);
  segment->seq = bpf_ntohl(tcp->seq);
  segment->ack = bpf_ntohl(tcp->ack_seq);
  data = (__u64)skb->data - (__u64)head;
  asm volatile("" : "+r"(data)); /* or it is taken as 32 bits, which pointers must not be */
  segment->length = skb->len - (transport - (__u32)data) - tcp->doff * 4;
  segment->syn = tcp->syn;
  segment->span = segment->length + tcp->syn + tcp->fin;
  segment->segments = shared->gso_segs;
  segment->size = shared->gso_size;
  if (!segment->segments) segment->segments = 1;
}

/* The same for both directions of a connection, and on both hosts: a connection is seen whole. */
static __always_inline __u32 delay_hash(const struct connection *ends) {
  const __u64 *from = (const __u64 *)ends->saddr6, *to = (const __u64 *)ends->daddr6;
  __u64 hash = from[0] ^ to[0] ^ (from[1] ^ to[1]) * 31;

  hash ^= (__u64)(ends->sport ^ ends->dport) << 32 | (__u32)(ends->sport + ends->dport);
  hash *= 0x9e3779b97f4a7c15ULL; /* 2^64 / golden ratio: Knuth, TAOCP 6.4 */
  return hash >> 32;
}

static __always_inline bool delay_wanted(const struct connection *ends,
                                         const struct delay_choice *choice) {
  if (choice->sport && choice->sport != ends->sport) return false;
  if (choice->dport && choice->dport != ends->dport) return false;
  return choice->sample <= 1 || delay_hash(ends) % choice->sample == 0;
}

#endif
