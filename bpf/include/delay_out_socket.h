/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Owns: what delay_out remembers of a TCP socket: when a program wrote which part of the stream,
 * and which packets may be cut on their way. Owns not: the packets (delay_out.h).
 */
#ifndef TREESNOOP_DELAY_OUT_SOCKET_H
#define TREESNOOP_DELAY_OUT_SOCKET_H

#include "delay.h"

#define DELAY_OUT_WRITES 128 /* per socket; a power of two */
#define DELAY_OUT_SUPERS 32  /* likewise */

struct delay_out_write {
  __u64 ns;
  __u32 seq; /* where it begins */
};

/* A packet that may be cut into segments behind the device's queue, if the device does not do that.
 */
struct delay_out_super {
  __u64 transport_ns, network_ns;
  __u64 gone; /* a bit for each piece that has left the queue, to the driver or for good */
  __u32 seq, length;
  __u32 size; /* of a piece */
  __u8 retransmitted;
};

struct delay_out_socket {
  __u32 run;
  __u32 super_count;
  struct delay_out_super supers[DELAY_OUT_SUPERS];
  __u32 count; /* writes so far; the last DELAY_OUT_WRITES of them are here */
  struct delay_out_write writes[DELAY_OUT_WRITES];
};

struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct delay_out_socket);
} delay_out_sockets SEC(".maps");

__u32 delay_out_run = 0; /* which time the module is on */

static __always_inline struct delay_out_socket *delay_out_socket_of(struct sock *sk) {
  struct delay_out_socket *socket = bpf_sk_storage_get(&delay_out_sockets, sk, NULL, 0);

  return socket && socket->run == delay_out_run ? socket : NULL;
}

/* When the byte at `seq` was written; 0: not known any more. Writes are in the order of the stream.
 */
static __always_inline __u64 delay_out_written(struct delay_out_socket *socket, __u32 seq) {
  __u32 count = socket->count, low, high, step;

  if (!count) return 0;
  low = count > DELAY_OUT_WRITES ? count - DELAY_OUT_WRITES : 0;
  if (seq_before(seq, socket->writes[low % DELAY_OUT_WRITES].seq)) return 0;
  high = count; /* the write wanted is in [low, high) */
  for (step = 0; step < 8 && high - low > 1; step++) {
    __u32 middle = low + (high - low) / 2;

    if (seq_before(seq, socket->writes[middle % DELAY_OUT_WRITES].seq))
      high = middle;
    else
      low = middle;
  }
  return socket->writes[low % DELAY_OUT_WRITES].ns;
}

/* Gives its number. */
static __always_inline __u32 delay_out_note_super(struct delay_out_socket *socket,
                                                  const struct delay_out_super *super) {
  socket->supers[socket->super_count % DELAY_OUT_SUPERS] = *super;
  return socket->super_count++;
}

/* It left the queue as a whole. */
static __always_inline void delay_out_close_super(struct sock *sk, __u32 number) {
  struct delay_out_socket *socket = delay_out_socket_of(sk);

  if (!socket || socket->super_count - number > DELAY_OUT_SUPERS) return;
  socket->supers[number % DELAY_OUT_SUPERS].gone = ~0ULL;
}

/*
 * The packet that this piece, named by its place in the stream, was cut from; the same place may be
 * sent again before it has left. What is of one connection leaves in order: the oldest that has not
 * left yet. A full queue drops the newest.
 */
static __always_inline struct delay_out_super *delay_out_find_super(struct delay_out_socket *socket,
                                                                    __u32 seq, bool newest,
                                                                    __u64 *piece) {
  __u32 count = socket->super_count;

  for (__u32 i = 1; i <= DELAY_OUT_SUPERS; i++) {
    __u32 back = newest ? i : DELAY_OUT_SUPERS + 1 - i;
    struct delay_out_super *super = &socket->supers[(count - back) % DELAY_OUT_SUPERS];
    __u32 offset = seq - super->seq, index = super->size ? offset / super->size : 0;

    if (back > count || offset >= super->length || index > 63) continue;
    *piece = 1ULL << index;
    if (!(super->gone & *piece)) return super;
  }
  return NULL;
}

#endif
