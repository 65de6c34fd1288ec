/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: what is noted of a TCP connection until its record is made, which connections are wanted,
 * and making the record. Owns not: when that is (modules/tcp_connection.bpf.c).
 */
#ifndef TREESNOOP_TCP_CONNECTION_H
#define TREESNOOP_TCP_CONNECTION_H

#include "connection.h"
#include "tree.h"

enum tcp_connection_direction { TCP_CONNECTION_CONNECT = 1, TCP_CONNECTION_ACCEPT = 2 };

struct tcp_connection_event {
  struct event event;
  struct connection connection;
  __u8 direction;
};

EVENT_RECORD(tcp_connection_event);

/* Addresses are kept since a reset takes them off the socket. */
struct tcp_connection_socket {
  struct connection connection;
  __u32 run;     /* which time the module was on */
  __u32 process; /* who connects; who listens */
  __u32 waits;   /* enum tcp_connection_direction, until it is told; 0: nothing to tell */
};

struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct tcp_connection_socket);
} tcp_connection_sockets SEC(".maps");

const volatile __u32 tcp_connection_stream = 0;
__u64 tcp_connection_ports[65536 / 64] = {}; /* one of the two must have its bit set */
__u32 tcp_connection_only = 0;               /* a direction, or 0 for both */
__u32 tcp_connection_ip = 0;                 /* 4, 6, or 0 for both */
__u32 tcp_connection_run = 0;
__u64 tcp_connection_lost = 0; /* no memory to note it, or its process had ended by then */
/* Accepted connections not told yet; while there is none, touching is free. */
__s64 tcp_connection_waiting = 0;
/* Of those, the ones that would have a row by their listener. */
__s64 tcp_connection_queued = 0;

static __always_inline bool tcp_connection_port(__u16 port) {
  return tcp_connection_ports[port / 64] >> (port % 64) & 1;
}

static __always_inline bool tcp_connection_wanted(struct connection *connection) {
  if (!connection->ip || (tcp_connection_ip && tcp_connection_ip != connection->ip)) return false;
  return tcp_connection_port(connection->sport) || tcp_connection_port(connection->dport);
}

static __always_inline void tcp_connection_tell(struct connection *connection, __u8 direction,
                                                __u32 id) {
  __u64 ns = bpf_ktime_get_ns();
  __u32 living = living_process(id);
  struct tcp_connection_event *event;

  if (!host_mode && id && !living) __sync_fetch_and_add(&tcp_connection_lost, 1);
  id = living;
  if (!id && !host_mode) return;
  event = event_reserve(tcp_connection_stream, id, ns, sizeof(*event));
  if (!event) return;
  event->connection = *connection;
  event->direction = direction;
  event_submit(event, sizeof(*event));
}

static __always_inline struct tcp_connection_socket *tcp_connection_note(struct sock *sk) {
  struct tcp_connection_socket *socket =
      bpf_sk_storage_get(&tcp_connection_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);

  if (!socket) __sync_fetch_and_add(&tcp_connection_lost, 1);
  return socket;
}

static __always_inline __u32 tcp_connection_owner(struct sock *sk) {
  return owner_process(bpf_sk_storage_get(&socket_owners, sk, NULL, 0));
}

#endif
