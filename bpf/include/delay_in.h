/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: how far a socket's reader has come, and the record of a packet. Owns not: the packets not
 * read yet (delay_in_packets.h), where they are met (modules/delay_in.bpf.c).
 */
#ifndef TREESNOOP_DELAY_IN_H
#define TREESNOOP_DELAY_IN_H

#include "delay_in_packets.h"

struct delay_in_event {
  struct event event;
  struct connection connection; /* s is who sent it */
  __u32 seq, ack, length, segments;
  __u64 mac_ns, ip_ns, tcp_ns, total_ns;
  __u8 retransmitted; /* it lies before what had come by then */
  __u8 read;
};

EVENT_RECORD(delay_in_event);

struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct delay_in_socket);
} delay_in_sockets SEC(".maps");

const volatile __u32 delay_in_stream = 0;
struct delay_choice delay_in_choice = {};
__u32 delay_in_run = 0;       /* which time the module is on */
__u64 delay_in_unstamped = 0; /* packets whose way to TCP is not known */
__u64 delay_in_told = 0;      /* read */
__u64 delay_in_lost = 0;      /* no memory */

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

/* What is known of the packet where TCP has it; false: it is not wanted, or not known. */
static __always_inline bool delay_in_look(struct delay_in_packet *packet, struct segment *segment,
                                          struct sk_buff *skb) {
  struct packet *stamps;

  segment_read(segment, skb);
  if (!delay_wanted(&segment->connection, &delay_in_choice)) return false;
  stamps = packet_find(as_number(skb));
  if (!stamps || stamps->sk || !stamps->ns[PACKET_LINK] || !stamps->ns[PACKET_NETWORK]) {
    __sync_fetch_and_add(&delay_in_unstamped, 1);
    return false;
  }
  packet->seq = segment->seq;
  packet->end = segment->seq + segment->length;
  packet->ack = segment->ack;
  packet->segments = segment->segments;
  packet->link_ns = stamps->ns[PACKET_LINK];
  packet->network_ns = stamps->ns[PACKET_NETWORK];
  packet->transport_ns = bpf_ktime_get_ns();
  /* The next packet at this address may come a way that nobody stamps. */
  if (!stamps->queries) stamps->skb = 0;
  return true;
}

/* A socket met for the first time, or anew: reading begins with what has not come yet. */
static __always_inline struct delay_in_socket *delay_in_meet(struct bpf_sock *sk, __u32 rcv_nxt,
                                                             const struct segment *segment,
                                                             bool anew) {
  struct delay_in_socket *socket =
      bpf_sk_storage_get(&delay_in_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);

  if (!socket) {
    __sync_fetch_and_add(&delay_in_lost, 1);
    return NULL;
  }
  if (socket->run == delay_in_run && !anew) return socket;
  socket->connection = segment->connection;
  socket->next = segment->syn ? segment->seq + 1 : rcv_nxt;
  socket->high = segment->syn ? segment->seq : rcv_nxt;
  socket->end = socket->next;
  socket->away = 0;
  socket->waiting = 0;
  socket->run = delay_in_run;
  return socket;
}

#endif
