/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: the stamps of datagrams that wait in UDP sockets, found by the address of their buffer.
 * Owns not: when one is made and taken (core/udp_queue.bpf.c, udp_read.h).
 *
 * An array, as for packets under way (packets.h): no lock, no allocation. A buffer's address is
 * used again soon, so the memory is at hand.
 */
#ifndef TREESNOOP_UDP_STAMPS_H
#define TREESNOOP_UDP_STAMPS_H

#include "connection.h"
#include "places.h"

#define UDP_STAMP_BITS 13
#define UDP_STAMP_WAYS 4

struct udp_stamp {
  __u64 skb; /* whose: the address as a number; 0: free */
  __u64 ns;
  __u64 cookie; /* of the socket */
  struct connection connection;
  __u32 length;
  __u32 number;  /* among those of its socket */
  __u32 process; /* who owned the socket then */
  __u32 cpu;
};

struct udp_stamp_places {
  struct udp_stamp stamps[UDP_STAMP_WAYS];
};

/* A socket's default receive buffer holds at most 277. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1 << UDP_STAMP_BITS);
  __type(key, __u32);
  __type(value, struct udp_stamp_places);
} udp_stamps SEC(".maps");

static __always_inline struct udp_stamp_places *udp_stamps_near(__u64 skb) {
  __u32 place = skb * 0x9e3779b97f4a7c15ULL >> (64 - UDP_STAMP_BITS);

  return bpf_map_lookup_elem(&udp_stamps, &place);
}

static __always_inline struct udp_stamp *udp_stamp_find(__u64 skb) {
  struct udp_stamp_places *near = udp_stamps_near(skb);

  for (int i = 0; near && i < UDP_STAMP_WAYS; i++)
    if (near->stamps[i].skb == skb) return &near->stamps[i];
  return NULL;
}

/*
 * In place of an earlier one of this buffer, or where there is room. Else the oldest gives way: it
 * may be one whose read could not be told, which would stay for ever. False: no place just now.
 */
static __always_inline bool udp_stamp_keep(const struct udp_stamp *stamp) {
  struct udp_stamp_places *near = udp_stamps_near(stamp->skb);
  struct udp_stamp *place = udp_stamp_find(stamp->skb);

  if (!near) return false;
  for (int i = 0; !place && i < UDP_STAMP_WAYS; i++)
    if (!near->stamps[i].skb) place = &near->stamps[i];
  if (!place) {
    place = &near->stamps[0];
    for (int i = 1; i < UDP_STAMP_WAYS; i++)
      if (near->stamps[i].ns < place->ns) place = &near->stamps[i];
  }
  if (!place_take_over(&place->skb)) return false;
  __builtin_memcpy(&place->ns, &stamp->ns, sizeof(*stamp) - sizeof(stamp->skb));
  place->skb = stamp->skb;
  return true;
}

#endif
