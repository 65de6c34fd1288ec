/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: when the counters the kernel keeps in every TCP socket are looked at: each tick, when a
 * connection passes to another process, and when it closes. Nothing runs per packet. Owns not: the
 * reckoning (tcp_bytes.h).
 *
 * Every connection met has an entry in a table of our own, which the tick walks: iter/tcp would see
 * the monitor's network namespace alone, and iter/bpf_sk_storage_map, which sees all, can write to
 * what it walks, for which some locked-down kernels refuse it.
 */
#include "tcp_bytes_socket.h"

#define TCP_BYTES_CONNECTED                                                     \
  (1 << BPF_TCP_ESTABLISHED | 1 << BPF_TCP_FIN_WAIT1 | 1 << BPF_TCP_FIN_WAIT2 | \
   1 << BPF_TCP_CLOSE_WAIT | 1 << BPF_TCP_LAST_ACK | 1 << BPF_TCP_CLOSING)

static __always_inline bool tcp_bytes_connected(struct sock *sk) {
  return 1 << (sk->__sk_common.skc_state & 15) & TCP_BYTES_CONNECTED;
}

/* Not the tracepoint below: the kernel leaves that out where it would interrupt itself. */
SEC("sockops")
int tcp_bytes_established(struct bpf_sock_ops *ctx) {
  struct tcp_sock *tcp = ctx->sk ? bpf_skc_to_tcp_sock(ctx->sk) : NULL;
  const __u64 none[TCP_BYTES_COUNTERS] = {};
  __u64 cookie;

  if (!tcp || (ctx->op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB &&
               ctx->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB))
    return 1;
  cookie = bpf_get_socket_cookie(ctx);
  if (host_mode || bpf_sk_storage_get(&socket_owners, tcp, NULL, 0))
    tcp_bytes_meet(tcp, cookie, tcp_bytes_owner(tcp, cookie), none);
  return 1;
}

static __always_inline void tcp_bytes_end(struct sock *sk, bool certainly) {
  struct tcp_bytes_socket *socket = tcp_bytes_met(sk);
  struct tcp_bytes_connection *own = tcp_bytes_of(socket);
  struct tcp_sock *tcp = own ? bpf_skc_to_tcp_sock(sk) : NULL;

  if (!socket || !own || !tcp) return;
  __u64 now[] = TCP_BYTES_NOW(tcp);
  tcp_bytes_settle(own, socket->id, now, certainly || own->process);
  if (certainly || own->process) own->closed = 1;
}

/*
 * In the closed state counters stand still (a TIME_WAIT has none), and where the program itself
 * disconnects it clears them after this. Where it is left out nothing does, and the next has them.
 */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_bytes_closed, struct sock *sk, int before, int state) {
  struct tcp_bytes_connection *own = tcp_bytes_of(tcp_bytes_met(sk));
  struct tcp_sock *tcp = own && !own->process ? bpf_skc_to_tcp_sock(sk) : NULL;

  /* Closed by who had not touched it: owner_release has noted who that is. */
  if (own && tcp) own->process = tcp_bytes_owner(tcp, own->cookie);
  if (own && state == BPF_TCP_CLOSE) tcp_bytes_end(sk, false);
  return 0;
}

/* Closed by the peer before anybody had touched it: who accepted it has released it by now. */
SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(tcp_bytes_destroy, struct sock *sk) {
  tcp_bytes_end(sk, true);
  return 0;
}

/* Per call, not per packet. Another process than before: what moved until this call is not its own.
 */
static __always_inline int tcp_bytes_touch(struct sock *sk, bool sent, int length) {
  struct thread *thread = current_thread();
  __u32 process = thread ? thread->process : TCP_BYTES_NOBODY;
  struct tcp_bytes_socket *socket = tcp_bytes_met(sk);
  struct tcp_bytes_connection *own;
  struct tcp_sock *tcp;
  __s64 moved = length;

  if (socket ? socket->user == process : !thread) return 0;
  if (socket) socket->user = process;
  own = tcp_bytes_of(socket);
  if (socket && (!own || own->process == process)) return 0;
  tcp = bpf_skc_to_tcp_sock(sk);
  if (!tcp) return 0;
  __u64 now[] = TCP_BYTES_NOW(tcp);
  __u64 *counter = &now[sent ? TCP_BYTES_SENT : TCP_BYTES_RECEIVED];
  if (sent) moved -= tcp->write_seq - tcp->snd_nxt; /* the end of what was written waits */
  if (moved > 0) *counter -= (__u64)moved < *counter ? moved : *counter;
  if (socket && own) {
    if (own->process) tcp_bytes_settle(own, socket->id, now, false);
    own->process = process;
  } else if (tcp_bytes_connected(sk)) {
    tcp_bytes_meet(tcp, bpf_get_socket_cookie(sk), process, now);
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

/* At the start: what is connected already counts from now on. */
SEC("iter/task_file")
int tcp_bytes_open(struct bpf_iter__task_file *ctx) {
  struct task_struct *task = ctx->task;
  struct file *file = ctx->file;
  struct socket *socket = task && file && thread_of(task) ? bpf_sock_from_file(file) : NULL;
  struct sock *sk = socket ? socket->sk : NULL;
  struct tcp_sock *tcp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;
  __u64 cookie;

  if (!tcp || !tcp_bytes_connected(sk) || tcp_bytes_met(sk)) return 0;
  const __u64 now[] = TCP_BYTES_NOW(tcp);
  cookie = bpf_get_socket_cookie(sk);
  tcp_bytes_meet(tcp, cookie, tcp_bytes_owner(tcp, cookie), now);
  return 0;
}

static long tcp_bytes_look(struct bpf_map *map, __u32 *id, struct tcp_bytes_connection *own,
                           void *context) {
  struct tcp_sock *tcp = own->sk;
  __u64 now[TCP_BYTES_COUNTERS];

  if (own->closed) {
    bpf_map_delete_elem(map, id);
    return 0;
  }
  now[TCP_BYTES_RECEIVED] = BPF_CORE_READ(tcp, bytes_received);
  now[TCP_BYTES_SENT] = BPF_CORE_READ(tcp, bytes_sent);
  now[TCP_BYTES_ACKED] = BPF_CORE_READ(tcp, bytes_acked);
  now[TCP_BYTES_RETRANSMITTED] = BPF_CORE_READ(tcp, bytes_retrans);
  /* Asked last: the memory of TCP's sockets is used for others like it, each with its own cookie.
   */
  if (BPF_CORE_READ((struct sock *)tcp, __sk_common.skc_cookie.counter) == own->cookie) {
    tcp_bytes_settle(own, *id, now, tcp_bytes_stopping);
    own->closed |= tcp_bytes_stopping;
  } else if (!own->closed) { /* its end was not told */
    own->closed = 1;
    __sync_fetch_and_add(&tcp_bytes_lost, 1);
  }
  return 0;
}

/* Run by the monitor each tick. */
SEC("raw_tp")
int tcp_bytes_walk(void *ctx) {
  bpf_for_each_map_elem(&tcp_bytes_connections, tcp_bytes_look, NULL, 0);
  return 0;
}
