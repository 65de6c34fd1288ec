/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Owns: when a connection's owner is noted for the time after its socket. */
#include <linux/in.h>

#include "owner_past.h"

#define OWNER_FIN_WAIT2 5 /* include/net/tcp_states.h */
#define OWNER_CLOSING 11

/* The states TIME_WAIT is entered from. */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(owner_pass, const struct sock *sk, int before, int state) {
  struct socket_owner *owner;
  __u64 cookie;
  __u32 process;

  if (state != OWNER_FIN_WAIT2 && state != OWNER_CLOSING) return 0;
  if (sk->sk_protocol != IPPROTO_TCP) return 0;
  owner = bpf_sk_storage_get(&socket_owners, (struct sock *)sk, NULL, 0);
  process = owner_process(owner);
  if (!process) return 0;
  cookie = bpf_get_socket_cookie((struct sock *)sk);
  bpf_map_update_elem(&past_owners, &cookie, &process, BPF_ANY);
  return 0;
}
