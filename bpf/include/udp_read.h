/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: which datagram a read has taken.
 *
 * No stable hook shows the buffer when it is read: consume_skb no longer fires for UDP since 6.18,
 * skb_copy_datagram_iovec only for buffers with pages. But a queue is read from its front. What was
 * seen there and no longer is has been read; what nobody saw there came to an empty queue and is
 * among the last few. Where that leaves more than one the read is doubtful: none is guessed.
 */
#ifndef TREESNOOP_UDP_READ_H
#define TREESNOOP_UDP_READ_H

#include "udp_queue.h"

#define RCV_SHUTDOWN 1 /* include/net/sock.h */

/*
 * How many have arrived and are neither in the queue nor reported read or dropped: the one whose
 * read is looked at, what other threads have taken, and what is on its way into the queue. Looked
 * up in this order: what happens meanwhile makes it more, never less.
 */
static __always_inline int udp_read_gone(struct sock *sk, struct udp_queue *queue, __u64 cookie,
                                         __u32 reads) {
  volatile __u32 *dropped = bpf_map_lookup_elem(&udp_queue_dropped, &cookie);
  __u32 out = reads + (dropped ? *dropped : 0);
  __u32 length = udp_queue_length(sk);
  int gone = *(volatile __u32 *)&queue->arrived - out - length;

  /* What was on its way when the socket was first looked at is not among those that arrived. */
  if (gone < 1 && !length) __sync_val_compare_and_swap(&queue->reads, reads + 1, reads + gone);
  return gone;
}

static __always_inline struct udp_stamp *udp_read_stamp(__u64 key, __u64 cookie, __u64 from,
                                                        __u64 to, int length) {
  struct udp_stamp *stamp = udp_stamp_find(key);

  if (!stamp || stamp->cookie != cookie || stamp->ns < udp_queue_began) return NULL;
  return stamp->ns > from && stamp->ns <= to && length <= (int)stamp->length ? stamp : NULL;
}

/*
 * Of those that came last the one that was read, given how many are gone: all of them must be among
 * these, and nothing in the queue but its front. On one CPU the first to come is the first in the
 * queue, and one reader takes that.
 */
static __always_inline __u64 udp_read_latest(struct sock *sk, struct udp_queue *queue, __u64 cookie,
                                             __u64 front, int gone, bool alone, int length) {
  __u64 first_ns = 0, first = 0;
  __u32 i, cpu = 0;
  int found = 0;

  if (udp_queue_length(sk) != (front ? 1 : 0)) return 0;
  for (i = 0; i < UDP_QUEUE_RECENT; i++) {
    __u64 key = queue->recent[i];
    struct udp_stamp *stamp;

    if (!key || key == front) continue;
    stamp = udp_read_stamp(key, cookie, queue->doubt_ns, ~0ULL, 0);
    if (!stamp || (stamp->number & (UDP_QUEUE_RECENT - 1)) != i) continue;
    if (found++ && (!alone || stamp->cpu != cpu)) return 0;
    cpu = stamp->cpu;
    if (first && first_ns < stamp->ns) continue;
    first = key;
    first_ns = stamp->ns;
  }
  return found == gone && udp_read_stamp(first, cookie, 0, ~0ULL, length) ? first : 0;
}

/* Another thread may have taken one before it and not have come here yet. */
static __always_inline bool udp_read_alone(struct udp_queue *queue) {
  __u32 tid = bpf_get_current_pid_tgid();
  __u32 before = __sync_val_compare_and_swap(&queue->reader, 0, tid);

  if (before && before != tid) queue->reader = -1;
  return !before || before == tid;
}

static __always_inline void udp_read_tell(struct sock *sk, struct udp_queue *queue,
                                          struct udp_read *read, int length) {
  __u64 cookie = bpf_get_socket_cookie(sk), front_ns = queue->front_ns;
  __u64 seen = __sync_lock_test_and_set(&queue->front, 0), front = udp_queue_front(sk);
  struct udp_stamp *stamp = NULL;
  bool alone = udp_read_alone(queue);
  __u32 reads;
  int gone;

  udp_queue_note(queue, front, read->ns);
  if (seen == front) seen = 0;
  /* shutdown(2) ends a read with 0, as an empty datagram does. */
  if (length < 0 || (!length && !seen && sk->sk_shutdown & RCV_SHUTDOWN)) return;
  reads = __sync_fetch_and_add(&queue->reads, 1);
  if (seen && front_ns >= queue->doubt_ns)
    stamp = udp_read_stamp(seen, cookie, 0, front_ns, length);
  if (!stamp && reads < queue->early) return;
  if (!stamp || !alone) {
    gone = udp_read_gone(sk, queue, cookie, reads);
    if (!stamp) {
      seen = udp_read_latest(sk, queue, cookie, front, gone, alone, length);
      stamp = seen ? udp_stamp_find(seen) : NULL;
    } else if (gone != 1) {
      stamp = NULL;
    }
  }
  if (!stamp || !place_take(&stamp->skb, seen)) {
    queue->doubt_ns = read->ns;
    read->outcome = UDP_READ_DOUBTFUL;
    return;
  }
  queue->early = 0;
  read->outcome = UDP_READ_KNOWN;
  read->stamp = *stamp;
  stamp->skb = 0;
}

#endif
