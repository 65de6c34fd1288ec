/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: stamping packets where they begin their way and where they come to the network layer. One
 * set of programs, whoever asks. Owns not: the end of their way, which is met by who asks.
 *
 * Received: the link is where a driver hands the packet over, before GRO and the backlog; the
 * network layer is where it leaves for the protocols. Sent: TCP and UDP hand it to the network
 * layer at netfilter's LOCAL_OUT; the link is where it is given to the device's queue.
 */
#include "analyzer.h"

#define NF_ACCEPT 1 /* include/uapi/linux/netfilter.h */

/* Whether every packet is wanted; else those somebody asks for. */
__u32 packets_received_all = 0, packets_sent_all = 0;

static __always_inline __u32 packet_queries(struct sk_buff *skb, bool received) {
  struct analyzer_ends ends;

  if (!analyzer_active) return 0;
  /* In fragments alone (napi_gro_frags): what lies at data is an earlier packet's header. */
  if (skb->len - skb->data_len < ANALYZER_LEAST || !analyzer_read(&ends, skb, skb->data)) return 0;
  return analyzer_match(&ends, received);
}

static __always_inline int packet_received(struct sk_buff *skb) {
  __u64 address = as_number(skb);
  struct packet *packet = packet_find(address);
  __u32 queries;

  /* Handed on by a bridge or the like: it has come to this host before. */
  if (packet && skb->skb_iif) return 0;
  queries = packet_queries(skb, true);
  if (queries || packets_received_all) {
    packet = packet_begin(address, 0, queries, PACKET_LINK);
    if (packet) analyzer_pass(packet, ANALYZER_RECEIVE, PACKET_LINK);
  } else if (packet) {
    packet->skb = 0; /* an earlier packet's */
  }
  return 0;
}

SEC("tp_btf/napi_gro_receive_entry")
int BPF_PROG(packet_gro, struct sk_buff *skb) { return packet_received(skb); }

SEC("tp_btf/napi_gro_frags_entry")
int BPF_PROG(packet_frags, struct sk_buff *skb) { return packet_received(skb); }

SEC("tp_btf/netif_receive_skb_entry")
int BPF_PROG(packet_single, struct sk_buff *skb) { return packet_received(skb); }

SEC("tp_btf/netif_receive_skb_list_entry")
int BPF_PROG(packet_list, struct sk_buff *skb) { return packet_received(skb); }

/* Not netif_rx_entry: macvlan hands over what its siblings send behind that. */
SEC("tp_btf/netif_rx")
int BPF_PROG(packet_handed, struct sk_buff *skb) { return packet_received(skb); }

SEC("tp_btf/netif_receive_skb")
int BPF_PROG(packet_network_in, struct sk_buff *skb) {
  struct packet *packet = packet_find(as_number(skb));
  bool again;

  if (!packet) return 0;
  if (packet->sk || packet->ns[PACKET_TRANSPORT]) {
    packet->skb = 0; /* sent, or an earlier packet's: this one came a way that is not known */
    return 0;
  }
  again = packet->ns[PACKET_NETWORK];
  packet->ns[PACKET_NETWORK] = bpf_ktime_get_ns();
  if (!again) analyzer_pass(packet, ANALYZER_RECEIVE, PACKET_NETWORK);
  return 0;
}

SEC("netfilter")
int packet_transport_out(struct bpf_nf_ctx *ctx) {
  struct sk_buff *skb = ctx->skb;
  __u64 address = as_number(skb);
  __u32 queries = packet_queries(skb, false);
  struct packet *packet;

  if (queries || packets_sent_all) {
    packet = packet_begin(address, as_number(skb->sk), queries, PACKET_TRANSPORT);
    if (packet) analyzer_pass(packet, ANALYZER_SEND, PACKET_TRANSPORT);
  } else {
    packet = packet_find(address);
    if (packet) packet->skb = 0;
  }
  return NF_ACCEPT;
}

/*
 * Who sends, where that is known: UDP sends in the process's own context, and so does TCP while a
 * process is in a call on the socket.
 */
static __always_inline struct socket_owner *packet_owner(struct sock *sk) {
  bool sending = sk->sk_protocol == IPPROTO_UDP || sk->sk_lock.owned;
  struct thread *thread = sending ? current_thread() : NULL;
  struct socket_owner *owner =
      bpf_sk_storage_get(&socket_owners, sk, NULL, thread ? BPF_SK_STORAGE_GET_F_CREATE : 0);

  if (thread && owner) owner->process = thread->process;
  return owner;
}

/* Of devices on top of each other the first. Its socket is asked here, where that is allowed. */
SEC("tp_btf/net_dev_queue")
int BPF_PROG(packet_network_out, struct sk_buff *skb) {
  struct packet *packet = packet_find_sent(skb);
  struct sock *sk = skb->sk;

  if (!packet || packet->ns[PACKET_NETWORK]) return 0;
  packet->ns[PACKET_NETWORK] = bpf_ktime_get_ns();
  if (!packet->queries) return 0;
  analyzer_know(packet, owner_process(sk && owner_is_full(sk) ? packet_owner(sk) : NULL),
                ANALYZER_SEND, PACKET_NETWORK);
  return 0;
}
