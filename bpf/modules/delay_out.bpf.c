/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: how long each sent TCP packet took through the layers, a record each: from the write of its
 * first byte to the driver. Its stamps in between are core/packets.bpf.c's. All that is asked of
 * the socket is asked at the device's queue, which the packet reaches before TCP goes on: after
 * that the packet may wait, and the socket has changed.
 */
#include "delay_out.h"

SEC("tp_btf/tcp_sendmsg_locked")
int BPF_PROG(delay_out_write, struct sock *sk) {
  struct socket_owner *owner = bpf_sk_storage_get(&socket_owners, sk, NULL, 0);
  struct delay_out_socket *socket;
  struct connection connection;
  struct tcp_sock *tcp;

  if (!host_mode && (!owner || !owner->process) && !current_thread()) return 0;
  connection_of(&connection, sk);
  if (connection.dport && !delay_wanted(&connection, &delay_out_choice)) return 0;
  tcp = bpf_skc_to_tcp_sock(sk);
  if (!tcp) return 0;
  socket = bpf_sk_storage_get(&delay_out_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
  if (!socket) {
    __sync_fetch_and_add(&delay_out_lost, 1);
    return 0;
  }
  delay_out_wrote(socket, &connection, tcp->write_seq);
  return 0;
}

SEC("tp_btf/net_dev_queue")
int BPF_PROG(delay_out_queue, struct sk_buff *skb) {
  struct sock *sk = skb->sk;
  __u64 address = as_number(skb);
  struct packet *stamps = packet_find_sent(skb);
  struct delay_out_packet packet, *old;
  struct delay_out_event *event = &packet.event;
  struct delay_out_super super = {};
  struct delay_out_socket *socket;
  struct delay_out_search search;
  bool full;

  if (stamps && stamps->queued) return 0; /* on from the first of a stack of devices */
  old = delay_out_find(address);
  if (old) __sync_val_compare_and_swap(&old->skb, address, 0); /* an earlier packet's */
  if (stamps)
    stamps->queued = 1;
  else if (!sk || skb->skb_iif)
    return 0;
  full = sk && owner_is_inet(sk) && owner_is_full(sk);
  socket = full ? delay_out_socket_of(sk) : NULL;
  if (!delay_out_begin(&packet, skb, sk, socket)) return 0;
  if (!stamps || !stamps->ns[PACKET_TRANSPORT] || !stamps->ns[PACKET_NETWORK]) {
    /* Cut in such a stack, it is found by its place in the stream. */
    if (event->segments > 1 || !socket || !delay_out_find_super(socket, event->seq, false, &search))
      __sync_fetch_and_add(&delay_out_unstamped, event->segments);
    return 0;
  }
  packet.transport_ns = stamps->ns[PACKET_TRANSPORT];
  packet.network_ns = stamps->ns[PACKET_NETWORK];
  if (full) /* TCP moves on only when this call is back */
    event->retransmitted =
        packet.span && seq_before(event->seq, kernel_type(tcp_sock, sk)->snd_nxt);
  if (socket && event->segments > 1) {
    super.transport_ns = packet.transport_ns;
    super.network_ns = packet.network_ns;
    super.seq = event->seq;
    super.length = event->length;
    super.size = packet.size;
    super.retransmitted = event->retransmitted;
    packet.super = delay_out_note_super(socket, &super);
  }
  packet.sk = stamps->sk;
  packet.skb = address;
  __sync_fetch_and_add(&delay_out_begun, event->segments);
  delay_out_keep(&packet);
  return 0;
}

/*
 * Finds the packet, or what it was cut from, where it leaves the queue. What was received here has
 * its sender's socket until it comes to IP; it is not asked for.
 */
static __always_inline bool delay_out_leave(struct delay_out_packet *packet, struct sk_buff *skb,
                                            bool dropped) {
  struct sock *sk = skb->sk;
  __u64 address = as_number(skb);
  struct delay_out_packet *kept = delay_out_find(address);

  /* Of one that was cut the address is free, and may be a piece's. */
  if (kept && kept->event.segments > 1 && !delay_out_is_whole(skb)) {
    __sync_val_compare_and_swap(&kept->skb, address, 0);
    kept = NULL;
  }
  if (!kept || kept->sk != as_number(sk) || !place_take(&kept->skb, address))
    return sk && delay_out_piece(packet, skb, sk, dropped);
  *packet = *kept;
  kept->skb = 0;
  if (packet->super && sk && owner_is_full(sk)) delay_out_close_super(sk, packet->super, dropped);
  return true;
}

SEC("tp_btf/net_dev_start_xmit")
int BPF_PROG(delay_out_send, struct sk_buff *skb, struct net_device *dev) {
  __u64 now;
  __u32 process;
  struct delay_out_packet packet;
  struct delay_out_event *event, *known = &packet.event;

  if (skb->skb_iif || packet_goes_on(dev) || !delay_out_leave(&packet, skb, false)) return 0;
  now = bpf_ktime_get_ns();
  __sync_fetch_and_add(&delay_out_told, known->segments);
  process = living_process(known->event.process);
  if (!process && !host_mode) return 0;
  event = event_reserve(delay_out_stream, process, now, sizeof(*event));
  if (!event) return 0;
  __builtin_memcpy((void *)event + sizeof(event->event), (void *)known + sizeof(event->event),
                   sizeof(*event) - sizeof(event->event));
  event->written = packet.written_ns != 0;
  if (event->written) event->tcp_ns = packet.transport_ns - packet.written_ns;
  event->ip_ns = packet.network_ns - packet.transport_ns;
  event->qdisc_ns = now - packet.network_ns;
  event->total_ns = event->tcp_ns + now - packet.transport_ns;
  event_submit(event, sizeof(*event));
  return 0;
}

/* Between TCP and the queue. */
static __always_inline bool delay_out_refused(struct delay_out_packet *packet,
                                              struct sk_buff *skb) {
  struct packet *stamps = packet_find_sent(skb);

  if (!stamps || !stamps->ns[PACKET_TRANSPORT] || stamps->ns[PACKET_NETWORK]) return false;
  if (!delay_out_begin(packet, skb, skb->sk, NULL)) return false;
  __sync_fetch_and_add(&delay_out_begun, packet->event.segments);
  return true;
}

/* Never sent: a filter, a full queue. */
SEC("tp_btf/kfree_skb")
int BPF_PROG(delay_out_drop, struct sk_buff *skb) {
  struct delay_out_packet packet;

  if (skb->skb_iif) return 0;
  if (delay_out_refused(&packet, skb) || delay_out_leave(&packet, skb, true))
    __sync_fetch_and_add(&delay_out_dropped, packet.event.segments);
  return 0;
}
