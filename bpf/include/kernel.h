/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: the few kernel types treesnoop reads, by name. CO-RE relocates every field at load, so
 * order and size here mean nothing; a field the running kernel lacks is only an error where it is
 * read. Owns not: differences between kernels (drift.h).
 */
#ifndef TREESNOOP_KERNEL_H
#define TREESNOOP_KERNEL_H

#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#define TASK_COMM_LEN 16
#define TASK_DEAD 0x80          /* include/linux/sched.h: set once, before the last switch away */
#define PF_KTHREAD 0x200000     /* include/linux/sched.h */
#define CLONE_VM 0x100          /* include/uapi/linux/sched.h */
#define CLONE_THREAD 0x10000    /* include/uapi/linux/sched.h */
#define CLONE_NEWNET 0x40000000 /* include/uapi/linux/sched.h */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* Numbers differ between kernels: bpf_core_enum_value(). */
enum skb_drop_reason {
  SKB_DROP_REASON_NOT_SPECIFIED = 2,
  SKB_DROP_REASON_QUEUE_PURGE = 3,
};

struct ns_common {
  unsigned int inum;
};

struct pid_namespace {
  struct ns_common ns;
  unsigned int level;
};

struct upid {
  int nr;
  struct pid_namespace *ns;
};

struct pid {
  unsigned int level;
  struct upid numbers[1];
};

struct sched_info {
  unsigned long long run_delay;
};

struct net {
  struct ns_common ns;
};

struct nsproxy {
  struct net *net_ns;
};

struct mm_struct;

struct sched_entity {
  unsigned long long sum_exec_runtime;
};

struct signal_struct {
  unsigned long long sum_sched_runtime; /* of threads that are gone */
};

struct thread_info {
  unsigned int status; /* x86: TS_COMPAT and friends */
};

struct task_struct {
  struct thread_info thread_info;
  unsigned int __state;
  unsigned int flags;
  unsigned long nvcsw, nivcsw;
  int exit_state;
  int exit_code;
  int pid;
  int tgid;
  struct task_struct *real_parent;
  struct task_struct *group_leader;
  struct mm_struct *mm;
  struct signal_struct *signal;
  struct sched_entity se;
  struct pid *thread_pid;
  struct nsproxy *nsproxy;
  char comm[TASK_COMM_LEN];
  struct sched_info sched_info;
};

typedef struct {
  struct net *net;
} possible_net_t;

struct rtnl_link_ops {
  const char *kind; /* as `ip -d link` shows it: "veth", "bridge" */
};

struct device_driver {
  const char *name;
};

struct device {
  struct device *parent;
  struct device_driver *driver;
};

struct net_device {
  char name[16]; /* what is behind the NUL is left over from earlier names */
  int ifindex;
  unsigned long priv_flags : 32;
  unsigned short hard_header_len;
  unsigned short type;
  unsigned int mtu;
  possible_net_t nd_net;
  const struct rtnl_link_ops *rtnl_link_ops; /* of software devices */
  struct device dev;                         /* its parent is the hardware, or what passes for it */
};

struct sock;

struct sk_buff {
  struct sock *sk; /* sent: whose it is; received: mostly not known before the transport layer */
  struct net_device *dev;
  char cb[48];
  int skb_iif;           /* interface it was received on; 0 on its way out */
  unsigned int len;      /* from data on */
  unsigned int data_len; /* of that, in fragments */
  unsigned char *head, *data;
  unsigned int end, tail;        /* these and the headers: offsets from head */
  unsigned short mac_header;     /* 0xffff, as of the others: never set */
  unsigned short network_header; /* until IP has looked: equal to the next */
  unsigned short transport_header, inner_transport_header;
  unsigned short protocol;      /* network byte order */
  unsigned short queue_mapping; /* sent: the queue; received: the queue + 1, or 0 */
  unsigned char encapsulation : 1;
};

struct skb_shared_info {
  unsigned short gso_size; /* 0: not a super-packet */
  unsigned short gso_segs;
  unsigned int gso_type;
};

/* For its members: the arguments of the tracepoint follow them (drift.h). */
struct trace_event_raw_kfree_skb {
  void *rx_sk;
};

struct trace_event_raw_tcp_retransmit_skb {
  int err; /* 6.17, its third argument */
};

/* What the IP layers keep in sk_buff.cb, and UDP leaves there. */
struct inet_skb_parm {
  unsigned short frag_max_size;
};

struct inet6_skb_parm {
  unsigned short frag_max_size;
};

struct tcp_skb_cb {
  unsigned short tcp_gso_segs; /* sent: segments it goes out as */
};

struct in6_addr {
  unsigned char bytes[16];
};

struct ipv6hdr {
  unsigned char nexthdr;
  struct in6_addr saddr, daddr;
};

struct sock_common {
  unsigned int skc_daddr;
  unsigned int skc_rcv_saddr;
  unsigned short skc_dport; /* network byte order; skc_num is the host's */
  unsigned short skc_num;
  unsigned short skc_family;
  volatile unsigned char skc_state;
  struct in6_addr skc_v6_daddr;
  struct in6_addr skc_v6_rcv_saddr;
  struct {
    long long counter;
  } skc_cookie; /* never given twice; 0: nobody has asked for it yet */
};

typedef struct {
  int owned; /* a process is in the middle of a call on the socket */
} socket_lock_t;

struct sk_buff_head {
  struct sk_buff *next; /* the head itself when the queue is empty */
  unsigned int qlen;
};

struct sock {
  struct sock_common __sk_common;
  socket_lock_t sk_lock;
  unsigned short sk_type;
  unsigned short sk_protocol;
  unsigned char sk_shutdown;
  struct sk_buff_head sk_receive_queue;
};

struct udp_sock {
  struct sk_buff_head reader_queue; /* read before sk_receive_queue, and filled from it */
};

struct tcp_sock {
  unsigned long long bytes_received; /* these four as `ss -i` shows them */
  unsigned long long bytes_sent;
  unsigned long long bytes_acked;
  unsigned long long bytes_retrans;
  /* Sequence numbers: bytes of the stream, modulo 2^32. */
  unsigned int copied_seq; /* first not read yet */
  unsigned int write_seq;  /* first not written yet */
  unsigned int snd_nxt;    /* first not sent yet */
};

struct file;

struct socket {
  struct sock *sk;
};

struct nf_hook_state {
  unsigned char hook;
};

struct bpf_nf_ctx {
  const struct nf_hook_state *state;
  struct sk_buff *skb;
};

struct seq_file;

struct bpf_iter_meta {
  struct seq_file *seq;
  unsigned long long session_id;
  unsigned long long seq_num;
};

struct bpf_iter__task {
  struct bpf_iter_meta *meta;
  struct task_struct *task;
};

struct bpf_iter__task_file {
  struct bpf_iter_meta *meta;
  struct task_struct *task;
  unsigned int fd;
  struct file *file;
};

struct bpf_map;

#pragma clang attribute pop

extern void *bpf_cast_to_kern_ctx(void *) __ksym __weak; /* these: 6.2 */
extern void *bpf_rdonly_cast(const void *, __u32)
__ksym __weak;

/* `pointer` as one to a kernel type, read as the arguments of a tracepoint are: without a call. */
#define kernel_type(type, pointer) \
  ((struct type *)bpf_rdonly_cast(pointer, bpf_core_type_id_kernel(struct type)))

#endif
