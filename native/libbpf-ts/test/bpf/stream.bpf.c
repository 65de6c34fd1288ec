// SPDX-License-Identifier: MIT
// Records of several sources through one ring per CPU, counted exactly: what a CSV writer reads.
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define MAX_SOURCES 4096
#define MAX_RECORDS 1024 /* of one run */

enum { IDENTITY = 0, LOSS = 1 };

struct event {
  __u32 stream;
  __u32 source;
  __u64 ns;
};

struct sample {
  struct event event;
  __u64 sequence; /* of its source, from 0 */
  __u32 cpu;
};

struct identity {
  struct event event;
  __u32 pid;
  char name[16];
};

struct loss {
  struct event event;
  __u64 count;
  __u32 of;
};

struct source {
  __u32 pid;
  char name[16];
};

struct tally {
  __u64 emitted; /* samples, those without room included */
  __u64 lost;    /* of these */
  __u64 untold;  /* of these, not told by a loss record */
  __u64 held;    /* reserved by `hold` */
};

struct ring {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 4096);
};

// By CPU; the test makes them.
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, 1);
  __type(key, __u32);
  __array(values, struct ring);
} rings SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, MAX_SOURCES);
  __type(key, __u32);
  __type(value, struct source);
} sources SEC(".maps");

// By source; nobody emits for the same source at the same time.
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, MAX_SOURCES);
  __type(key, __u32);
  __type(value, struct tally);
} tallies SEC(".maps");

const struct sample *sample_record;
const struct identity *identity_record;
const struct loss *loss_record;
char big[64 << 10];

struct emit_request {
  __u64 stream;
  __u64 source;
  __u64 records;
  __u64 wake; /* flags of the last one's submission */
};

static __always_inline void *ring_here(void) {
  __u32 cpu = bpf_get_smp_processor_id();
  return bpf_map_lookup_elem(&rings, &cpu);
}

static __always_inline void *reserve(__u32 stream, __u32 source, __u64 size) {
  void *ring = ring_here();
  __u64 ns = bpf_ktime_get_ns();
  struct event *event = ring ? bpf_ringbuf_reserve(ring, size, 0) : NULL;
  if (!event) return NULL;
  event->stream = stream;
  event->source = source;
  event->ns = ns;
  return event;
}

static __noinline bool tell_loss(__u32 of, __u32 source, __u64 count) {
  struct loss *loss = reserve(LOSS, source, sizeof(*loss));
  if (!loss) return false;
  loss->of = of;
  loss->count = count;
  bpf_ringbuf_submit(loss, BPF_RB_NO_WAKEUP);
  return true;
}

SEC("raw_tp")
int emit(struct emit_request *request) {
  __u32 stream = request->stream, source = request->source;
  __u64 records = request->records, wake = request->wake;
  struct tally *tally = bpf_map_lookup_elem(&tallies, &source);
  if (!tally) return -1;
  for (__u32 i = 0; i < MAX_RECORDS && i < records; i++) {
    struct sample *sample = NULL;
    __u64 sequence = tally->emitted++;
    if (tally->untold > 0 && tell_loss(stream, source, tally->untold)) tally->untold = 0;
    if (tally->untold == 0) sample = reserve(stream, source, sizeof(*sample));
    if (!sample) {
      tally->lost++;
      tally->untold++;
      continue;
    }
    sample->sequence = sequence;
    sample->cpu = bpf_get_smp_processor_id();
    bpf_ringbuf_submit(sample, i + 1 == records ? wake : BPF_RB_NO_WAKEUP);
  }
  return 0;
}

struct identify_request {
  __u64 source;
  __u64 pid;
  char name[16];
};

SEC("raw_tp")
int identify(struct identify_request *request) {
  __u32 source = request->source;
  struct identity *identity = reserve(IDENTITY, source, sizeof(*identity));
  if (!identity) return -1;
  identity->pid = request->pid;
  __builtin_memcpy(identity->name, request->name, sizeof(identity->name));
  bpf_ringbuf_submit(identity, 0);
  return 0;
}

struct loss_request {
  __u64 of;
  __u64 source;
  __u64 count;
};

SEC("raw_tp")
int lose(struct loss_request *request) {
  return tell_loss(request->of, request->source, request->count) ? 0 : -1;
}

struct odd_request {
  __u64 stream;
  __u64 source;
};

// What no reader can make anything of, each a sample otherwise: too short, too long, discarded, of
// a stream that cannot be, and an identity without its name.
SEC("raw_tp")
int odd(struct odd_request *request) {
  struct event *event = (struct event *)big;
  void *ring = ring_here();
  __u32 stream = request->stream, source = request->source;
  struct sample *sample;

  if (!ring) return -1;
  event->stream = stream;
  event->source = source;
  event->ns = bpf_ktime_get_ns();
  if (bpf_ringbuf_output(ring, big, 4, 0)) return -1;
  if (bpf_ringbuf_output(ring, big, 15, 0)) return -1;
  if (bpf_ringbuf_output(ring, big, (32 << 10) + 1, 0)) return -1;
  if (bpf_ringbuf_output(ring, big, sizeof(big), 0)) return -1;
  event->stream = 16;
  if (bpf_ringbuf_output(ring, big, 32, 0)) return -1;
  event->stream = -1;
  if (bpf_ringbuf_output(ring, big, 32, 0)) return -1;
  event->stream = IDENTITY;
  if (bpf_ringbuf_output(ring, big, sizeof(struct identity) - 8, 0)) return -1;
  event->stream = LOSS;
  if (bpf_ringbuf_output(ring, big, sizeof(struct loss) - 8, 0)) return -1;
  sample = reserve(stream, source, sizeof(*sample));
  if (!sample) return -1;
  bpf_ringbuf_discard(sample, 0);
  return 0;
}

struct hold_request {
  __u32 stream;
  __u32 source;
  __u64 until_ns;
  __u64 discard;
};

static long wait_until(__u32 index, __u64 *until_ns) { return bpf_ktime_get_ns() >= *until_ns; }

// A record that takes its time between being reserved and being submitted; runs wherever it is
// called.
SEC("?syscall")
int hold(struct hold_request *request) {
  __u32 stream = request->stream, source = request->source;
  __u64 until_ns = request->until_ns, discard = request->discard;
  struct tally *tally = bpf_map_lookup_elem(&tallies, &source);
  struct sample *sample;

  if (!tally) return -1;
  sample = reserve(stream, source, sizeof(*sample));
  if (!sample) return -1;
  __sync_fetch_and_add(&tally->held, 1);
  bpf_loop(1 << 23, wait_until, &until_ns, 0);
  if (discard) {
    bpf_ringbuf_discard(sample, 0);
    return 0;
  }
  sample->sequence = tally->emitted++;
  sample->cpu = bpf_get_smp_processor_id();
  bpf_ringbuf_submit(sample, 0);
  return 0;
}

const volatile __u32 calls_source = 0;

// Attached to sys_enter: a sample for every system call there is, on all CPUs at once.
SEC("raw_tp")
int on_call(void *ctx) {
  __u32 source = calls_source;
  struct tally *tally = bpf_map_lookup_elem(&tallies, &source);
  struct sample *sample;

  if (!tally) return 0;
  sample = reserve(2, source, sizeof(*sample));
  if (!sample) {
    __sync_fetch_and_add(&tally->lost, 1);
    return 0;
  }
  sample->sequence = __sync_fetch_and_add(&tally->emitted, 1);
  sample->cpu = bpf_get_smp_processor_id();
  bpf_ringbuf_submit(sample, BPF_RB_NO_WAKEUP);
  return 0;
}
