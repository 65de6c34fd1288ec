/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: how many bytes a packet is on the link, from where the cgroup hooks see it: at the network
 * header, before IP fragments it on the way out and after IP has put it together on the way in.
 */
#ifndef TREESNOOP_LINK_BYTES_H
#define TREESNOOP_LINK_BYTES_H

#include <linux/in.h>

#include "kernel.h"

#define ARPHRD_LOOPBACK 772  /* include/uapi/linux/if_arp.h */
#define ETH_P_IPV6_BE 0xdd86 /* 0x86dd in network order, as __sk_buff.protocol is */
#define IPV4_HEADER 20
#define IPV6_HEADER 40
#define IPV6_FRAGMENT_HEADER 8

/* The link header of a device; lo counts from the network header on (loopback_xmit). */
static __always_inline __u32 link_header(struct __sk_buff *ctx) {
  struct sk_buff *skb = bpf_cast_to_kern_ctx(ctx);
  struct net_device *dev = skb->dev;

  return dev->type == ARPHRD_LOOPBACK ? 0 : dev->hard_header_len;
}

/* Length of the largest fragment, network header included; 0 when the packet travels whole. */
static __always_inline __u32 largest_fragment(struct __sk_buff *ctx, __u32 protocol, bool received,
                                              bool ipv6) {
  struct sk_buff *skb = bpf_cast_to_kern_ctx(ctx);
  void *cb = (void *)skb + bpf_core_field_offset(struct sk_buff, cb);
  __u32 mtu;

  if (ctx->gso_size) return 0; /* cut by TCP or UDP, not by IP */
  if (!received) {
    mtu = skb->dev->mtu;
    return ctx->len > mtu ? mtu : 0;
  }
  /* TCP keeps its own data there; its segments are not fragmented (path MTU discovery). */
  if (protocol == IPPROTO_TCP) return 0;
  return ipv6 ? kernel_type(inet6_skb_parm, cb)->frag_max_size
              : kernel_type(inet_skb_parm, cb)->frag_max_size;
}

static __always_inline __u64 link_bytes(struct __sk_buff *ctx, __u32 protocol, bool received) {
  bool ipv6 = ctx->protocol == ETH_P_IPV6_BE;
  __u32 link = link_header(ctx), ip = ipv6 ? IPV6_HEADER : IPV4_HEADER, fragments, room;
  __u32 largest = largest_fragment(ctx, protocol, received, ipv6);
  __u32 per_fragment = ip + (ipv6 ? IPV6_FRAGMENT_HEADER : 0);

  if (largest <= per_fragment + 8) return ctx->len + link;
  room = (largest - per_fragment) & ~7; /* fragments carry multiples of 8 */
  fragments = (ctx->len - ip + room - 1) / room;
  return ctx->len - ip + fragments * (link + per_fragment);
}

#endif
