/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: how long each received TCP packet took through the layers, a record each. How it came is
 * told by its stamps (core/packets.bpf.c). Where TCP has it, its sk_buff may be put together with
 * the one before it; so from there on it goes by its place in the stream: it is read when the
 * reader's place (copied_seq) has reached its end.
 */
#include "delay_in.h"
#include "owner_past.h"

/* Runs in TCP's receive path with the socket known, before TCP looks at the packet. */
SEC("cgroup_skb/ingress")
int delay_in_transport(struct __sk_buff *ctx) {
  struct bpf_sock *sk = ctx->sk ? bpf_sk_fullsock(ctx->sk) : NULL;
  struct sk_buff *skb = bpf_cast_to_kern_ctx(ctx);
  struct delay_in_packet packet = {};
  struct delay_in_socket *socket = NULL;
  struct socket_owner *owner;
  struct bpf_tcp_sock *tcp = NULL;
  struct segment segment;
  __u32 process = 0, rcv_nxt = 0;

  if (!sk || sk->protocol != IPPROTO_TCP) return 1;
  owner = bpf_sk_storage_get(&socket_owners, sk, NULL, 0);
  process = owner_process(owner);
  if (!process && !host_mode) return 1;
  if (!delay_in_look(&packet, &segment, skb)) return 1;
  /* Data for a connection that is not established yet comes with the end of the handshake. */
  if (segment.span && sk->state != BPF_TCP_LISTEN) tcp = bpf_tcp_sock(sk);
  if (tcp) {
    rcv_nxt = tcp->rcv_nxt;
    /* A socket may be connected again, to somebody else. */
    socket = delay_in_meet(sk, rcv_nxt, &segment, sk->state == BPF_TCP_SYN_SENT);
  }
  if (socket) {
    packet.retransmitted = seq_before(segment.seq, socket->high);
    if (seq_before(socket->high, segment_end(&segment))) socket->high = segment_end(&segment);
    if (delay_in_arrive(&packet, socket, as_number(sk), rcv_nxt, as_number(skb))) return 1;
  }
  delay_in_tell(&packet, &segment.connection, living_process(process), packet.transport_ns, false);
  return 1;
}

/* To a connection that is over: it has no data to read, and ends here. */
static __always_inline int delay_in_late(struct sk_buff *skb, struct sock *sk) {
  struct delay_in_packet packet = {};
  struct segment segment;
  __u32 process = living_process(past_owner(sk));

  if (!process && !host_mode) return 0;
  if (delay_in_look(&packet, &segment, skb))
    delay_in_tell(&packet, &segment.connection, process, packet.transport_ns, false);
  return 0;
}

/* Refused by TCP: what lies here in the stream comes, or has come, by another packet. */
SEC("tp_btf/kfree_skb")
int BPF_PROG(delay_in_refused, struct sk_buff *skb) {
  __u64 address = as_number(skb);
  __u32 place = packet_place(address);
  struct delay_in_arrival *arrival = bpf_map_lookup_elem(&delay_in_arrivals, &place);
  struct sock *receiver = drop_socket(ctx);
  struct delay_in_place *kept;
  struct tcphdr *tcp;

  if (is_past(receiver)) return delay_in_late(skb, receiver);
  if (!arrival || arrival->skb != address) return 0;
  arrival->skb = 0;
  /* The address may be another packet's by now. */
  tcp = kernel_type(tcphdr, skb->head + skb->transport_header);
  if (bpf_ntohl(tcp->seq) != arrival->seq) return 0;
  kept = delay_in_find(arrival->sk, arrival->begin, true);
  if (kept) kept->packet.refused = 1;
  return 0;
}

struct delay_in_reader {
  struct delay_in_socket *socket;
  __u64 sk, now;
  __u32 process;
  __u32 copied;
};

/* The next packet, if it was read to its end. 1: no more. */
static long delay_in_step(__u32 index, struct delay_in_reader *reader) {
  struct delay_in_socket *socket = reader->socket;
  struct delay_in_place *place;
  struct delay_in_packet packet;

  if (!seq_before(socket->next, reader->copied)) return 1;
  place = delay_in_find(reader->sk, socket->next, socket->away);
  if (place && seq_before(reader->copied, place->packet.end)) return 1;
  if (!place || !place_take(&place->sk, reader->sk)) {
    socket->next = reader->copied; /* until a packet begins where the reader stands */
    return 1;
  }
  packet = place->packet;
  place->sk = 0;
  if (packet.away) __sync_fetch_and_add(&socket->away, -1);
  socket->next = packet.end;
  if (packet.twice && !packet.refused) return 0;
  __sync_fetch_and_add(&socket->waiting, -1);
  if (packet.refused) return 0;
  __sync_fetch_and_add(&delay_in_told, 1);
  delay_in_tell(&packet, &socket->connection, reader->process, reader->now, true);
  return 0;
}

/* After each step of reading, by whatever call; copied_seq says how far it has come. */
SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(delay_in_read, struct sock *sk) {
  struct delay_in_socket *socket = bpf_sk_storage_get(&delay_in_sockets, sk, NULL, 0);
  struct delay_in_reader reader = {.socket = socket, .sk = as_number(sk)};
  struct thread *thread = current_thread();
  struct socket_owner *owner;
  struct tcp_sock *tcp;

  if (!socket || socket->run != delay_in_run) return 0;
  tcp = bpf_skc_to_tcp_sock(sk);
  if (!tcp) return 0;
  reader.copied = tcp->copied_seq;
  if (!seq_before(socket->next, reader.copied)) return 0;
  reader.now = bpf_ktime_get_ns();
  /* The kernel's own readers work on whatever task they interrupt. */
  if (sk->sk_lock.owned) {
    if (thread) reader.process = thread->process;
  } else {
    owner = bpf_sk_storage_get(&socket_owners, sk, NULL, 0);
    if (owner) reader.process = living_process(owner->process);
  }
  if (bpf_loop(DELAY_IN_AT_ONCE, delay_in_step, &reader, 0) == DELAY_IN_AT_ONCE)
    socket->next = reader.copied;
  delay_in_settle(socket, reader.copied);
  return 0;
}
