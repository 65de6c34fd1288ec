/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: the ring every event table is streamed through, its common header, and the exact count of
 * what was seen and what did not fit. One ring keeps the order of all events, so a name change
 * (identity record) takes effect between the two rows where it happened.
 */
#ifndef TREESNOOP_EVENTS_H
#define TREESNOOP_EVENTS_H

#include "target.h"

#define MAX_STREAMS 16
#define IDENTITY_STREAM 0

struct event {
  __u32 stream; /* which table: numbers are given out by the monitor, IDENTITY_STREAM is ours */
  __u32 process;
  __u64 ns; /* CLOCK_MONOTONIC */
};

struct identity_event {
  struct event event;
  __u32 pid;
  char comm[TASK_COMM_LEN];
};

/* clang describes only types that something global refers to; the monitor reads the record by its
 * BTF. */
#define EVENT_RECORD(type) const struct type *type##_record = 0

struct stream_count {
  __u64 seen;
  __u64 lost;
};

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 1 << 20); /* the monitor sets the size before load */
} events SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, MAX_STREAMS);
  __type(key, __u32);
  __type(value, struct stream_count);
} stream_counts SEC(".maps");

/* Streams running now, a bit each: no identity records are made for nobody. */
__u32 streams_running = 0;

/*
 * The reader is woken each time another so many bytes have gathered (waking per record costs
 * more than the record). A few records in a row see that border, so that a race between CPUs cannot
 * skip it.
 */
#define RING_WAKE_BYTES (64 << 10)
#define RING_WAKE_BORDER 512

/* Space for one record, its header filled; NULL and one counted loss when the ring is full. */
static __always_inline void *event_reserve(__u32 stream, __u32 process, __u64 size) {
  /* Programs of one CPU can be preempted by each other, hence the atomic on a per-CPU value. */
  struct stream_count *count = bpf_map_lookup_elem(&stream_counts, &stream);
  struct event *event = bpf_ringbuf_reserve(&events, size, 0);

  if (count) __sync_fetch_and_add(&count->seen, 1);
  if (!event) {
    if (count) __sync_fetch_and_add(&count->lost, 1);
    return NULL;
  }
  event->stream = stream;
  event->process = process;
  event->ns = bpf_ktime_get_ns();
  return event;
}

static __always_inline void event_submit(void *event) {
  __u64 waiting = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
  bool border = waiting >= RING_WAKE_BYTES && waiting % RING_WAKE_BYTES < RING_WAKE_BORDER;

  bpf_ringbuf_submit(event, border ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
}

#endif
