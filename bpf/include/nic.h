/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: what an interface's own counters make of a packet: link header or not, a super-packet as
 * one or as its segments, by the kind of device. Owns not: where packets are met
 * (modules/nic.bpf.c).
 */
#ifndef TREESNOOP_NIC_H
#define TREESNOOP_NIC_H

#include "kernel.h"

#ifndef ARPHRD_LOOPBACK
#define ARPHRD_LOOPBACK 772 /* include/uapi/linux/if_arp.h */
#endif
#define NIC_UNSET 0xffff    /* an offset in sk_buff that nobody has set */
#define NIC_GSO_TCP 0x11    /* SKB_GSO_TCPV4 | SKB_GSO_TCPV6 */
#define NIC_GSO_UDP 0x20000 /* SKB_GSO_UDP_L4 */

/* How the counters of a kind of device differ from "each sk_buff, with its link header". */
enum nic_rule {
  NIC_LEARNED = 1,
  NIC_BARE = 2,        /* lo: its link header counts in neither direction */
  NIC_BARE_RX = 4,     /* bridge: not in this one */
  NIC_BARE_POLLED = 8, /* veth: not where the receiving end polls (NAPI: with GRO or XDP) */
  NIC_REFUSABLE = 16,  /* lo, veth: what netif_rx refuses is counted at neither end */
  NIC_SEGMENTS = 32,   /* hardware: a super-packet is the segments it is cut into */
};

/* A packet on its way through the driver: counted when it is known whether it was taken. */
struct nic_flight {
  __u64 skb; /* 0: none */
  __u64 bytes;
  __u32 packets;
  __u32 key;
  __u32 link_header;
  __u32 handed; /* went on into netif_rx, so nobody polls for it */
};

struct nic_flights {
  struct nic_flight received, sent;
};

__u64 nic_name[2] = {}, nic_name_mask[2] = {}; /* up to and with the NUL */
__u32 nic_namespace = 0;
__u32 nic_wire = 0;  /* count what is on the wire, whatever the interface counts */
__u64 nic_rules = 0; /* of the device with the index in the upper half */

static __always_inline bool nic_watched(struct net_device *dev) {
  __u64 *name = (__u64 *)&dev->name[0];

  if ((name[0] & nic_name_mask[0]) != nic_name[0]) return false;
  if ((name[1] & nic_name_mask[1]) != nic_name[1]) return false;
  return !bpf_core_field_exists(dev->nd_net.net) || dev->nd_net.net->ns.inum == nic_namespace;
}

static __always_inline __u32 nic_learn(struct net_device *dev) {
  __u32 rules = NIC_LEARNED;
  __u64 kind = 0, driver = 0; /* padded with zeros, to be compared as words */

  bpf_probe_read_kernel_str(&kind, sizeof(kind), BPF_CORE_READ(dev, rtnl_link_ops, kind));
  bpf_probe_read_kernel_str(&driver, sizeof(driver), BPF_CORE_READ(dev, dev.parent, driver, name));
  if (dev->type == ARPHRD_LOOPBACK) rules |= NIC_BARE | NIC_REFUSABLE;
  if (kind == *(__u64 *)"bridge\0" && !nic_wire) rules |= NIC_BARE_RX;
  if (kind == *(__u64 *)"veth\0\0\0") rules |= NIC_REFUSABLE | (nic_wire ? 0 : NIC_BARE_POLLED);
  if (nic_wire || (driver && driver != *(__u64 *)"virtio_")) rules |= NIC_SEGMENTS;
  nic_rules = (__u64)dev->ifindex << 32 | rules;
  return rules;
}

static __always_inline __u32 nic_rules_of(struct net_device *dev) {
  __u64 rules = nic_rules;

  return (int)(rules >> 32) == dev->ifindex && (__u32)rules ? (__u32)rules : nic_learn(dev);
}

/* Every segment carries all headers, those of the innermost TCP or UDP included. */
static __always_inline void nic_cut(struct sk_buff *skb, struct nic_flight *flight) {
  struct skb_shared_info *shared = (void *)(skb->head + skb->end);
  __u32 size = BPF_CORE_READ(shared, gso_size), type = BPF_CORE_READ(shared, gso_type);
  __u32 transport = skb->transport_header, headers = 8;
  __u8 words = 0;

  if (!size || !(type & (NIC_GSO_TCP | NIC_GSO_UDP))) return;
  if (BPF_CORE_READ_BITFIELD(skb, encapsulation)) transport = skb->inner_transport_header;
  if (transport == NIC_UNSET || skb->mac_header == NIC_UNSET) return;
  if (type & NIC_GSO_TCP) {
    bpf_probe_read_kernel(&words, 1, skb->head + transport + 12);
    headers = (words >> 4) * 4;
  }
  headers += transport - skb->mac_header;
  if (flight->bytes <= headers) return;
  flight->packets = (flight->bytes - headers + size - 1) / size;
  flight->bytes += (__u64)(flight->packets - 1) * headers;
}

/* As it lies on the link; what the rules leave out goes when it is counted. */
static __always_inline void nic_take_off(struct nic_flight *flight, struct sk_buff *skb,
                                         __u32 rules, __u32 pulled, __u32 link, __u32 key) {
  flight->bytes = skb->len + pulled;
  flight->packets = 1;
  flight->key = key;
  flight->link_header = link;
  flight->handed = 0;
  if (rules & NIC_SEGMENTS) nic_cut(skb, flight);
  flight->skb = (__u64)skb;
}

#endif
