/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: packets and bytes of one interface, by direction and queue, as the interface's own counters
 * have them: received where the driver hands a packet over (before GRO), sent where the driver
 * takes it, if it does.
 *
 * The interface is known by its name and network namespace, so nothing is missed when it goes away
 * and comes back with another index.
 */
#include "nic.h"

enum nic_direction { NIC_RX = 0, NIC_TX = 1 };

struct nic_total {
  __u64 packets, bytes;
};

/* By direction << 16 | queue. */
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 2 << 16);
  __type(key, __u32);
  __type(value, struct nic_total);
} nic_totals SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct nic_flights);
} nic_flights SEC(".maps");

__u64 nic_lost = 0;

static __always_inline struct nic_flights *nic_flights_here(void) {
  __u32 zero = 0;

  return bpf_map_lookup_elem(&nic_flights, &zero);
}

static __always_inline void nic_land(struct nic_flight *flight, bool bare) {
  static const struct nic_total zero;
  struct nic_total *total = bpf_map_lookup_elem(&nic_totals, &flight->key);

  flight->skb = 0;
  if (!total) {
    bpf_map_update_elem(&nic_totals, &flight->key, &zero, BPF_NOEXIST);
    total = bpf_map_lookup_elem(&nic_totals, &flight->key);
    if (!total) {
      __sync_fetch_and_add(&nic_lost, 1);
      return;
    }
  }
  /* Programs of one CPU can be interrupted by each other, hence the atomics. */
  __sync_fetch_and_add(&total->packets, flight->packets);
  __sync_fetch_and_add(&total->bytes,
                       flight->bytes - (bare ? (__u64)flight->link_header * flight->packets : 0));
}

static __always_inline void nic_receive(struct nic_flight *flight, struct sk_buff *skb, __u32 rules,
                                        bool raw_queue) {
  __u64 pulled = (__u64)skb->data - (__u64)skb->head;
  __u32 queue = skb->queue_mapping;

  asm volatile("" : "+r"(pulled)); /* or it is taken as 32 bits, which pointers must not be */
  pulled = skb->mac_header == NIC_UNSET ? 0 : pulled - skb->mac_header;
  if (queue && !raw_queue) queue--;
  nic_take_off(flight, skb, rules, pulled, pulled, NIC_RX << 16 | queue);
}

/* The driver, polling, hands over a packet. */
static __always_inline int nic_polled(struct sk_buff *skb) {
  struct net_device *dev = skb->dev;
  struct nic_flight flight;
  __u32 rules;

  if (!nic_watched(dev)) return 0;
  rules = nic_rules_of(dev);
  nic_receive(&flight, skb, rules, rules & NIC_BARE_POLLED);
  nic_land(&flight, rules & (NIC_BARE | NIC_BARE_RX | NIC_BARE_POLLED));
  return 0;
}

SEC("tp_btf/napi_gro_receive_entry")
int BPF_PROG(nic_gro, struct sk_buff *skb) { return nic_polled(skb); }

SEC("tp_btf/napi_gro_frags_entry")
int BPF_PROG(nic_frags, struct sk_buff *skb) { return nic_polled(skb); }

SEC("tp_btf/netif_receive_skb_entry")
int BPF_PROG(nic_single, struct sk_buff *skb) { return nic_polled(skb); }

SEC("tp_btf/netif_receive_skb_list_entry")
int BPF_PROG(nic_list, struct sk_buff *skb) { return nic_polled(skb); }

/* Without polling: lo, veth, drivers of old. */
SEC("tp_btf/netif_rx_entry")
int BPF_PROG(nic_handed, struct sk_buff *skb) {
  struct nic_flights *flights = nic_flights_here();
  struct net_device *dev = skb->dev;
  __u32 rules;

  if (!flights) return 0;
  flights->sent.handed = 1;
  if (!nic_watched(dev)) return 0;
  rules = nic_rules_of(dev);
  nic_receive(&flights->received, skb, rules, rules & NIC_REFUSABLE);
  return 0;
}

SEC("tp_btf/netif_rx_exit")
int BPF_PROG(nic_handed_exit, int refused) {
  struct nic_flights *flights = nic_flights_here();

  if (!flights || !flights->received.skb) return 0;
  if (!refused || !(nic_rules & NIC_REFUSABLE)) {
    nic_land(&flights->received, nic_rules & (NIC_BARE | NIC_BARE_RX));
    return 0;
  }
  flights->received.skb = 0;
  flights->sent.skb = 0; /* of lo: the same packet */
  return 0;
}

SEC("tp_btf/net_dev_start_xmit")
int BPF_PROG(nic_send, struct sk_buff *skb, struct net_device *dev) {
  struct nic_flights *flights;

  if (!nic_watched(dev)) return 0;
  flights = nic_flights_here();
  if (!flights) return 0;
  /* One inside the other: a tunnel through itself. */
  if (flights->sent.skb) __sync_fetch_and_add(&nic_lost, 1);
  nic_take_off(&flights->sent, skb, nic_rules_of(dev), 0, dev->hard_header_len,
               NIC_TX << 16 | skb->queue_mapping);
  return 0;
}

SEC("tp_btf/net_dev_xmit")
int BPF_PROG(nic_sent, struct sk_buff *skb, int refused, struct net_device *dev) {
  struct nic_flights *flights = nic_flights_here();

  if (!flights || flights->sent.skb != (__u64)skb) return 0;
  flights->sent.skb = 0;
  if (refused) return 0;
  nic_land(&flights->sent,
           (nic_rules & NIC_BARE) || ((nic_rules & NIC_BARE_POLLED) && !flights->sent.handed));
  return 0;
}
