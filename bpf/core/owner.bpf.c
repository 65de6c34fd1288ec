/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: when a socket gets an owner. At creation; when it is connected; with each send and receive
 * (which covers accepted, inherited and passed sockets, by whatever call they are used); at close;
 * and, for sockets older than the run, by one walk over the open files. Always in the context of
 * the process itself.
 */
#include "owner.h"

__u64 owner_lost = 0; /* sockets that could not be given an owner: no memory for the entry */

static __always_inline void owner_give(struct socket_owner *owner, __u64 cookie, __u32 process) {
  if (!owner) {
    __sync_fetch_and_add(&owner_lost, 1);
    return;
  }
  owner_settle(owner, cookie);
  owner->process = process;
  owner->listener = 0;
  owner->outside = !process;
  if (process) return;
  owner->rx_unclaimed = 0;
  owner->tx_unclaimed = 0;
}

SEC("cgroup/sock_create")
int owner_create(struct bpf_sock *sk) {
  struct thread *thread = current_thread();

  if (thread)
    owner_give(bpf_sk_storage_get(&socket_owners, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE),
               bpf_get_socket_cookie(sk), thread->process);
  return 1;
}

SEC("cgroup/sock_release")
int owner_release(struct bpf_sock *sk) {
  struct thread *thread = current_thread();
  struct socket_owner *owner = bpf_sk_storage_get(&socket_owners, sk, NULL, 0);

  if (thread && owner && owner_settle(owner, bpf_get_socket_cookie(sk)) && !owner->process &&
      !owner->outside)
    owner->process = thread->process;
  return 1;
}

/* A handshake is sent before connect() returns, and nothing may follow it. */
static __always_inline int owner_connect(struct bpf_sock_addr *ctx) {
  struct thread *thread = current_thread();
  struct bpf_sock *sk = ctx->sk;
  struct socket_owner *owner;

  if (!sk) return 1;
  owner = bpf_sk_storage_get(&socket_owners, sk, NULL, thread ? BPF_SK_STORAGE_GET_F_CREATE : 0);
  if (owner || thread) owner_give(owner, bpf_get_socket_cookie(ctx), thread ? thread->process : 0);
  return 1;
}

SEC("cgroup/connect4")
int owner_connect4(struct bpf_sock_addr *ctx) { return owner_connect(ctx); }

SEC("cgroup/connect6")
int owner_connect6(struct bpf_sock_addr *ctx) { return owner_connect(ctx); }

/*
 * A process outside the tree that uses the socket takes it out of the account as well. Mostly
 * nothing has changed since the last call; then nothing is written, and no helper asked for the
 * cookie.
 */
static __always_inline int owner_touch(struct sock *sk) {
  struct thread *thread = current_thread();
  __u32 process = thread ? thread->process : 0;
  struct socket_owner *owner;

  if (!owner_is_inet(sk)) return 0;
  owner = bpf_sk_storage_get(&socket_owners, sk, NULL, thread ? BPF_SK_STORAGE_GET_F_CREATE : 0);
  if (!owner && !thread) return 0;
  if (owner && owner->process == process && (process || owner->outside) &&
      owner->cookie == (__u64)sk->__sk_common.skc_cookie.counter)
    return 0;
  owner_give(owner, bpf_get_socket_cookie(sk), process);
  return 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(owner_send, struct sock *sk) { return owner_touch(sk); }

SEC("tp_btf/sock_recv_length")
int BPF_PROG(owner_receive, struct sock *sk) { return owner_touch(sk); }

SEC("iter/task_file")
int owner_walk(struct bpf_iter__task_file *ctx) {
  struct task_struct *task = ctx->task;
  struct file *file = ctx->file;
  struct socket *socket;
  struct thread *thread;
  struct sock *sk;

  if (!task || !file) return 0;
  thread = thread_of(task);
  if (!thread) return 0;
  socket = bpf_sock_from_file(file);
  if (!socket) return 0;
  sk = socket->sk;
  if (!owner_is_inet(sk)) return 0;
  owner_give(bpf_sk_storage_get(&socket_owners, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE),
             bpf_get_socket_cookie(sk), thread->process);
  return 0;
}
