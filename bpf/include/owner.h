/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: socket -> process. Socket-local storage, so that an entry goes away with its socket and a
 * lookup in a packet hook is one pointer chase; BPF_F_CLONE, so that a socket born of a listener in
 * softirq is known before anybody accepts it. Owns not: when a socket changes hands
 * (core/owner.bpf.c).
 */
#ifndef TREESNOOP_OWNER_H
#define TREESNOOP_OWNER_H

#include "target.h"

#define AF_INET 2
#define AF_INET6 10
#define OWNER_TIME_WAIT 6 /* include/net/tcp_states.h */
#define OWNER_NEW_SYN_RECV 12
#define MSG_PEEK 2 /* include/linux/socket.h */

struct socket_owner {
  __u64 cookie;       /* of the socket this entry was made for: a clone carries its listener's */
  __u64 rx_unclaimed; /* bytes that passed while nobody of the tree had touched the socket yet */
  __u64 tx_unclaimed;
  __u32 raw_link; /* link header of the last packet a raw socket was handed */
  __u32 process;  /* 0: not claimed, or outside */
  __u32 outside;  /* 1: a process outside the tree has used it last */
  __u32 listener; /* while nobody has touched it: who listens */
};

struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
  __type(key, int);
  __type(value, struct socket_owner);
} socket_owners SEC(".maps");

/* Unix, netlink and packet sockets send and receive as well; no packet of theirs has an owner. */
static __always_inline bool owner_is_inet(struct sock *sk) {
  __u16 family = sk ? sk->__sk_common.skc_family : 0;

  return family == AF_INET || family == AF_INET6;
}

/* The two short kinds of TCP's sockets (a handshake's, TIME_WAIT) have no storage. */
static __always_inline bool owner_is_full(struct sock *sk) {
  __u8 state = sk->__sk_common.skc_state;

  return state != OWNER_NEW_SYN_RECV && state != OWNER_TIME_WAIT;
}

/* A fresh clone belongs to nobody until a process of the tree touches it. */
static __always_inline struct socket_owner *owner_settle(struct socket_owner *owner, __u64 cookie) {
  if (owner && owner->cookie != cookie) {
    owner->cookie = cookie;
    owner->rx_unclaimed = 0;
    owner->tx_unclaimed = 0;
    owner->listener = owner->process;
    owner->process = 0;
    owner->outside = 0;
  }
  return owner;
}

/* Who holds the socket; of a connection nobody has touched yet, who listens. 0: nobody. */
static __always_inline __u32 owner_process(const struct socket_owner *owner) {
  if (!owner) return 0;
  return owner->process ? owner->process : owner->listener;
}

#endif
