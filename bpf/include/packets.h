/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: the stamps of packets under way: when each was met at each layer, found again by the
 * sk_buff's address. Owns not: where they are stamped (core/packets.bpf.c), what is made of that.
 *
 * An array, each packet at one of two places its address hashes to: no lock, no allocation, a few
 * nanoseconds. Who finds both taken takes the older; that one's path is then not known, which
 * whoever asks for it counts. An address is used again for another packet, but each one is stamped
 * anew where it begins its way.
 */
#ifndef TREESNOOP_PACKETS_H
#define TREESNOOP_PACKETS_H

#include "target.h"

#define PACKET_BITS 14

enum packet_layer { PACKET_LINK, PACKET_NETWORK, PACKET_TRANSPORT, PACKET_LAYERS };

struct packet {
  __u64 skb; /* whose place this is: the address as a number; 0: nobody's */
  __u64 sk;  /* sent: its socket */
  __u64 began_ns;
  __u64 ns[PACKET_LAYERS]; /* CLOCK_MONOTONIC; 0: not met there yet */
  __u32 queries;           /* who asks for it over HTTP (analyzer.h) */
  __u32 queued;            /* sent: delay_out has met it at a device's queue */
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1 << PACKET_BITS);
  __type(key, __u32);
  __type(value, struct packet);
} packets SEC(".maps");

static __always_inline __u32 packet_place(__u64 address) {
  return address * 0x9e3779b97f4a7c15ULL >> (64 - PACKET_BITS);
}

static __always_inline struct packet *packet_at(__u32 place) {
  return bpf_map_lookup_elem(&packets, &place);
}

/* NULL: its way was not followed from the beginning. */
static __always_inline struct packet *packet_find(__u64 address) {
  __u32 place = packet_place(address);
  struct packet *packet = packet_at(place);

  if (packet && packet->skb == address) return packet;
  packet = packet_at(place ^ 1);
  return packet && packet->skb == address ? packet : NULL;
}

static __always_inline struct packet *packet_begin(__u64 address, __u64 sk, __u32 queries,
                                                   enum packet_layer layer) {
  __u32 place = packet_place(address);
  struct packet *packet = packet_at(place), *other = packet_at(place ^ 1);

  if (!packet || !other) return NULL;
  if (other->skb == address || (packet->skb != address && other->began_ns < packet->began_ns))
    packet = other;
  packet->skb = 0; /* another CPU must not take the new stamps for the old packet's */
  packet->sk = sk;
  packet->ns[PACKET_LINK] = 0;
  packet->ns[PACKET_NETWORK] = 0;
  packet->ns[PACKET_TRANSPORT] = 0;
  packet->began_ns = bpf_ktime_get_ns();
  packet->ns[layer] = packet->began_ns;
  packet->queries = queries;
  packet->queued = 0;
  packet->skb = address;
  return packet;
}

/* The same for one that is sent. One without a socket may be passed on, which was received. */
static __always_inline struct packet *packet_find_sent(struct sk_buff *skb) {
  struct packet *packet = packet_find(as_number(skb));

  if (!packet || packet->sk != as_number(skb->sk)) return NULL;
  if (packet->began_ns != packet->ns[PACKET_TRANSPORT]) return NULL; /* received, long ago */
  return skb->sk || !skb->skb_iif ? packet : NULL;
}

/* include/linux/netdevice.h, priv_flags: 802.1Q, bridge, bonding, macvlan, team */
#define PACKET_STACKED (1 << 0 | 1 << 1 | 1 << 2 | 1 << 16 | 1 << 22)

/* Such a device hands what is sent to another one. */
static __always_inline bool packet_goes_on(struct net_device *dev) {
  return BPF_CORE_READ_BITFIELD(dev, priv_flags) & PACKET_STACKED;
}

#endif
