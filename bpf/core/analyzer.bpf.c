/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: the end of the way of packets somebody asks for over HTTP, and what is lost of them. What
 * lies before is core/packets.bpf.c's.
 */
#include <asm/errno.h>

#include "analyzer.h"
#include "connection.h"
#include "owner_past.h"

SEC("cgroup_skb/ingress")
int analyzer_transport_in(struct __sk_buff *ctx) {
  struct sk_buff *skb = bpf_cast_to_kern_ctx(ctx);
  struct packet *packet = packet_find(as_number(skb));
  struct bpf_sock *sk;

  if (!packet || !packet->queries) return 1;
  sk = ctx->sk ? bpf_sk_fullsock(ctx->sk) : NULL;
  packet->ns[PACKET_TRANSPORT] = bpf_ktime_get_ns();
  analyzer_know(packet, owner_process(sk ? bpf_sk_storage_get(&socket_owners, sk, NULL, 0) : NULL),
                ANALYZER_RECEIVE, PACKET_TRANSPORT);
  /* What TCP makes of it is not the way any more: it drops old acknowledgements and the like. */
  if (sk && sk->protocol == IPPROTO_TCP) packet->queries = 0;
  return 1;
}

SEC("tp_btf/net_dev_start_xmit")
int BPF_PROG(analyzer_link_out, struct sk_buff *skb, struct net_device *dev) {
  struct packet *packet = packet_find_sent(skb);

  if (!packet || !packet->queries || packet_goes_on(dev)) return 0;
  packet->ns[PACKET_LINK] = bpf_ktime_get_ns();
  analyzer_reach(packet, ANALYZER_SEND, PACKET_LINK);
  packet->queries = 0;
  return 0;
}

__noinline int analyzer_drop_one(__u32 query, __u32 segments) {
  struct analyzer_total *total = bpf_map_lookup_elem(&analyzer_totals, &query);

  if (total) __sync_fetch_and_add(&total->drops, segments);
  return 0;
}

static __always_inline void analyzer_drop(__u32 queries, __u32 segments) {
  for (int i = 0; i < ANALYZER_QUERIES && queries >> i; i++)
    if (queries >> i & 1) analyzer_drop_one(i, segments);
}

/* What TCP sent was lost somewhere, as it sees it. `sk`: the connection's; `owner`: whose it is. */
static __always_inline void analyzer_again(struct sock *sk, const struct socket_owner *owner,
                                           __u32 segments) {
  struct analyzer_ends ends = {.protocol = IPPROTO_TCP};
  struct connection connection;

  if (!host_mode && !owner_process(owner)) return;
  connection_of(&connection, sk);
  __builtin_memcpy(ends.saddr, connection.saddr6, sizeof(ends.saddr));
  __builtin_memcpy(ends.daddr, connection.daddr6, sizeof(ends.daddr));
  ends.sport = connection.sport;
  ends.dport = connection.dport;
  ends.ip = connection.ip;
  analyzer_drop(analyzer_match(&ends, false), segments);
}

/*
 * Told of since 6.17 also where nothing was sent again: these are what __tcp_retransmit_skb fails
 * with before it counts. With any other error it has counted, as RetransSegs has.
 */
static __always_inline bool analyzer_not_sent(int error) {
  return error == -EBUSY || error == -EAGAIN || error == -EINVAL || error == -ENOMEM ||
         error == -EHOSTUNREACH;
}

/* Counted are segments, as in TCP's own RetransSegs. */
SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(analyzer_retransmit, struct sock *sk, struct sk_buff *skb) {
  void *cb = (void *)skb + bpf_core_field_offset(struct sk_buff, cb);

  if (bpf_core_field_exists(((struct trace_event_raw_tcp_retransmit_skb *)0)->err) &&
      analyzer_not_sent(ctx[2]))
    return 0;
  if (!analyzer_active || !owner_is_full(sk)) return 0;
  analyzer_again(sk, bpf_sk_storage_get(&socket_owners, sk, NULL, 0),
                 kernel_type(tcp_skb_cb, cb)->tcp_gso_segs);
  return 0;
}

/* The answer to a SYN: its socket is half a one yet, of which there is just what is asked here. */
SEC("tp_btf/tcp_retransmit_synack")
int BPF_PROG(analyzer_retransmit_synack, struct sock *listener, struct sock *request) {
  if (!analyzer_active) return 0;
  analyzer_again(request, bpf_sk_storage_get(&socket_owners, listener, NULL, 0), 1);
  return 0;
}

/* Whether the drop counts: whose a packet is, is not known at every layer. */
static __always_inline bool analyzer_ours(const struct packet *packet, struct sock *sk) {
  if (host_mode) return true;
  if (!packet->sk) return packet->ns[PACKET_TRANSPORT]; /* received: it has come to its socket */
  return sk && owner_is_full(sk) && owner_process(bpf_sk_storage_get(&socket_owners, sk, NULL, 0));
}

/* Dropped on its way here. What TCP sent and was dropped on this host is told by its
 * retransmission. */
SEC("tp_btf/kfree_skb")
int BPF_PROG(analyzer_dropped, struct sk_buff *skb, void *location, __u32 reason) {
  struct packet *packet = packet_find(as_number(skb));
  struct sock *sk = skb->sk, *receiver = drop_socket(ctx);

  if (!packet || !packet->queries) return 0;
  if (is_past(receiver) && !packet->sk && !packet->ns[PACKET_TRANSPORT]) {
    packet->ns[PACKET_TRANSPORT] = bpf_ktime_get_ns();
    analyzer_know(packet, past_owner(receiver), ANALYZER_RECEIVE, PACKET_TRANSPORT);
    packet->queries = 0;
    return 0;
  }
  if (reason == bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_NOT_SPECIFIED)) return 0;
  /* The address may be by now that of something that begins no way here. */
  if (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6)) return 0;
  if (packet->sk && (!sk || packet->sk != as_number(sk) || sk->sk_protocol == IPPROTO_TCP))
    return 0;
  if (analyzer_ours(packet, sk)) analyzer_drop(packet->queries, 1);
  packet->queries = 0;
  return 0;
}
