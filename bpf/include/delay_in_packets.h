/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: received TCP packets that are not read yet, by their place in the stream. Owns not: who
 * reads them (delay_in.h).
 */
#ifndef TREESNOOP_DELAY_IN_PACKETS_H
#define TREESNOOP_DELAY_IN_PACKETS_H

#include "delay.h"

#define DELAY_IN_BITS 13
#define DELAY_IN_WAYS 4
#define DELAY_IN_AT_ONCE 4096 /* packets one step of a reader may finish */
#define DELAY_IN_TAKEN 1      /* somebody is at this place; sockets' numbers are even */

/* A packet not read yet. */
struct delay_in_packet {
  __u32 begin; /* of what had not come before */
  __u32 seq, end, ack, segments;
  __u64 link_ns, network_ns, transport_ns;
  __u8 retransmitted;
  __u8 refused;
  __u8 twice; /* it came again before its turn: either may be the one that is read */
};

struct delay_in_place {
  __u64 sk; /* 0: free */
  struct delay_in_packet packet;
};

struct delay_in_places {
  struct delay_in_place places[DELAY_IN_WAYS];
};

/* By socket and beginning. Where all places are taken the oldest is given up: it may be left over
 * from a socket that is gone. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1 << DELAY_IN_BITS);
  __type(key, __u32);
  __type(value, struct delay_in_places);
} delay_in_packets SEC(".maps");

/* Which packet an sk_buff brought to TCP, found by its address. */
struct delay_in_arrival {
  __u64 skb, sk;
  __u32 begin, seq;
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1 << PACKET_BITS);
  __type(key, __u32);
  __type(value, struct delay_in_arrival);
} delay_in_arrivals SEC(".maps");

struct delay_in_socket {
  struct connection connection;
  __u32 run;
  __u32 next;    /* where the first packet begins that is not read yet */
  __u32 high;    /* end of what has come */
  __u32 end;     /* of the data for the reader */
  __s64 waiting; /* packets for the reader */
};

__u64 delay_in_kept = 0;   /* for a reader */
__u64 delay_in_missed = 0; /* read, and not told apart */

static __always_inline struct delay_in_places *delay_in_near(__u64 sk, __u32 begin) {
  __u32 place = (sk ^ (__u64)begin << 32) * 0x9e3779b97f4a7c15ULL >> (64 - DELAY_IN_BITS);

  return bpf_map_lookup_elem(&delay_in_packets, &place);
}

static __always_inline struct delay_in_place *delay_in_find(__u64 sk, __u32 begin) {
  struct delay_in_places *near = delay_in_near(sk, begin);

  for (int i = 0; near && i < DELAY_IN_WAYS; i++)
    if (near->places[i].sk == sk && near->places[i].packet.begin == begin) return &near->places[i];
  return NULL;
}

/* To be set free by who took it. */
static __always_inline bool delay_in_take(struct delay_in_place *place, __u64 sk) {
  return __sync_val_compare_and_swap(&place->sk, sk, DELAY_IN_TAKEN) == sk;
}

/* True: in place of one that was refused. */
static __always_inline bool delay_in_keep(const struct delay_in_packet *packet, __u64 sk) {
  struct delay_in_places *near = delay_in_near(sk, packet->begin);
  struct delay_in_place *best = delay_in_find(sk, packet->begin);
  bool refused = best && best->packet.refused;
  __u64 holder;

  if (!near) return false;
  for (int i = 0; i < DELAY_IN_WAYS && !best; i++)
    if (!near->places[i].sk) best = &near->places[i];
  if (!best) {
    best = &near->places[0];
    for (int i = 1; i < DELAY_IN_WAYS; i++)
      if (near->places[i].packet.transport_ns < best->packet.transport_ns) best = &near->places[i];
  }
  holder = best->sk;
  if (holder == DELAY_IN_TAKEN || !delay_in_take(best, holder)) return false;
  best->packet = *packet;
  best->sk = sk;
  return refused;
}

struct delay_in_search {
  __u64 sk;
  __u32 begin, end;
  bool twice;
};

/* Over what has come before and is not read yet. 1: the rest of the packet is new. */
static long delay_in_pass(__u32 index, struct delay_in_search *search) {
  struct delay_in_place *place = delay_in_find(search->sk, search->begin);

  if (!place || place->packet.refused || !seq_before(search->begin, search->end)) return 1;
  /*
   * TCP may have it, waiting for what is before it or for who is in a call on the socket. Or it was
   * refused unseen, as the kernel leaves a program out where it would interrupt itself.
   */
  search->twice = place->packet.twice = 1;
  search->begin = place->packet.end;
  return 0;
}

/* What is of one connection may come on several CPUs at once. */
static __always_inline void delay_in_extend(struct delay_in_socket *socket, __u32 end) {
  for (int i = 0; i < 4; i++) {
    __u32 before = socket->end;

    if (!seq_before(before, end)) return;
    if (__sync_val_compare_and_swap(&socket->end, before, end) == before) return;
  }
}

/* False: nobody will read it. */
static __always_inline bool delay_in_arrive(struct delay_in_packet *packet,
                                            struct delay_in_socket *socket, __u64 sk, __u32 rcv_nxt,
                                            __u64 skb) {
  struct delay_in_search search = {.sk = sk, .begin = packet->seq, .end = packet->end};
  __u32 place = packet_place(skb);
  struct delay_in_arrival *arrival = bpf_map_lookup_elem(&delay_in_arrivals, &place);

  if (!arrival || !seq_before(rcv_nxt, packet->end)) return false;
  if (seq_before(packet->seq, rcv_nxt)) search.begin = rcv_nxt;
  bpf_loop(DELAY_IN_AT_ONCE, delay_in_pass, &search, 0);
  if (!seq_before(search.begin, packet->end)) {
    if (!search.twice) return false;
    __sync_fetch_and_add(&delay_in_kept, 1);
    __sync_fetch_and_add(&delay_in_missed, 1);
    return true;
  }
  packet->begin = search.begin;
  arrival->skb = skb;
  arrival->sk = sk;
  arrival->begin = packet->begin;
  arrival->seq = packet->seq;
  delay_in_extend(socket, packet->end); /* before it is counted */
  if (!delay_in_keep(packet, sk)) __sync_fetch_and_add(&socket->waiting, 1);
  __sync_fetch_and_add(&delay_in_kept, 1);
  return true;
}

/* The reader has come to the end of all there was: what was not told by now will not be. */
static __always_inline void delay_in_settle(struct delay_in_socket *socket, __u32 copied) {
  __s64 waiting = socket->waiting;

  if (waiting <= 0 || seq_before(copied, socket->end)) return;
  __sync_fetch_and_add(&socket->waiting, -waiting);
  __sync_fetch_and_add(&delay_in_missed, waiting);
}

#endif
