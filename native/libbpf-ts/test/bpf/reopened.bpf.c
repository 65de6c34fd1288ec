// SPDX-License-Identifier: MIT
// Programs that are loaded one after the other and have to find the same maps, variables and
// constants.
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

const volatile bool careful = false;
const volatile __u32 step = 1;
__u64 runs;
__u64 total = 100;
__u32 apart SEC(".bss.apart");

// Longer than the 15 characters the kernel keeps of a name.
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 8);
  __type(key, __u32);
  __type(value, __u64);
} a_name_of_many_characters SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 8);
  __type(key, __u32);
  __type(value, __u64);
} late SEC(".maps");

struct inner {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, __u32);
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, 2);
  __type(key, __u32);
  __array(values, struct inner);
} nested SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, __u32);
} tails SEC(".maps");

static __always_inline __u64 *entry(void *map) {
  __u32 key = 7;
  __u64 zero = 0;

  bpf_map_update_elem(map, &key, &zero, BPF_NOEXIST);
  return bpf_map_lookup_elem(map, &key);
}

SEC("syscall")
int early(void *ctx) {
  __u64 *value = entry(&a_name_of_many_characters);

  __sync_fetch_and_add(&runs, 1);
  __sync_fetch_and_add(&total, step);
  __sync_fetch_and_add(&apart, 1);
  if (value) __sync_fetch_and_add(value, step);
  return step;
}

SEC("syscall")
int later(void *ctx) {
  __u64 *value = entry(&late);
  __u32 key = 0;

  if (value) __sync_fetch_and_add(value, step);
  return early(ctx) + !!bpf_map_lookup_elem(&nested, &key);
}

// Accepted only where the verifier knows that `careful` is set.
SEC("syscall")
int careless_or_not(void *ctx) {
  __u32 key = 7;
  __u64 *value = bpf_map_lookup_elem(&a_name_of_many_characters, &key);

  if (careful && !value) return -1;
  return *value;
}
