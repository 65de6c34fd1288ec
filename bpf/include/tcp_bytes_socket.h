/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: which connection a TCP socket has now, and meeting one. Owns not: what is reckoned of it
 * (tcp_bytes.h), when one is met (modules/tcp_bytes.bpf.c).
 */
#ifndef TREESNOOP_TCP_BYTES_SOCKET_H
#define TREESNOOP_TCP_BYTES_SOCKET_H

#include "tcp_bytes.h"

struct tcp_bytes_socket {
  __u32 id; /* of its connection; 0: not wanted */
  __u32 generation;
  __u32 user; /* who used it last: mostly who uses it next, and then there is nothing to do */
};

struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct tcp_bytes_socket);
} tcp_bytes_sockets SEC(".maps");

__u32 tcp_bytes_ip = 0;         /* 4 or 6; 0: both */
__u32 tcp_bytes_generation = 0; /* counted up at each start: sockets met earlier are met anew */
__u32 tcp_bytes_last_id = 0;

/* Of a socket nobody has used yet: who created or closed it, or had it open at the start. */
static __always_inline __u32 tcp_bytes_owner(struct tcp_sock *sk, __u64 cookie) {
  struct socket_owner *owner = bpf_sk_storage_get(&socket_owners, sk, NULL, 0);

  return owner && owner->cookie == cookie ? owner->process : 0;
}

static __always_inline struct tcp_bytes_socket *tcp_bytes_met(void *sk) {
  struct tcp_bytes_socket *socket = bpf_sk_storage_get(&tcp_bytes_sockets, sk, NULL, 0);

  return socket && socket->generation == tcp_bytes_generation ? socket : NULL;
}

/* NULL: not met, not wanted, or over. */
static __always_inline struct tcp_bytes_connection *tcp_bytes_of(struct tcp_bytes_socket *socket) {
  struct tcp_bytes_connection *own =
      socket ? bpf_map_lookup_elem(&tcp_bytes_connections, &socket->id) : NULL;

  return own && !own->closed ? own : NULL;
}

/* `seen`: how far its counters were when it began to count. */
static __always_inline void tcp_bytes_meet(struct tcp_sock *sk, __u64 cookie, __u32 process,
                                           const __u64 *seen) {
  struct tcp_bytes_connection *before, own = {.sk = sk, .cookie = cookie, .process = process};
  struct tcp_bytes_socket *socket =
      bpf_sk_storage_get(&tcp_bytes_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
  __u32 id;

  if (!socket) goto lost;
  /* The end of the connection it had before was not told: the kernel had left our program out. */
  before = tcp_bytes_of(tcp_bytes_met(sk));
  if (before) before->closed = 1;
  socket->generation = tcp_bytes_generation;
  socket->id = 0;
  socket->user = process;
  connection_of(&own.ends, (struct sock *)sk);
  if (tcp_bytes_ip && own.ends.ip != tcp_bytes_ip) return;
  __builtin_memcpy(own.seen, seen, sizeof(own.seen));
  id = __sync_fetch_and_add(&tcp_bytes_last_id, 1) + 1;
  if (bpf_map_update_elem(&tcp_bytes_connections, &id, &own, BPF_NOEXIST)) goto lost;
  socket->id = id;
  if (!before) return;
lost:
  __sync_fetch_and_add(&tcp_bytes_lost, 1);
}

#endif
