/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: the two ends of a socket, in one form for every table: network byte order gone, IPv4 told
 * from IPv6, and an IPv6 socket that talks IPv4 shown as what it talks.
 */
#ifndef TREESNOOP_CONNECTION_H
#define TREESNOOP_CONNECTION_H

#include <bpf/bpf_endian.h>
#include "owner.h"

struct connection {
  union {
    __u8 saddr4[4];
    __u8 saddr6[16];
  };
  union {
    __u8 daddr4[4];
    __u8 daddr6[16];
  };
  __u16 sport, dport;
  __u8 ip; /* 4 or 6; 0: neither */
};

struct inet_sock {
  unsigned short inet_sport; /* network byte order */
} __attribute__((preserve_access_index));

/* The first twelve bytes of ::ffff:a.b.c.d */
static __always_inline bool is_v4_mapped(const __u32 *address) {
  return !address[0] && !address[1] && address[2] == bpf_htonl(0xffff);
}

/* `sk` is a full socket; saddr is the local end. */
static __always_inline void connection_of(struct connection *connection, struct sock *sk) {
  struct sock_common *common = &sk->__sk_common;
  __u16 family = common->skc_family;
  __u32 local[4] = {}, remote[4] = {};

  __builtin_memset(connection, 0, sizeof(*connection));
  connection->sport = common->skc_num;
  /* Given back already, where a connection is aborted; its reset comes after that. */
  if (!connection->sport)
    connection->sport = bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
  connection->dport = bpf_ntohs(common->skc_dport);
  if (family == AF_INET6) {
    __builtin_memcpy(local, &common->skc_v6_rcv_saddr, sizeof(local));
    __builtin_memcpy(remote, &common->skc_v6_daddr, sizeof(remote));
    if (!is_v4_mapped(remote)) {
      connection->ip = 6;
      __builtin_memcpy(connection->saddr6, local, sizeof(local));
      __builtin_memcpy(connection->daddr6, remote, sizeof(remote));
      return;
    }
  } else if (family != AF_INET) {
    return;
  }
  connection->ip = 4;
  __builtin_memcpy(connection->saddr4, &common->skc_rcv_saddr, 4);
  __builtin_memcpy(connection->daddr4, &common->skc_daddr, 4);
}

#endif
