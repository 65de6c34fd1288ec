/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: link-layer bytes per process, by the owner of the socket (owner.h). The cgroup hooks run
 * where the socket is known, on both sides, whatever task the softirq happened to interrupt.
 *
 * What is counted is what the device's own counters count: the packet as it passes, with its link
 * header.
 */
#include "link_bytes.h"
#include "owner.h"
#include "tree.h"

#define SOCK_RAW 3

struct network_total {
  __u64 rx_bytes, tx_bytes;
};

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 65536);
  __type(key, __u32);
  __type(value, struct network_total);
} network_totals SEC(".maps");

__u64 network_late_bytes = 0; /* passed for a process whose last row is written */
__u64 network_lost = 0; /* packets in no row: those, and those that found no room in the map */

static __always_inline void network_add(__u32 process, __u64 rx_bytes, __u64 tx_bytes) {
  static const struct network_total zero;
  struct network_total *total = bpf_map_lookup_elem(&network_totals, &process);

  if (!total) {
    /* Of a process that is gone nobody would ever take the entry out again. */
    if (!bpf_map_lookup_elem(&processes, &process)) {
      __sync_fetch_and_add(&network_late_bytes, rx_bytes + tx_bytes);
      __sync_fetch_and_add(&network_lost, 1);
      return;
    }
    bpf_map_update_elem(&network_totals, &process, &zero, BPF_NOEXIST);
    total = bpf_map_lookup_elem(&network_totals, &process);
    if (!total) {
      __sync_fetch_and_add(&network_lost, 1);
      return;
    }
  }
  if (rx_bytes) __sync_fetch_and_add(&total->rx_bytes, rx_bytes);
  if (tx_bytes) __sync_fetch_and_add(&total->tx_bytes, tx_bytes);
}

static __always_inline void network_packet(struct __sk_buff *skb, bool received) {
  struct bpf_sock *sk = skb->sk;
  struct socket_owner *owner;
  __u64 rx, tx;

  if (!sk) return;
  sk = bpf_sk_fullsock(sk);
  if (!sk) return;
  owner = bpf_sk_storage_get(&socket_owners, sk, NULL, 0);
  if (!owner) return;
  owner_settle(owner, bpf_get_socket_cookie(skb));
  if (owner->outside) return;
  if (received && sk->type == SOCK_RAW) {
    owner->raw_link = link_header(skb);
    return; /* counted when it is read, below */
  }
  rx = received ? link_bytes(skb, sk->protocol, true) : 0;
  tx = received ? 0 : link_bytes(skb, sk->protocol, false);
  if (!owner->process) {
    if (rx) __sync_fetch_and_add(&owner->rx_unclaimed, rx);
    if (tx) __sync_fetch_and_add(&owner->tx_unclaimed, tx);
    return;
  }
  if (owner->rx_unclaimed) rx += __sync_lock_test_and_set(&owner->rx_unclaimed, 0);
  if (owner->tx_unclaimed) tx += __sync_lock_test_and_set(&owner->tx_unclaimed, 0);
  network_add(owner->process, rx, tx);
}

SEC("cgroup_skb/ingress")
int network_ingress(struct __sk_buff *skb) {
  network_packet(skb, true);
  return 1;
}

SEC("cgroup_skb/egress")
int network_egress(struct __sk_buff *skb) {
  network_packet(skb, false);
  return 1;
}

/*
 * The kernel hands every raw socket a copy of every packet of its protocol, and the hook above runs
 * before the socket's own filter: ping would be charged with its neighbours' replies. What it reads
 * is its own.
 */
SEC("tp_btf/sock_recv_length")
int BPF_PROG(network_raw, struct sock *sk, int length, int flags) {
  struct socket_owner *owner;

  if (!owner_is_inet(sk) || length <= 0 || (flags & MSG_PEEK)) return 0;
  if (sk->sk_type != SOCK_RAW) return 0;
  owner = bpf_sk_storage_get(&socket_owners, sk, NULL, 0);
  if (!owner || !owner->process) return 0;
  /* IPv4 raw sockets read the network header too, IPv6 ones do not (raw(7), RFC 3542). */
  if (sk->__sk_common.skc_family == AF_INET6) length += IPV6_HEADER;
  network_add(owner->process, length + owner->raw_link, 0);
  return 0;
}
