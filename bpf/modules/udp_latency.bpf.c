/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: a record of each datagram that waited in its socket's receive queue longer than wanted.
 * Owns not: how long one waited (core/udp_queue.bpf.c).
 */
#include "events.h"
#include "udp_queue.h"

struct udp_latency_event {
  struct event event;
  struct connection connection; /* as in the datagram: s is the sender */
  __u32 length;
  __u64 wait_ns;
};

EVENT_RECORD(udp_latency_event);

const volatile __u32 udp_latency_stream = 0;
__u64 udp_latency_threshold_ns = 3000000;
__u32 udp_latency_dport = 0;    /* 0: every port */
__u64 udp_latency_doubtful = 0; /* read after perhaps too long: which datagram is not certain */

SEC("tp_btf/sock_recv_length")
int BPF_PROG(udp_latency_received, struct sock *sk) {
  struct udp_read *read = udp_read_here();
  struct udp_latency_event *event;

  if (!read || read->outcome == UDP_READ_NONE) return 0;
  if (udp_latency_dport && sk->__sk_common.skc_num != udp_latency_dport) return 0;
  if (read->outcome == UDP_READ_DOUBTFUL) {
    __sync_fetch_and_add(&udp_latency_doubtful, 1);
    return 0;
  }
  if (read->ns - read->stamp.ns <= udp_latency_threshold_ns) return 0;
  event = event_reserve(udp_latency_stream, read->process, read->ns, sizeof(*event));
  if (!event) return 0;
  event->connection = read->stamp.connection;
  event->length = read->stamp.length;
  event->wait_ns = read->ns - read->stamp.ns;
  event_submit(event, sizeof(*event));
  return 0;
}
