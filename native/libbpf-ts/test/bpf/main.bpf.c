// SPDX-License-Identifier: MIT
// One program or map of every kind the tests touch. The licence names GPL for the helpers' sake.
#include <linux/bpf.h>
#include <linux/types.h>
#include <linux/ptrace.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

enum colour { RED, GREEN = 5, BLUE };

struct point {
  __s32 x;
  __s32 y;
};

struct node {
  struct node *next;
  struct point at;
};

struct record {
  __u8 u8;
  __s8 s8;
  __u16 u16;
  __s16 s16;
  __u32 u32;
  __s32 s32;
  __u64 u64;
  __s64 s64;
  bool yes;
  char text[12];
  unsigned char bytes[4];
  __u16 numbers[3];
  struct point corners[2];
  enum colour colour;
  unsigned int low : 3;
  unsigned int middle : 11;
  int negative : 5;
  __u64 wide : 40;
  union {
    __u32 whole;
    struct {
      __u16 first;
      __u16 second;
    };
  };
  struct node *pointer;
  __u64 empty[0];
};

struct pair {
  __u32 a;
  __u32 b;
};

struct packet {
  __u32 sequence;
  __u32 cpu;
};

const volatile __u32 limit = 3;
const volatile bool enabled = false;
const volatile char label[8] = "default";
__u32 seed = 40;
__u64 counter;
__u64 neighbour;
struct record sample;
struct node list;
struct packet unused_packet;
__u32 watched_tgid;
__u64 forks, raw_hits, tracepoint_hits, samples, packets, returns, cookie_seen, last_cpu, arguments;

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 4096);
  __type(key, __u32);
  __type(value, __u64);
} counts SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 100000);
  __type(key, struct pair);
  __type(value, struct point);
} points SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 2);
  __type(key, __u32);
  __type(value, __u32);
} tiny SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 4);
  __type(key, __u32);
  __type(value, struct point);
} slots SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 3);
  __type(key, __u32);
  __type(value, __u32);
} per_cpu SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_HASH);
  __uint(max_entries, 64);
  __type(key, __u32);
  __type(
      value, struct {
        __u32 low;
        __u32 high;
        __u32 third;
      });
} per_cpu_hash SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(max_entries, 16);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(key_size, 8);
  __uint(value_size, 4);
} prefixes SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 64 * 1024);
} ring SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 4096);
} other_ring SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, __u32);
} not_wanted SEC(".maps");

static __always_inline void count(__u32 key) {
  __u64 one = 1, *value = bpf_map_lookup_elem(&counts, &key);
  if (value)
    __sync_fetch_and_add(value, 1);
  else
    bpf_map_update_elem(&counts, &key, &one, BPF_ANY);
}

struct emit_request {
  __u32 records;
  __u32 flags;
};

// Sends `records` packets to the first ring, every fourth one discarded instead, and one to the
// other.
SEC("syscall")
int emit(struct emit_request *request) {
  for (__u32 i = 0; i < 1024; i++) {
    if (i >= request->records) break;
    struct packet *packet = bpf_ringbuf_reserve(&ring, sizeof(*packet), 0);
    if (!packet) return -1;
    packet->sequence = i;
    packet->cpu = bpf_get_smp_processor_id();
    if (i % 4 == 3)
      bpf_ringbuf_discard(packet, request->flags);
    else
      bpf_ringbuf_submit(packet, request->flags);
  }
  __u32 odd[3] = {1, 2, 3};
  bpf_ringbuf_output(&other_ring, odd, 9, request->flags);
  return 0;
}

char big[20000];

SEC("syscall")
int emit_big(void *ctx) {
  big[0] = 'x';
  big[19999] = 'y';
  return bpf_ringbuf_output(&ring, big, sizeof(big), 0);
}

SEC("syscall")
int add_up(struct pair *pair) {
  counter += 1;
  if (enabled) return pair->a + pair->b + limit + label[0];
  return seed + limit;
}

SEC("raw_tp")
int on_cpu(struct bpf_raw_tracepoint_args *ctx) {
  last_cpu = bpf_get_smp_processor_id();
  arguments = ctx->args[0];
  return 0;
}

SEC("raw_tp")
int raw(void *ctx) {
  if (bpf_get_current_pid_tgid() >> 32 == watched_tgid) __sync_fetch_and_add(&raw_hits, 1);
  return 0;
}

SEC("tp_btf/sched_process_fork")
int fork_seen(__u64 *ctx) {
  if (bpf_get_current_pid_tgid() >> 32 == watched_tgid) __sync_fetch_and_add(&forks, 1);
  return 0;
}

SEC("tp/sched/sched_process_fork")
int fork_tracepoint(void *ctx) {
  if (bpf_get_current_pid_tgid() >> 32 == watched_tgid) __sync_fetch_and_add(&tracepoint_hits, 1);
  return 0;
}

SEC("uprobe")
int on_hit(struct pt_regs *ctx) {
  count(bpf_get_current_pid_tgid() >> 32);
  cookie_seen = bpf_get_attach_cookie(ctx);
  return 0;
}

SEC("uretprobe")
int on_return(struct pt_regs *ctx) {
  __sync_fetch_and_add(&returns, PT_REGS_RC(ctx));
  return 0;
}

SEC("perf_event")
int on_sample(void *ctx) {
  __sync_fetch_and_add(&samples, 1);
  return 0;
}

SEC("cgroup_skb/egress")
int on_packet(struct __sk_buff *skb) {
  __sync_fetch_and_add(&packets, 1);
  return 1;
}

struct task_struct {
  int pid;
  int tgid;
} __attribute__((preserve_access_index));

struct seq_file;

struct bpf_iter_meta {
  struct seq_file *seq;
} __attribute__((preserve_access_index));

struct bpf_iter__task {
  struct bpf_iter_meta *meta;
  struct task_struct *task;
} __attribute__((preserve_access_index));

SEC("iter/task")
int tasks(struct bpf_iter__task *ctx) {
  struct task_struct *task = ctx->task;
  if (!task) return 0;
  struct pair pair = {.a = task->tgid, .b = task->pid};
  bpf_seq_write(ctx->meta->seq, &pair, sizeof(pair));
  return 0;
}

SEC("?syscall")
int optional(void *ctx) {
  __u32 key = 0;
  return bpf_map_lookup_elem(&not_wanted, &key) != 0;
}
