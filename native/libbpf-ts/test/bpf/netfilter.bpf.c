// SPDX-License-Identifier: MIT
// Counts packets by network namespace, family and hook.
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
  unsigned int inum;
};

struct net {
  struct ns_common ns;
};

struct nf_hook_state {
  __u8 hook;
  __u8 pf;
  struct net *net;
};

struct sk_buff {
  unsigned int len;
};

struct bpf_nf_ctx {
  const struct nf_hook_state *state;
  struct sk_buff *skb;
};

#pragma clang attribute pop

struct place {
  __u32 space;
  __u16 family;
  __u16 hook;
};

struct seen {
  __u64 packets;
  __u64 bytes; /* from the IP header on */
};

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 4096);
  __type(key, struct place);
  __type(value, struct seen);
} seen SEC(".maps");

SEC("netfilter")
int count_packets(struct bpf_nf_ctx *ctx) {
  const struct nf_hook_state *state = ctx->state;
  struct place place = {.space = state->net->ns.inum, .family = state->pf, .hook = state->hook};
  struct seen none = {}, *at;

  bpf_map_update_elem(&seen, &place, &none, BPF_NOEXIST);
  at = bpf_map_lookup_elem(&seen, &place);
  if (at) {
    __sync_fetch_and_add(&at->packets, 1);
    __sync_fetch_and_add(&at->bytes, ctx->skb->len);
  }
  return 1; /* NF_ACCEPT */
}

SEC("?netfilter")
int optional(struct bpf_nf_ctx *ctx) { return 1; }
