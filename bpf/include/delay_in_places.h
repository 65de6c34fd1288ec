/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: the table of received TCP packets that are not read yet, by socket and place in the stream.
 * Owns not: what comes into it and when it is read (delay_in_packets.h, delay_in.h).
 *
 * Each packet lies at another place than the one before. So that this is memory the CPU has at hand
 * a socket keeps its packets in a few places of its own as long as they do; elsewhere only then.
 */
#ifndef TREESNOOP_DELAY_IN_PLACES_H
#define TREESNOOP_DELAY_IN_PLACES_H

#include "delay.h"
#include "places.h"

#define DELAY_IN_BITS 13    /* buckets for everybody */
#define DELAY_IN_OWN_BITS 5 /* buckets of a socket */
#define DELAY_IN_SOCKET_BITS 8
#define DELAY_IN_WAYS 4

/* A packet not read yet. */
struct delay_in_packet {
  __u32 begin; /* of what had not come before */
  __u32 seq, end, ack, segments;
  __u64 link_ns, network_ns, transport_ns;
  __u8 retransmitted;
  __u8 refused;
  __u8 twice; /* it came again before its turn: either may be the one that is read */
  __u8 away;  /* not among its socket's own places */
};

struct delay_in_place {
  __u64 sk; /* 0: free */
  struct delay_in_packet packet;
};

struct delay_in_places {
  struct delay_in_place places[DELAY_IN_WAYS];
};

/* The sockets' own buckets, then those for everybody. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, (1 << (DELAY_IN_SOCKET_BITS + DELAY_IN_OWN_BITS)) + (1 << DELAY_IN_BITS));
  __type(key, __u32);
  __type(value, struct delay_in_places);
} delay_in_packets SEC(".maps");

static __always_inline struct delay_in_places *delay_in_own(__u64 sk, __u32 begin) {
  __u32 socket = sk * 0x9e3779b97f4a7c15ULL >> (64 - DELAY_IN_SOCKET_BITS);
  __u32 bucket = begin * 0x9e3779b9U >> (32 - DELAY_IN_OWN_BITS);
  __u32 place = socket << DELAY_IN_OWN_BITS | bucket;

  return bpf_map_lookup_elem(&delay_in_packets, &place);
}

static __always_inline struct delay_in_places *delay_in_away(__u64 sk, __u32 begin) {
  __u32 place = (sk ^ (__u64)begin << 32) * 0x9e3779b97f4a7c15ULL >> (64 - DELAY_IN_BITS);

  place += 1 << (DELAY_IN_SOCKET_BITS + DELAY_IN_OWN_BITS);
  return bpf_map_lookup_elem(&delay_in_packets, &place);
}

static __always_inline struct delay_in_place *delay_in_among(struct delay_in_places *near, __u64 sk,
                                                             __u32 begin) {
  for (int i = 0; near && i < DELAY_IN_WAYS; i++)
    if (near->places[i].sk == sk && near->places[i].packet.begin == begin) return &near->places[i];
  return NULL;
}

/* `away`: whether the socket has any away from its own places. */
static __always_inline struct delay_in_place *delay_in_find(__u64 sk, __u32 begin, bool away) {
  struct delay_in_place *place = delay_in_among(delay_in_own(sk, begin), sk, begin);

  return place || !away ? place : delay_in_among(delay_in_away(sk, begin), sk, begin);
}

static __always_inline struct delay_in_place *delay_in_free(struct delay_in_places *near) {
  for (int i = 0; near && i < DELAY_IN_WAYS; i++)
    if (!near->places[i].sk) return &near->places[i];
  return NULL;
}

static __always_inline struct delay_in_place *delay_in_oldest(struct delay_in_places *near) {
  struct delay_in_place *oldest = &near->places[0];

  for (int i = 1; i < DELAY_IN_WAYS; i++)
    if (near->places[i].packet.transport_ns < oldest->packet.transport_ns)
      oldest = &near->places[i];
  return oldest;
}

/*
 * True: in place of one that was refused. Where all places are taken the oldest is given up: it may
 * be left over from a socket that is gone. `away` counts the socket's.
 */
static __always_inline bool delay_in_keep(struct delay_in_packet *packet, __u64 sk, __u32 *away) {
  struct delay_in_place *place = delay_in_find(sk, packet->begin, *away);
  bool refused = place && place->packet.refused;
  struct delay_in_places *elsewhere;

  packet->away = place && place->packet.away;
  if (!place) place = delay_in_free(delay_in_own(sk, packet->begin));
  if (!place) {
    elsewhere = delay_in_away(sk, packet->begin);
    if (!elsewhere) return false;
    packet->away = 1;
    __sync_fetch_and_add(away, 1);
    place = delay_in_free(elsewhere);
    if (!place) place = delay_in_oldest(elsewhere);
  }
  if (!place_take_over(&place->sk)) return false;
  place->packet = *packet;
  place->sk = sk;
  return refused;
}

#endif
