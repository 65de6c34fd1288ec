/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: when a program wrote which part of a TCP stream, and packets on their way from TCP to the
 * device, with the record of each. Owns not: where they are met (modules/delay_out.bpf.c).
 */
#ifndef TREESNOOP_DELAY_OUT_H
#define TREESNOOP_DELAY_OUT_H

#include "delay.h"

#define DELAY_OUT_WRITES 128 /* per socket; a power of two */

struct delay_out_event {
  struct event event;
  struct connection connection; /* as the socket has it: s is local */
  union {                       /* the source in the packet, where it is another one */
    __u8 nat4[4];
    __u8 nat6[16];
  };
  __u16 nat_port;
  __u32 seq, ack, length, segments;
  __u64 tcp_ns, ip_ns, qdisc_ns, total_ns;
  __u8 written; /* since when it waited is known */
  __u8 translated;
  __u8 retransmitted;
};

EVENT_RECORD(delay_out_event);

/* Whose place in the table of stamps it is, and its record as far as it is known. */
struct delay_out_packet {
  __u64 skb, sk;
  __u64 written_ns, transport_ns, network_ns;
  struct delay_out_event event;
};

/* Each at the same place as its stamps. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1 << PACKET_BITS);
  __type(key, __u32);
  __type(value, struct delay_out_packet);
} delay_out_packets SEC(".maps");

struct delay_out_write {
  __u64 ns;
  __u32 seq; /* where it begins */
};

struct delay_out_socket {
  __u32 run;
  __u32 count; /* writes so far; the last DELAY_OUT_WRITES of them are here */
  struct delay_out_write writes[DELAY_OUT_WRITES];
};

struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct delay_out_socket);
} delay_out_sockets SEC(".maps");

const volatile __u32 delay_out_stream = 0;
struct delay_choice delay_out_choice = {};
__u32 delay_out_run = 0;       /* which time the module is on */
__u64 delay_out_unstamped = 0; /* packets that did not come from TCP as a whole */
__u64 delay_out_begun = 0, delay_out_told = 0, delay_out_dropped = 0;
__u64 delay_out_lost = 0; /* no memory */

/* When the byte at `seq` was written; 0: not known any more. Writes are in the order of the stream.
 */
static __always_inline __u64 delay_out_written(struct delay_out_socket *socket, __u32 seq) {
  __u32 count = socket->count, low, high, step;

  if (!count) return 0;
  low = count > DELAY_OUT_WRITES ? count - DELAY_OUT_WRITES : 0;
  if (seq_before(seq, socket->writes[low % DELAY_OUT_WRITES].seq)) return 0;
  high = count; /* the write wanted is in [low, high) */
  for (step = 0; step < 8 && high - low > 1; step++) {
    __u32 middle = low + (high - low) / 2;

    if (seq_before(seq, socket->writes[middle % DELAY_OUT_WRITES].seq))
      high = middle;
    else
      low = middle;
  }
  return socket->writes[low % DELAY_OUT_WRITES].ns;
}

/* The socket's own ends, and what address translation has made of the source. */
static __always_inline void delay_out_name(struct delay_out_event *event, struct sock *sk,
                                           const struct connection *packet) {
  struct connection *own = &event->connection;

  const __u64 *before = (const __u64 *)own->saddr6, *now = (const __u64 *)packet->saddr6;

  connection_of(own, sk);
  if (own->ip != packet->ip || !own->dport) { /* not connected: resets, answers to a SYN */
    *own = *packet;
    return;
  }
  event->translated =
      own->sport != packet->sport || before[0] != now[0] || (own->ip == 6 && before[1] != now[1]);
  __builtin_memcpy(event->nat6, packet->saddr6, sizeof(event->nat6));
  event->nat_port = packet->sport;
}

#endif
