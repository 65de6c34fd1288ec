/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: when a datagram comes to a UDP socket, is read, and is dropped. Owns not: which one a read
 * has taken (udp_read.h), and what becomes of that: the modules' programs run right after these, in
 * the order of attachment, and find it in udp_queue_read.
 */
#include <linux/if_ether.h>

#include "udp_read.h"

#define UDP_HEADER 8
#define MSG_ERRQUEUE 0x2000 /* include/linux/socket.h */

struct udp_drops {
  __u64 drops;
};

/* By process. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 65536);
  __type(key, __u32);
  __type(value, struct udp_drops);
} udp_queue_drops SEC(".maps");

__u64 udp_queue_all_drops = 0;
__u64 udp_queue_late_drops = 0; /* of those, of a process that has gone, or of none */
__u64 udp_queue_unread = 0;     /* thrown away with their socket */

SEC("cgroup_skb/ingress")
int udp_queue_ingress(struct __sk_buff *ctx) {
  struct sk_buff *skb = bpf_cast_to_kern_ctx(ctx);
  struct udp_stamp stamp = {.skb = as_number(skb), .cookie = bpf_get_socket_cookie(ctx)};
  struct connection *connection = &stamp.connection;
  struct bpf_sock *sk = ctx->sk;
  struct socket_owner *owner;
  struct udp_queue *queue;
  struct sock *kernel_sk;
  __u32 header, addresses[2];
  __u16 ports[2];

  if (!sk) return 1;
  sk = bpf_sk_fullsock(sk);
  if (!sk || sk->protocol != IPPROTO_UDP) return 1;
  kernel_sk = skb->sk;
  if (!kernel_sk) return 1;
  owner = bpf_sk_storage_get(&socket_owners, sk, NULL, 0);
  if (owner) stamp.process = owner->process;
  queue = udp_queue_make(sk, kernel_sk, stamp.process, stamp.cookie);
  if (!queue) return 1;
  header = skb->transport_header - skb->network_header;
  connection->ip = ctx->protocol == bpf_htons(ETH_P_IPV6) ? 6 : 4;
  bpf_skb_load_bytes(ctx, header, ports, 4);
  if (connection->ip == 6) {
    bpf_skb_load_bytes(ctx, 8, connection->saddr6, 32); /* daddr6 is next, here as there */
  } else {
    bpf_skb_load_bytes(ctx, 12, addresses, 8);
    __builtin_memcpy(connection->saddr4, &addresses[0], 4);
    __builtin_memcpy(connection->daddr4, &addresses[1], 4);
  }
  connection->sport = bpf_ntohs(ports[0]);
  connection->dport = bpf_ntohs(ports[1]);
  stamp.length = ctx->len - header - UDP_HEADER;
  stamp.cpu = bpf_get_smp_processor_id();
  stamp.ns = bpf_ktime_get_ns();
  if (!queue->front) udp_queue_note(queue, udp_queue_front(kernel_sk), stamp.ns);
  stamp.number = __sync_fetch_and_add(&queue->arrived, 1);
  if (!udp_stamp_keep(&stamp)) __sync_fetch_and_add(&udp_queue_unstamped, 1);
  queue->recent[stamp.number & (UDP_QUEUE_RECENT - 1)] = stamp.skb;
  return 1;
}

/* Also without success: a buffer may have been thrown away (bad checksum, bad address). */
SEC("tp_btf/sock_recv_length")
int BPF_PROG(udp_queue_received, struct sock *sk, int length, int flags) {
  struct udp_read *read = udp_read_here();
  struct udp_queue *queue;
  struct thread *thread;

  if (!read) return 0;
  read->outcome = UDP_READ_NONE;
  if (!owner_is_inet(sk) || sk->sk_protocol != IPPROTO_UDP) return 0;
  if (flags & (MSG_PEEK | MSG_ERRQUEUE)) return 0;
  queue = bpf_sk_storage_get(&udp_queues, sk, NULL, 0);
  if (!queue || queue->began != udp_queue_began) return 0;
  read->ns = bpf_ktime_get_ns();
  thread = current_thread();
  read->process = thread ? thread->process : 0;
  udp_read_tell(sk, queue, read, length);
  if (!thread && !host_mode) read->outcome = UDP_READ_NONE;
  return 0;
}

static __always_inline void udp_queue_count_drop(__u32 process) {
  static const struct udp_drops zero;
  struct udp_drops *drops = bpf_map_lookup_elem(&udp_queue_drops, &process);

  __sync_fetch_and_add(&udp_queue_all_drops, 1);
  /* Of a process that is gone nobody would ever take the entry out again. */
  if (!drops && bpf_map_lookup_elem(&processes, &process)) {
    bpf_map_update_elem(&udp_queue_drops, &process, &zero, BPF_NOEXIST);
    drops = bpf_map_lookup_elem(&udp_queue_drops, &process);
  }
  __sync_fetch_and_add(drops ? &drops->drops : &udp_queue_late_drops, 1);
}

SEC("tp_btf/kfree_skb")
int BPF_PROG(udp_queue_drop, struct sk_buff *skb, void *location, __u32 reason) {
  struct udp_stamp *stamp;
  struct sock *sk = drop_socket(ctx);
  __u64 address = as_number(skb), cookie;
  __u32 process, *dropped, one = 1;

  stamp = udp_stamp_find(address);
  if (!stamp) return 0;
  cookie = stamp->cookie;
  process = stamp->process;
  /* A stamp whose read could not be told may stand where another buffer now is. */
  if (sk ? bpf_get_socket_cookie(sk) != cookie : skb->len != stamp->length) return 0;
  if (!place_take(&stamp->skb, address)) return 0;
  stamp->skb = 0;
  dropped = bpf_map_lookup_elem(&udp_queue_dropped, &cookie);
  if (dropped)
    __sync_fetch_and_add(dropped, 1);
  else
    bpf_map_update_elem(&udp_queue_dropped, &cookie, &one, BPF_ANY);
  /* What a closed socket still held goes without a reason. */
  if (reason == bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_NOT_SPECIFIED))
    __sync_fetch_and_add(&udp_queue_unread, 1);
  else
    udp_queue_count_drop(process);
  return 0;
}
