/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: packets on their way from TCP to the device, and the record of each. Owns not: where they
 * are met (modules/delay_out.bpf.c).
 */
#ifndef TREESNOOP_DELAY_OUT_H
#define TREESNOOP_DELAY_OUT_H

#include "delay_out_socket.h"
#include "places.h"

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

#define IPPROTO_HOPOPTS 0 /* these: include/uapi/linux/in6.h */
#define IPPROTO_ROUTING 43
#define IPPROTO_DSTOPTS 60

/* Whose place it is, and its record as far as it is known. */
struct delay_out_packet {
  __u64 skb; /* 0: nobody's */
  __u64 sk;
  __u64 written_ns, transport_ns, network_ns;
  __u32 span;        /* of its place in the stream */
  __u32 size, super; /* of more than one segment: of each; its number in the socket, or 0 */
  struct delay_out_event event;
};

/* By the sk_buff's address, at one of two places. Who finds both taken takes the older. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1 << PACKET_BITS);
  __type(key, __u32);
  __type(value, struct delay_out_packet);
} delay_out_packets SEC(".maps");

const volatile __u32 delay_out_stream = 0;
struct delay_choice delay_out_choice = {};
__u64 delay_out_unstamped = 0; /* packets that did not come from TCP as a whole */
__u64 delay_out_begun = 0, delay_out_told = 0, delay_out_dropped = 0; /* in segments */
__u64 delay_out_lost = 0;                                             /* no memory */

/* The socket's own ends, and what address translation has made of the source. */
static __always_inline void delay_out_name(struct delay_out_event *event, struct sock *sk,
                                           const struct connection *packet) {
  struct connection *own = &event->connection;

  const __u64 *before = (const __u64 *)own->saddr6, *now = (const __u64 *)packet->saddr6;

  if (sk) connection_of(own, sk);
  if (own->ip != packet->ip || !own->dport) { /* not connected: resets, answers to a SYN */
    *own = *packet;
    return;
  }
  event->translated =
      own->sport != packet->sport || before[0] != now[0] || (own->ip == 6 && before[1] != now[1]);
  __builtin_memcpy(event->nat6, packet->saddr6, sizeof(event->nat6));
  event->nat_port = packet->sport;
}

static __always_inline struct delay_out_packet *delay_out_at(__u32 place) {
  return bpf_map_lookup_elem(&delay_out_packets, &place);
}

static __always_inline struct delay_out_packet *delay_out_find(__u64 address) {
  __u32 place = packet_place(address);
  struct delay_out_packet *packet = delay_out_at(place);

  if (packet && packet->skb == address) return packet;
  packet = delay_out_at(place ^ 1);
  return packet && packet->skb == address ? packet : NULL;
}

/* Where it finds no place it is not told: it has begun and does not end. */
static __always_inline void delay_out_keep(const struct delay_out_packet *packet) {
  __u32 place = packet_place(packet->skb);
  struct delay_out_packet *kept = delay_out_at(place), *other = delay_out_at(place ^ 1);

  if (!kept || !other) return;
  if (kept->skb && (!other->skb || other->network_ns < kept->network_ns)) kept = other;
  if (!place_take_over(&kept->skb)) return;
  __builtin_memcpy(&kept->sk, &packet->sk, sizeof(*kept) - sizeof(kept->skb));
  kept->skb = packet->skb;
}

/* One of several segments that are not cut yet. */
static __always_inline bool delay_out_is_whole(struct sk_buff *skb) {
  return segment_shared(skb)->gso_size;
}

/* Not what a tunnel has put around it. In IPv6 other headers may come before TCP's. */
static __always_inline bool delay_out_is_tcp(const struct segment *segment) {
  __u8 next = segment->protocol;

  if (next == IPPROTO_TCP) return true;
  if (segment->connection.ip != 6) return false;
  return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS;
}

/* Reads what the packet and its socket say; resets may have none. False: not wanted. */
static __always_inline bool delay_out_begin(struct delay_out_packet *packet, struct sk_buff *skb,
                                            struct sock *sk, struct delay_out_socket *socket) {
  struct delay_out_event *event = &packet->event;
  struct socket_owner *owner = NULL;
  struct segment segment;

  if (sk && !owner_is_inet(sk)) return false;
  if (sk && owner_is_full(sk) && sk->sk_protocol != IPPROTO_TCP) return false;
  if (BPF_CORE_READ_BITFIELD(skb, encapsulation)) return false;
  __builtin_memset(packet, 0, sizeof(*packet));
  if (sk && owner_is_full(sk)) owner = bpf_sk_storage_get(&socket_owners, sk, NULL, 0);
  event->event.process = owner_process(owner);
  if (!event->event.process && !host_mode) return false;
  segment_read(&segment, skb);
  if (!delay_out_is_tcp(&segment)) return false;
  delay_out_name(event, sk, &segment.connection);
  if (!delay_wanted(&event->connection, &delay_out_choice)) return false;
  event->seq = segment.seq;
  event->ack = segment.ack;
  event->length = segment.length;
  event->segments = segment.segments;
  packet->span = segment.span;
  packet->size = segment.size;
  if (socket && segment.length) packet->written_ns = delay_out_written(socket, segment.seq);
  return true;
}

/* A segment cut from a packet that was met at the queue: its record goes on from that one's. */
static __always_inline bool delay_out_piece(struct delay_out_packet *packet, struct sk_buff *skb,
                                            struct sock *sk, bool dropped) {
  struct delay_out_socket *socket;
  struct delay_out_super super;

  if (!owner_is_inet(sk) || !owner_is_full(sk)) return false;
  socket = delay_out_socket_of(sk);
  if (!socket || !socket->super_count || !delay_out_begin(packet, skb, sk, socket)) return false;
  if (!packet->event.length) return false;
  if (!delay_out_leave_super(socket, packet->event.seq, dropped, &super)) return false;
  packet->transport_ns = super.transport_ns;
  packet->network_ns = super.network_ns;
  packet->event.retransmitted = super.retransmitted;
  return true;
}

#endif
