/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: the rings every event table is streamed through, the records' common header, and the exact
 * count of what did not fit, told in the stream where it is missing.
 *
 * One ring per CPU: nobody waits for another CPU's lock. The monitor merges them by time. That
 * keeps the order of cause and effect exactly, because the time is read before the space is
 * reserved: whatever lies before a record in its ring carries an earlier time than anything the
 * record can have caused.
 */
#ifndef TREESNOOP_EVENTS_H
#define TREESNOOP_EVENTS_H

#include "target.h"

#define MAX_STREAMS 16
#define IDENTITY_STREAM 0
#define LOSS_STREAM 1

struct event {
  __u32 stream; /* which table: numbers are given out by the monitor, the two above are ours */
  __u32 process;
  __u64 ns; /* CLOCK_MONOTONIC */
};

struct identity_event {
  struct event event;
  __u32 pid;
  char comm[TASK_COMM_LEN];
};

/* So many records of this process and the stream `of` are missing between the last and the next. */
struct loss_event {
  struct event event;
  __u64 count;
  __u32 of;
};

/* clang describes only types that something global refers to; the monitor reads the record by its
 * BTF. */
#define EVENT_RECORD(type) const struct type *type##_record = 0

EVENT_RECORD(identity_event);
EVENT_RECORD(loss_event);

struct event_ring {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 64 << 10);
};

/* By CPU. The monitor makes the rings, when the first stream is switched on. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, 1); /* the monitor sets the number of CPUs before load */
  __type(key, __u32);
  __array(values, struct event_ring);
} event_rings SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, MAX_STREAMS);
  __type(key, __u32);
  __type(value, __u64);
} stream_lost SEC(".maps");

struct loss_key {
  __u32 stream;
  __u32 process;
};

/* Lost and not yet told by a loss_event. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 65536);
  __type(key, struct loss_key);
  __type(value, __u64);
} stream_losses SEC(".maps");

/* Entries of stream_losses that have been counted up, told here, and told by the monitor: equal as
 * long as nothing is lost, which is all that the usual event looks at. */
__u64 losses_made = 0, losses_told = 0, losses_settled = 0;

/* Streams running now, a bit each: no identity records are made for nobody. */
__u32 streams_running = 0;

/* The reader is woken each time another so many bytes have gathered; a power of two. Waking costs
 * more than a record. */
const volatile __u64 event_wake_bytes = 64 << 10;

static __always_inline void *event_ring_here(void) {
  __u32 cpu = bpf_get_smp_processor_id();

  return bpf_map_lookup_elem(&event_rings, &cpu);
}

/* Global functions, here and below: the verifier looks at them once, not at every call. */
__noinline int event_lost(__u32 stream, __u32 process) {
  struct loss_key key = {.stream = stream, .process = process};
  __u64 *lost = bpf_map_lookup_elem(&stream_lost, &stream);
  __u64 zero = 0;

  /* Programs of one CPU can be preempted by each other, hence the atomic on a per-CPU value. */
  if (lost) __sync_fetch_and_add(lost, 1);
  bpf_map_update_elem(&stream_losses, &key, &zero, BPF_NOEXIST);
  lost = bpf_map_lookup_elem(&stream_losses, &key);
  if (!lost) return 0; /* no memory: lost to nobody in particular */
  __sync_fetch_and_add(lost, 1);
  __sync_fetch_and_add(&losses_made, 1);
  return 0;
}

/* 0: something is missing here and there is no room to say so. */
__noinline int tell_loss(__u32 stream, __u32 process, __u64 ns) {
  struct loss_key key = {.stream = stream, .process = process};
  __u64 *lost = bpf_map_lookup_elem(&stream_losses, &key);
  void *ring = event_ring_here();
  struct loss_event *event;

  if (!lost || !*lost) return 1;
  event = ring ? bpf_ringbuf_reserve(ring, sizeof(*event), 0) : NULL;
  if (!event) return 0;
  event->event.stream = LOSS_STREAM;
  event->event.process = process;
  event->event.ns = ns;
  event->of = stream;
  event->count = __sync_lock_test_and_set(lost, 0);
  __sync_fetch_and_add(&losses_told, event->count);
  bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
  return 1;
}

/*
 * Space for one record, its header filled; NULL and one counted loss when the ring is full. `ns` is
 * when it happened, read before this call.
 */
static __always_inline void *event_reserve(__u32 stream, __u32 process, __u64 ns, __u64 size) {
  void *ring = event_ring_here();
  struct event *event = NULL;
  bool whole = true;

  /* The reader may make room at any moment: a record must not come before what is missing. */
  if (losses_made != losses_told + losses_settled)
    whole = tell_loss(IDENTITY_STREAM, process, ns) && tell_loss(stream, process, ns);
  if (ring && whole) event = bpf_ringbuf_reserve(ring, size, 0);
  if (!event) {
    event_lost(stream, process);
    return NULL;
  }
  event->stream = stream;
  event->process = process;
  event->ns = ns;
  return event;
}

/*
 * Whether the record lies across a border between two stretches of event_wake_bytes, as seen from
 * anywhere: rings have no gaps, so every stretch is noticed once, without asking how full the ring
 * is. The distance of two pointers is a number the verifier lets us reckon with.
 */
static __always_inline bool event_wakes(void *event, __u64 size) {
  __u64 end = (__u64)event - (__u64)&losses_made;

  asm volatile("" : "+r"(end));
  return ((end + size) & (event_wake_bytes - 1)) < size + BPF_RINGBUF_HDR_SZ;
}

/* `size` as reserved. */
static __always_inline void event_submit(void *event, __u64 size) {
  bpf_ringbuf_submit(event, event_wakes(event, size) ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
}

#endif
