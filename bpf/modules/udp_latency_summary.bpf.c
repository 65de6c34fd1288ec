/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: how long datagrams waited in the receive queues of their sockets, summed up by the process
 * that read them. Owns not: how long one waited (core/udp_queue.bpf.c).
 */
#include "histogram.h"
#include "udp_queue.h"

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 65536);
  __type(key, __u32);
  __type(value, struct histogram);
} udp_latency_summary_totals SEC(".maps");

__u32 udp_latency_summary_tick = 1; /* the monitor counts it up before each reading */
__u64 udp_latency_summary_lost = 0; /* doubtful, of nobody, or without room in the map */

SEC("tp_btf/sock_recv_length")
int BPF_PROG(udp_latency_summary_received, struct sock *sk) {
  static const struct histogram zero;
  struct udp_read *read = udp_read_here();
  struct histogram *total = NULL;

  if (!read || read->outcome == UDP_READ_NONE) return 0;
  if (read->outcome == UDP_READ_KNOWN && read->process) {
    total = bpf_map_lookup_elem(&udp_latency_summary_totals, &read->process);
    if (!total) {
      bpf_map_update_elem(&udp_latency_summary_totals, &read->process, &zero, BPF_NOEXIST);
      total = bpf_map_lookup_elem(&udp_latency_summary_totals, &read->process);
    }
  }
  if (total)
    histogram_add(total, read->ns - read->stamp.ns, udp_latency_summary_tick);
  else
    __sync_fetch_and_add(&udp_latency_summary_lost, 1);
  return 0;
}
