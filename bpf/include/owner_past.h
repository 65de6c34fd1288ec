/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: whose a connection was that is over. What TCP keeps of it for a minute (TIME_WAIT) has no
 * storage, but the socket's cookie. The oldest are forgotten first.
 */
#ifndef TREESNOOP_OWNER_PAST_H
#define TREESNOOP_OWNER_PAST_H

#include "drift.h"
#include "owner.h"

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 8192);
  __type(key, __u64); /* cookie */
  __type(value, __u32);
} past_owners SEC(".maps");

static __always_inline bool is_past(struct sock *sk) {
  return owner_is_inet(sk) && sk->__sk_common.skc_state == OWNER_TIME_WAIT;
}

/* 0: nobody's, as far as is known. */
static __always_inline __u32 past_owner(struct sock *sk) {
  __u64 cookie = sk->__sk_common.skc_cookie.counter;
  __u32 *process = bpf_map_lookup_elem(&past_owners, &cookie);

  return process ? *process : 0;
}

#endif
