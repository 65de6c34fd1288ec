/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: TCP segments the kernel received and refused, a record each, with its own reason.
 *
 * kfree_skb fires for everything that is dropped anywhere. What TCP refused is told by where the
 * segment is in its life, not by a list of reasons: newer kernels give new ones.
 */
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>

#include "connection.h"
#include "owner_past.h"
#include "tree.h"

#define TCP_INERRS_HOP 0 /* RFC 8200 */
#define TCP_INERRS_ROUTING 43
#define TCP_INERRS_DEST 60
#define TCP_INERRS_NO_HEADER 0xffff
#define TCP_INERRS_IPV6_HEADERS 8 /* extension headers that are passed over */

struct tcp_inerrs_event {
  struct event event;
  struct connection connection; /* as in the segment: s is who sent it */
  __u32 reason;
  __u8 state; /* 0: no socket */
};

EVENT_RECORD(tcp_inerrs_event);

struct tcp_inerrs_ipv6 { /* linux/ipv6.h has an in6_addr that is not the kernel's */
  __u32 flow;
  __u16 length;
  __u8 nexthdr, hops;
  __u8 saddr[16], daddr[16];
};

const volatile __u32 tcp_inerrs_stream = 0;
__u8 tcp_inerrs_ip = 0;    /* 4 or 6: only that version */
__u64 tcp_inerrs_lost = 0; /* refused, and no longer with its headers */

/* Behind the IPv6 header, to the transport header: is that TCP's? Fragments are not, before they
 * are put together. */
static __always_inline bool tcp_inerrs_next_is_tcp(unsigned char *at, __u32 room, __u8 next) {
  __u8 option[2];
  __u32 i;

  for (i = 0; i < TCP_INERRS_IPV6_HEADERS && room >= 8; i++) {
    if (next != TCP_INERRS_HOP && next != TCP_INERRS_ROUTING && next != TCP_INERRS_DEST &&
        next != IPPROTO_AH)
      return false;
    if (bpf_probe_read_kernel(option, sizeof(option), at)) return false;
    __u32 length = next == IPPROTO_AH ? (option[1] + 2) * 4 : (option[1] + 1) * 8;
    if (length > room) return false;
    next = option[0];
    at += length;
    room -= length;
  }
  return next == IPPROTO_TCP && !room;
}

/* The packet's two ends; false: it is no whole TCP segment that IP has taken in. */
static __always_inline bool tcp_inerrs_addresses(struct connection *ends, unsigned char *at,
                                                 __u32 room) {
  struct iphdr v4;
  struct tcp_inerrs_ipv6 v6;

  if (bpf_probe_read_kernel(&v4, sizeof(v4), at)) return false;
  if (v4.version == 4) {
    if (v4.protocol != IPPROTO_TCP || v4.frag_off & bpf_htons(0x3fff)) return false;
    ends->ip = 4;
    __builtin_memcpy(ends->saddr4, &v4.saddr, sizeof(v4.saddr));
    __builtin_memcpy(ends->daddr4, &v4.daddr, sizeof(v4.daddr));
    return true;
  }
  if (v4.version != 6 || room < sizeof(v6)) return false;
  if (bpf_probe_read_kernel(&v6, sizeof(v6), at)) return false;
  if (!tcp_inerrs_next_is_tcp(at + sizeof(v6), room - sizeof(v6), v6.nexthdr)) return false;
  ends->ip = 6;
  __builtin_memcpy(ends->saddr6, &v6.saddr, sizeof(v6.saddr));
  __builtin_memcpy(ends->daddr6, &v6.daddr, sizeof(v6.daddr));
  return true;
}

/*
 * Where the kernel names no reason it mostly has none: so it drops the last segments of an orderly
 * close. The one refusal among them is that of a header longer than the segment.
 */
static __always_inline bool tcp_inerrs_too_short(struct sk_buff *skb, __u32 transport, __u8 words) {
  if (skb->data - skb->head != transport) return false;
  return skb->len < 20 || words * 4 > skb->len;
}

SEC("tp_btf/kfree_skb")
int BPF_PROG(tcp_inerrs_drop, struct sk_buff *skb, void *location, __u32 reason) {
  __u16 network = skb->network_header, transport = skb->transport_header;
  unsigned char *head = skb->head;
  struct tcp_inerrs_event *event;
  struct tcphdr tcp = {};
  struct connection ends = {};
  struct sock *sk = drop_socket(ctx);
  __u32 process = 0, there;
  __u64 ns;
  __u8 state = 0;

  if (sk) {
    if (!owner_is_inet(sk)) return 0;
    state = sk->__sk_common.skc_state;
    /* The two short kinds of TCP's sockets have no protocol. */
    if (owner_is_full(sk)) {
      if (sk->sk_protocol != IPPROTO_TCP) return 0;
      /* Of a connection nobody has touched yet: whose the listener is. */
      process = owner_process(bpf_sk_storage_get(&socket_owners, sk, NULL, 0));
    } else if (is_past(sk)) {
      process = past_owner(sk);
    }
  }
  if (!process && !host_mode) return 0;
  if (bpf_core_enum_value_exists(enum skb_drop_reason, SKB_DROP_REASON_QUEUE_PURGE) &&
      reason == bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_QUEUE_PURGE))
    return 0; /* taken in and acknowledged, then not read */
  if (transport == TCP_INERRS_NO_HEADER) {
    if (sk) __sync_fetch_and_add(&tcp_inerrs_lost, 1);
    return 0;
  }
  /* Received, IP's header looked at, and handed on: data is at TCP's header or behind it. */
  if (!skb->skb_iif || transport <= network || skb->data < head + transport) return 0;
  if (!tcp_inerrs_addresses(&ends, head + network, transport - network)) return 0;
  if (tcp_inerrs_ip && tcp_inerrs_ip != ends.ip) return 0;
  there = skb->tail > transport ? skb->tail - transport : 0;
  if (there > sizeof(tcp)) there = sizeof(tcp);
  if (there >= 4) bpf_probe_read_kernel(&tcp, there, head + transport);
  if (reason == bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_NOT_SPECIFIED) &&
      !tcp_inerrs_too_short(skb, transport, tcp.doff))
    return 0;
  ends.sport = bpf_ntohs(tcp.source);
  ends.dport = bpf_ntohs(tcp.dest);
  ns = bpf_ktime_get_ns();
  event = event_reserve(tcp_inerrs_stream, process, ns, sizeof(*event));
  if (!event) return 0;
  event->connection = ends;
  event->reason = reason;
  event->state = state;
  event_submit(event, sizeof(*event));
  return 0;
}
