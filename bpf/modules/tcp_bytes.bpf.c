/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: when the counters the kernel keeps in every TCP socket are looked at: each tick, when a
 * connection passes to another process, and when it closes. Nothing runs per packet. Owns not: the
 * reckoning (tcp_bytes.h).
 *
 * Every connection met has an entry in a socket storage of its own, whose iterator walks the
 * sockets of all network namespaces; iter/tcp would see the monitor's alone.
 */
#include "tcp_bytes.h"

#define TCP_BYTES_CONNECTED                                                     \
  (1 << BPF_TCP_ESTABLISHED | 1 << BPF_TCP_FIN_WAIT1 | 1 << BPF_TCP_FIN_WAIT2 | \
   1 << BPF_TCP_CLOSE_WAIT | 1 << BPF_TCP_LAST_ACK | 1 << BPF_TCP_CLOSING)

/* Of a socket nobody has used yet: who created or closed it, or had it open at the start. */
static __always_inline __u32 tcp_bytes_owner(struct sock *sk) {
  struct socket_owner *owner = bpf_sk_storage_get(&socket_owners, sk, NULL, 0);

  return owner && owner->cookie == bpf_get_socket_cookie(sk) ? owner->process : 0;
}

/* `seen`: how far its counters were when it began to count. */
static __always_inline void tcp_bytes_meet(struct sock *sk, __u32 process, const __u64 *seen) {
  struct tcp_bytes_socket *own =
      bpf_sk_storage_get(&tcp_bytes_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);

  if (!own) {
    __sync_fetch_and_add(&tcp_bytes_lost, 1);
    return;
  }
  __builtin_memcpy(own->seen, seen, sizeof(own->seen));
  connection_of(&own->connection, sk);
  own->process = process;
  own->generation = tcp_bytes_generation;
  own->accounted = 0;
  own->id = !tcp_bytes_ip || own->connection.ip == tcp_bytes_ip
                ? __sync_fetch_and_add(&tcp_bytes_last_id, 1) + 1
                : 0;
}

static __always_inline struct tcp_bytes_socket *tcp_bytes_met(struct sock *sk) {
  struct tcp_bytes_socket *own = bpf_sk_storage_get(&tcp_bytes_sockets, sk, NULL, 0);

  return own && own->generation == tcp_bytes_generation ? own : NULL;
}

static __always_inline void tcp_bytes_look(struct sock *sk, struct tcp_sock *tcp,
                                           struct tcp_bytes_socket *own, bool last) {
  __u64 now[] = TCP_BYTES_NOW(tcp);

  if (!own->process) own->process = tcp_bytes_owner(sk);
  tcp_bytes_settle(own, now, last);
  if (last) own->id = 0;
}

static __always_inline bool tcp_bytes_connected(struct sock *sk) {
  return 1 << (sk->__sk_common.skc_state & 15) & TCP_BYTES_CONNECTED;
}

/* Not the tracepoint below: the kernel leaves that out where it would interrupt itself. */
SEC("sockops")
int tcp_bytes_established(struct bpf_sock_ops *ctx) {
  struct tcp_sock *tcp = ctx->sk ? bpf_skc_to_tcp_sock(ctx->sk) : NULL;
  const __u64 none[TCP_BYTES_COUNTERS] = {};

  if (!tcp || (ctx->op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB &&
               ctx->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB))
    return 1;
  if (host_mode || bpf_sk_storage_get(&socket_owners, tcp, NULL, 0))
    tcp_bytes_meet((struct sock *)tcp, 0, none);
  return 1;
}

/*
 * Counters stand still from then on (a TIME_WAIT has none), and where the program itself
 * disconnects it clears them after this. Where it is left out nothing does, and the next has them.
 */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_bytes_closed, struct sock *sk, int before, int state) {
  struct tcp_sock *tcp = state == BPF_TCP_CLOSE ? bpf_skc_to_tcp_sock(sk) : NULL;
  struct tcp_bytes_socket *own = tcp ? tcp_bytes_met(sk) : NULL;

  if (own) tcp_bytes_look(sk, tcp, own, own->process || tcp_bytes_owner(sk));
  return 0;
}

/* Closed by the peer before anybody had touched it: who accepted it has released it by now. */
SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(tcp_bytes_destroy, struct sock *sk) {
  struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
  struct tcp_bytes_socket *own = tcp_bytes_met(sk);

  if (tcp && own) tcp_bytes_look(sk, tcp, own, true);
  return 0;
}

/* Per call, not per packet. Another process than before: what moved until this call is not its own.
 */
static __always_inline int tcp_bytes_touch(struct sock *sk, bool sent, int length) {
  struct thread *thread = current_thread();
  __u32 process = thread ? thread->process : TCP_BYTES_NOBODY;
  struct tcp_bytes_socket *own = tcp_bytes_met(sk);
  struct tcp_sock *tcp;
  __s64 moved = length;

  if (own ? own->process == process || !own->id : !thread) return 0;
  tcp = bpf_skc_to_tcp_sock(sk);
  if (!tcp) return 0;
  __u64 now[] = TCP_BYTES_NOW(tcp);
  __u64 *counter = &now[sent ? TCP_BYTES_SENT : TCP_BYTES_RECEIVED];
  if (sent) moved -= tcp->write_seq - tcp->snd_nxt; /* the end of what was written waits */
  if (moved > 0) *counter -= (__u64)moved < *counter ? moved : *counter;
  if (own) {
    if (own->process) tcp_bytes_settle(own, now, false);
    own->process = process;
  } else if (tcp_bytes_connected(sk)) {
    tcp_bytes_meet(sk, process, now);
  }
  return 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(tcp_bytes_send, struct sock *sk, int length) {
  return tcp_bytes_touch(sk, true, length);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(tcp_bytes_receive, struct sock *sk, int length) {
  return tcp_bytes_touch(sk, false, length);
}

/* Over socket_owners at the start, to meet what is connected; over tcp_bytes_sockets each tick. */
SEC("iter/bpf_sk_storage_map")
int tcp_bytes_walk(struct bpf_iter__bpf_sk_storage_map *ctx) {
  struct sock *sk = ctx->sk;
  struct tcp_sock *tcp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;
  struct tcp_bytes_socket *own;

  if (!tcp) return 0;
  own = tcp_bytes_met(sk);
  if (own) {
    tcp_bytes_look(sk, tcp, own, tcp_bytes_stopping);
  } else if (tcp_bytes_connected(sk)) {
    const __u64 now[] = TCP_BYTES_NOW(tcp);

    tcp_bytes_meet(sk, tcp_bytes_owner(sk), now);
  }
  return 0;
}
