/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: what is noted of a TCP connection, the running totals by connection and process, and giving
 * to the owner what a socket's counters have gained. Owns not: when they are looked at
 * (modules/tcp_bytes.bpf.c), who owns a socket (core/owner.bpf.c).
 */
#ifndef TREESNOOP_TCP_BYTES_H
#define TREESNOOP_TCP_BYTES_H

#include "connection.h"
#include "tree.h"

#define TCP_BYTES_NOBODY (~0u) /* it was last used by a process outside the tree */

enum {
  TCP_BYTES_RECEIVED,
  TCP_BYTES_SENT,
  TCP_BYTES_ACKED,
  TCP_BYTES_RETRANSMITTED,
  TCP_BYTES_COUNTERS
};

struct tcp_bytes_connection {
  __u64 seen[TCP_BYTES_COUNTERS]; /* how far its socket's counters are accounted for */
  struct tcp_sock *sk;
  __u64 cookie;           /* the socket's: another may have its address one day */
  struct connection ends; /* kept: a closed socket has lost its port */
  __u32 process;          /* whose the next bytes are; 0: nobody has touched it yet */
  __u32 accounted;        /* 1 once there is a total of it */
  __u32 closed;           /* 1: nothing will follow */
};

/*
 * By the number of the connection, which is never given twice, and taken out by the monitor's walk
 * alone: so who holds an entry never finds another connection's in its place.
 */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 65536);
  __type(key, __u32);
  __type(value, struct tcp_bytes_connection);
} tcp_bytes_connections SEC(".maps");

struct tcp_bytes_key {
  __u32 id, process;
};

struct tcp_bytes_total {
  __u64 bytes[TCP_BYTES_COUNTERS];
  struct connection connection;
  __u32 closed; /* nothing will follow */
};

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 65536);
  __type(key, struct tcp_bytes_key);
  __type(value, struct tcp_bytes_total);
} tcp_bytes_totals SEC(".maps");

__u32 tcp_bytes_stopping = 0; /* the last walk: what still waits for an owner has none */
__u64 tcp_bytes_late = 0;     /* bytes that moved after the last row of their process */
__u64 tcp_bytes_lost = 0;     /* times that some were late, or no memory was left to count them */

static __always_inline struct tcp_bytes_total *tcp_bytes_total_of(struct tcp_bytes_connection *own,
                                                                  __u32 id, __u32 process) {
  struct tcp_bytes_key key = {.id = id, .process = process};
  struct tcp_bytes_total *total = bpf_map_lookup_elem(&tcp_bytes_totals, &key);
  struct tcp_bytes_total fresh = {.connection = own->ends};

  if (total) return total;
  bpf_map_update_elem(&tcp_bytes_totals, &key, &fresh, BPF_NOEXIST);
  own->accounted = 1;
  return bpf_map_lookup_elem(&tcp_bytes_totals, &key);
}

/* A tick and a closing socket may look at once: never back, the slower one has gained nothing. */
static __always_inline __u64 tcp_bytes_gain(__u64 *seen, __u64 now) {
  for (int tries = 0; tries < 8; tries++) {
    __u64 before = *(volatile __u64 *)seen;

    if (now <= before) return 0;
    if (__sync_val_compare_and_swap(seen, before, now) == before) return now - before;
  }
  return 0; /* the next look has it */
}

/*
 * Gives what was gained to the owner. What nobody has claimed yet, or what came after the last row
 * of its owner, waits for who touches the socket next; `last`: nobody will.
 */
static __always_inline void tcp_bytes_settle(struct tcp_bytes_connection *own, __u32 id,
                                             const __u64 *now, bool last) {
  struct tcp_bytes_total *total = NULL;
  __u32 process = own->process;
  bool late = false, moved = last && own->accounted;
  __u64 gained, missed = 0;

  if (process == TCP_BYTES_NOBODY) {
    process = 0;
  } else if (!bpf_map_lookup_elem(&processes, &process)) {
    if (!last) return;
    late = process && !host_mode;
    process = 0;
  }
  for (int i = 0; i < TCP_BYTES_COUNTERS; i++) moved |= now[i] > own->seen[i];
  if (!moved) return;
  if (process || host_mode) {
    total = tcp_bytes_total_of(own, id, process);
    if (!total && !last) return; /* no room: perhaps at the next look */
    late |= !total;
  }
  for (int i = 0; i < TCP_BYTES_COUNTERS; i++) {
    gained = tcp_bytes_gain(&own->seen[i], now[i]);
    if (total)
      __sync_fetch_and_add(&total->bytes[i], gained);
    else if (i <= TCP_BYTES_SENT)
      missed += gained;
  }
  if (late && missed) {
    __sync_fetch_and_add(&tcp_bytes_late, missed);
    __sync_fetch_and_add(&tcp_bytes_lost, 1);
  }
  if (last && total) total->closed = 1;
}

#define TCP_BYTES_NOW(tcp) \
  { (tcp)->bytes_received, (tcp)->bytes_sent, (tcp)->bytes_acked, (tcp)->bytes_retrans }

#endif
