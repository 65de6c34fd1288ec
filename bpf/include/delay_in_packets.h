/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: the coming of TCP packets, each to be read by its place in the stream. Owns not: where they
 * are kept until then (delay_in_places.h), who reads them (delay_in.h).
 */
#ifndef TREESNOOP_DELAY_IN_PACKETS_H
#define TREESNOOP_DELAY_IN_PACKETS_H

#include "delay_in_places.h"

#define DELAY_IN_AT_ONCE 4096 /* packets one step of a reader may finish */

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
  __u32 away;    /* packets that are not among its own places */
  __s64 waiting; /* packets for the reader */
};

__u64 delay_in_kept = 0;   /* for a reader */
__u64 delay_in_missed = 0; /* read, and not told apart */

struct delay_in_search {
  __u64 sk;
  __u32 begin, end;
  bool twice, away;
};

/* Over what has come before and is not read yet. 1: the rest of the packet is new. */
static long delay_in_pass(__u32 index, struct delay_in_search *search) {
  struct delay_in_place *place = delay_in_find(search->sk, search->begin, search->away);

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
  struct delay_in_search search = {
      .sk = sk, .begin = packet->seq, .end = packet->end, .away = socket->away};
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
  if (!delay_in_keep(packet, sk, &socket->away)) __sync_fetch_and_add(&socket->waiting, 1);
  __sync_fetch_and_add(&delay_in_kept, 1);
  return true;
}

/* The reader has come to the end of all there was: what was not told by now will not be. */
static __always_inline void delay_in_settle(struct delay_in_socket *socket, __u32 copied) {
  __s64 waiting = socket->waiting;

  if (waiting <= 0 || seq_before(copied, socket->end)) return;
  socket->away = 0;
  __sync_fetch_and_add(&socket->waiting, -waiting);
  __sync_fetch_and_add(&delay_in_missed, waiting);
}

#endif
