/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: what is known of a UDP socket's queue: how many came and were read, and what is at the
 * front. Owns not: when any of that changes (core/udp_queue.bpf.c), the datagrams (udp_stamps.h).
 */
#ifndef TREESNOOP_UDP_QUEUE_H
#define TREESNOOP_UDP_QUEUE_H

#include <linux/in.h>

#include "tree.h"
#include "udp_stamps.h"

#define UDP_QUEUE_RECENT 4 /* a power of two */

struct udp_queue {
  __u64 began; /* udp_queue_began of the run that wrote this */
  __u64 front; /* address of the buffer that was seen at the front; 0: none since the last read */
  __u64 front_ns; /* when */
  __u64 doubt_ns; /* last read that could not be told: older stamps may be that one's */
  __u64 recent[UDP_QUEUE_RECENT]; /* addresses of those that came last */
  __u32 arrived;
  __u32 reads;
  __u32 early;  /* so many were there when it was first looked at: nobody knows since when */
  __u32 reader; /* the thread that reads it; -1: there are several */
};

struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct udp_queue);
} udp_queues SEC(".maps");

/* Of those that arrived, by the socket's cookie: what is freed does not always say its socket. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 4096);
  __type(key, __u64);
  __type(value, __u32);
} udp_queue_dropped SEC(".maps");

enum udp_read_outcome { UDP_READ_NONE, UDP_READ_KNOWN, UDP_READ_DOUBTFUL };

/* What the sock_recv_length at hand was about: for the modules' programs, which run right after. */
struct udp_read {
  __u64 ns;
  __u32 outcome;
  __u32 process; /* who read */
  struct udp_stamp stamp;
};

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct udp_read);
} udp_queue_read SEC(".maps");

__u64 udp_queue_began = 0;     /* CLOCK_MONOTONIC; stamps before that are not this run's */
__u64 udp_queue_unstamped = 0; /* no place for its stamp */

static __always_inline struct udp_read *udp_read_here(void) {
  __u32 zero = 0;

  return bpf_map_lookup_elem(&udp_queue_read, &zero);
}

static __always_inline __u64 udp_queue_front(struct sock *sk) {
  struct udp_sock *udp = kernel_type(udp_sock, sk);
  void *waiting = (void *)sk + bpf_core_field_offset(struct sock, sk_receive_queue);
  void *reading = (void *)udp + bpf_core_field_offset(struct udp_sock, reader_queue);
  struct sk_buff *front = udp->reader_queue.next;

  if (front == reading) front = sk->sk_receive_queue.next;
  /* One queue may have been emptied into the other meanwhile. */
  if (front == waiting) front = udp->reader_queue.next;
  return front == reading ? 0 : as_number(front);
}

static __always_inline void udp_queue_note(struct udp_queue *queue, __u64 front, __u64 ns) {
  if (front && !__sync_val_compare_and_swap(&queue->front, 0, front)) queue->front_ns = ns;
}

static __always_inline __u32 udp_queue_length(struct sock *sk) {
  return *(volatile __u32 *)&kernel_type(udp_sock, sk)->reader_queue.qlen +
         *(volatile __u32 *)&sk->sk_receive_queue.qlen;
}

/* For those of the tree; those known are followed also while somebody outside of it reads them. */
static __always_inline struct udp_queue *udp_queue_make(struct bpf_sock *sk, struct sock *kernel_sk,
                                                        __u32 process, __u64 cookie) {
  struct udp_queue *queue = bpf_sk_storage_get(&udp_queues, sk, NULL, 0);
  __u64 began;
  __u32 early;

  if (queue && queue->began == udp_queue_began) return queue;
  if (!host_mode && !process) return NULL;
  queue = bpf_sk_storage_get(&udp_queues, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
  if (!queue) return NULL;
  /* Before others can count theirs: in the queue they would be counted twice. */
  early = udp_queue_length(kernel_sk);
  began = queue->began;
  if (began == udp_queue_began) return queue;
  if (__sync_val_compare_and_swap(&queue->began, began, udp_queue_began) != began) return queue;
  if (began) { /* of an earlier time the modules were on */
    bpf_map_delete_elem(&udp_queue_dropped, &cookie);
    queue->front = 0;
    queue->doubt_ns = 0;
    queue->arrived = 0;
    queue->reads = 0;
    queue->reader = 0;
  }
  queue->early = early;
  __sync_fetch_and_add(&queue->arrived, early);
  return queue;
}

#endif
