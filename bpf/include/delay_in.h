/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: received TCP packets on their way to a reader, and the record of each. Owns not: where they
 * are met (modules/delay_in.bpf.c).
 */
#ifndef TREESNOOP_DELAY_IN_H
#define TREESNOOP_DELAY_IN_H

#include "delay.h"

#define DELAY_IN_BITS 15
#define DELAY_IN_STEPS 4 /* places looked at */

struct delay_in_event {
  struct event event;
  struct connection connection; /* s is who sent it */
  __u32 seq, ack, length, segments;
  __u64 mac_ns, ip_ns, tcp_ns, total_ns;
  __u8 retransmitted; /* it lies before what had come by then */
  __u8 read;
};

EVENT_RECORD(delay_in_event);

/* A packet not read yet. */
struct delay_in_packet {
  __u64 sk;
  __u32 seq, end, ack, segments;
  __u64 link_ns, network_ns, transport_ns;
  __u8 retransmitted;
};

/* By socket and place in the stream; who finds all places taken takes the first (packets.h). */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1 << DELAY_IN_BITS);
  __type(key, __u32);
  __type(value, struct delay_in_packet);
} delay_in_packets SEC(".maps");

struct delay_in_socket {
  struct connection connection;
  __u32 run;
  __u32 next; /* where the first packet begins that is not read yet */
  __u32 high; /* end of what has come */
  __u32 gap;  /* 1: that is not known; it is where the next packet to come begins */
};

struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct delay_in_socket);
} delay_in_sockets SEC(".maps");

const volatile __u32 delay_in_stream = 0;
struct delay_choice delay_in_choice = {};
__u32 delay_in_run = 0;                     /* which time the module is on */
__u64 delay_in_unstamped = 0;               /* packets whose way to TCP is not known */
__u64 delay_in_kept = 0, delay_in_told = 0; /* for a reader; read */
__u64 delay_in_lost = 0;                    /* no memory */

/* Neighbours in the stream are neighbours here: one window of a socket does not meet itself. */
static __always_inline struct delay_in_packet *delay_in_place(__u64 sk, __u32 seq, __u32 step) {
  __u32 place = (sk * 0x9e3779b97f4a7c15ULL >> 32) + (seq >> 8) + step;

  place &= (1 << DELAY_IN_BITS) - 1;
  return bpf_map_lookup_elem(&delay_in_packets, &place);
}

static __always_inline struct delay_in_packet *delay_in_find(__u64 sk, __u32 seq) {
  for (__u32 step = 0; step < DELAY_IN_STEPS; step++) {
    struct delay_in_packet *packet = delay_in_place(sk, seq, step);

    if (packet && packet->sk == sk && packet->seq == seq) return packet;
  }
  return NULL;
}

static __always_inline struct delay_in_packet *delay_in_free(__u64 sk, __u32 seq) {
  for (__u32 step = 0; step < DELAY_IN_STEPS; step++) {
    struct delay_in_packet *packet = delay_in_place(sk, seq, step);

    if (packet && !packet->sk) return packet;
  }
  return delay_in_place(sk, seq, 0);
}

static __always_inline void delay_in_tell(const struct delay_in_packet *packet,
                                          const struct connection *connection, __u32 process,
                                          __u64 now, bool read) {
  struct delay_in_event *event;

  if (!process && !host_mode) return;
  event = event_reserve(delay_in_stream, process, now, sizeof(*event));
  if (!event) return;
  event->connection = *connection;
  event->seq = packet->seq;
  event->ack = packet->ack;
  event->length = packet->end - packet->seq;
  event->segments = packet->segments;
  event->mac_ns = packet->network_ns - packet->link_ns;
  event->ip_ns = packet->transport_ns - packet->network_ns;
  event->tcp_ns = now - packet->transport_ns;
  event->total_ns = now - packet->link_ns;
  event->retransmitted = packet->retransmitted;
  event->read = read;
  event_submit(event, sizeof(*event));
}

/* Of a socket met for the first time, or behind a gap, reading is followed from this packet on. */
static __always_inline struct delay_in_socket *delay_in_meet(struct bpf_sock *sk,
                                                             const struct segment *segment) {
  struct delay_in_socket *socket =
      bpf_sk_storage_get(&delay_in_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);

  if (!socket) {
    __sync_fetch_and_add(&delay_in_lost, 1);
    return NULL;
  }
  if (socket->run != delay_in_run) {
    socket->connection = segment->connection;
    socket->high = segment->seq;
    socket->gap = 1;
    socket->run = delay_in_run;
  }
  if (!socket->gap || !segment->length) return socket;
  socket->next = segment->seq;
  socket->gap = 0;
  return socket;
}

#endif
