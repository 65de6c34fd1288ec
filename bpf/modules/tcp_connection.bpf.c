/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: a record for each TCP connection that is established, named after the process that
 * connected or accepted.
 *
 * The handshake ends in softirq, on whatever task that interrupts. So the one who connects is noted
 * when it does, and its record made when the handshake ends; the record of an accepted connection
 * waits, with the socket, for the first process that touches it: accept() itself where it asks for
 * the peer's address, else the first send, receive or close. That costs nothing per system call.
 */
#include "tcp_connection.h"

/* An accepted connection: whoever comes first takes it. */
static __always_inline void tcp_connection_take(struct tcp_connection_socket *socket, __u32 id) {
  if (!socket || socket->run != tcp_connection_run) return;
  if (__sync_val_compare_and_swap(&socket->waits, TCP_CONNECTION_ACCEPT, 0) !=
      TCP_CONNECTION_ACCEPT)
    return;
  __sync_fetch_and_sub(&tcp_connection_waiting, 1);
  if (socket->process || host_mode) __sync_fetch_and_sub(&tcp_connection_queued, 1);
  tcp_connection_tell(&socket->connection, TCP_CONNECTION_ACCEPT, id);
}

/* Kernel threads close what processes left behind; such a connection goes by its listener. */
static __always_inline void tcp_connection_touch(struct tcp_connection_socket *socket) {
  struct task_struct *task = bpf_get_current_task_btf();
  struct thread *thread = thread_of(task);

  if (thread || !(task->flags & PF_KTHREAD))
    tcp_connection_take(socket, thread ? thread->process : 0);
}

static __always_inline void tcp_connection_connecting(struct sock *sk) {
  struct thread *thread = current_thread();
  struct tcp_connection_socket *socket;

  if (tcp_connection_only == TCP_CONNECTION_ACCEPT) return;
  /* Connected before, and cut off since: its last chance. */
  if (tcp_connection_waiting)
    tcp_connection_touch(bpf_sk_storage_get(&tcp_connection_sockets, sk, NULL, 0));
  socket = thread || host_mode ? tcp_connection_note(sk) : NULL;
  if (!socket) return;
  socket->run = tcp_connection_run;
  socket->process = thread ? thread->process : 0;
  socket->waits = TCP_CONNECTION_CONNECT;
}

static __always_inline void tcp_connection_established(struct sock *sk, bool active) {
  struct tcp_connection_socket *socket;
  struct connection connection;

  connection_of(&connection, sk);
  if (!tcp_connection_wanted(&connection)) return;
  socket = bpf_sk_storage_get(&tcp_connection_sockets, sk, NULL, 0);
  /* Noted by who connects, also where both ends did, which makes them passive. */
  if (socket && socket->run == tcp_connection_run && socket->waits == TCP_CONNECTION_CONNECT) {
    socket->waits = 0;
    tcp_connection_tell(&connection, TCP_CONNECTION_CONNECT, socket->process);
  } else if (active) { /* begun before the run */
    if (tcp_connection_only != TCP_CONNECTION_ACCEPT)
      tcp_connection_tell(&connection, TCP_CONNECTION_CONNECT, tcp_connection_owner(sk));
  } else if (tcp_connection_only != TCP_CONNECTION_CONNECT) {
    socket = tcp_connection_note(sk);
    if (!socket) return;
    socket->connection = connection;
    socket->run = tcp_connection_run;
    socket->process = tcp_connection_owner(sk);
    __sync_fetch_and_add(&tcp_connection_waiting, 1);
    if (socket->process || host_mode) __sync_fetch_and_add(&tcp_connection_queued, 1);
    socket->waits = TCP_CONNECTION_ACCEPT;
  }
}

/*
 * Not tp_btf/inet_sock_set_state: the kernel leaves out a tracing program where it would interrupt
 * itself, and a handshake can end in an interrupt of connect().
 */
SEC("sockops")
int tcp_connection_ops(struct bpf_sock_ops *ctx) {
  struct tcp_sock *tcp = ctx->sk ? bpf_skc_to_tcp_sock(ctx->sk) : NULL;
  __u32 op = ctx->op;

  if (!tcp) return 1;
  if (op == BPF_SOCK_OPS_TCP_CONNECT_CB)
    tcp_connection_connecting((struct sock *)tcp);
  else if (op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB || op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
    tcp_connection_established((struct sock *)tcp, op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB);
  return 1;
}

/* accept() with an address to fill in, and getpeername(): in the caller's context. */
static __always_inline int tcp_connection_peername(struct bpf_sock_addr *ctx) {
  struct bpf_sock *sk = ctx->sk;

  if (tcp_connection_waiting && sk)
    tcp_connection_touch(bpf_sk_storage_get(&tcp_connection_sockets, sk, NULL, 0));
  return 1;
}

SEC("cgroup/getpeername4")
int tcp_connection_peername4(struct bpf_sock_addr *ctx) { return tcp_connection_peername(ctx); }

SEC("cgroup/getpeername6")
int tcp_connection_peername6(struct bpf_sock_addr *ctx) { return tcp_connection_peername(ctx); }

static __always_inline int tcp_connection_used(struct sock *sk) {
  if (tcp_connection_waiting && owner_is_inet(sk))
    tcp_connection_touch(bpf_sk_storage_get(&tcp_connection_sockets, sk, NULL, 0));
  return 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(tcp_connection_send, struct sock *sk) { return tcp_connection_used(sk); }

SEC("tp_btf/sock_recv_length")
int BPF_PROG(tcp_connection_receive, struct sock *sk) { return tcp_connection_used(sk); }

SEC("cgroup/sock_release")
int tcp_connection_release(struct bpf_sock *sk) {
  if (tcp_connection_waiting)
    tcp_connection_touch(bpf_sk_storage_get(&tcp_connection_sockets, sk, NULL, 0));
  return 1;
}

/* Nobody ever accepted it, or a kernel thread closed it. */
SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(tcp_connection_destroy, struct sock *sk) {
  struct tcp_connection_socket *socket;

  if (!tcp_connection_waiting) return 0;
  socket = bpf_sk_storage_get(&tcp_connection_sockets, sk, NULL, 0);
  if (socket) tcp_connection_take(socket, socket->process);
  return 0;
}

/* At the end: what is accepted and was not touched goes to who holds it. */
SEC("iter/task_file")
int tcp_connection_walk(struct bpf_iter__task_file *ctx) {
  struct task_struct *task = ctx->task;
  struct file *file = ctx->file;
  struct thread *thread = task ? thread_of(task) : NULL;
  struct socket *socket = thread && file ? bpf_sock_from_file(file) : NULL;
  struct sock *sk = socket ? socket->sk : NULL;

  if (thread && owner_is_inet(sk))
    tcp_connection_take(bpf_sk_storage_get(&tcp_connection_sockets, sk, NULL, 0), thread->process);
  return 0;
}
