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
  __u64 gone;   /* a bit for each piece that has left the queue, to the driver or for good */
  __u32 number; /* 0: being written */
  __u32 seq, length;
  __u32 size; /* of a piece */
  __u8 retransmitted;
  __u8 dropped; /* as a whole */
  __u8 unsure;  /* pieces sent before at this place may still wait, not known here any more */
};

struct delay_out_socket {
  __u32 run;
  __u16 sport, dport;
  __u32 super_count; /* the last one's number */
  __u32 forgotten;   /* behind all that was forgotten before all its pieces had left */
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

/* A socket may be connected again: what was written before is not of this stream. */
static __always_inline void delay_out_wrote(struct delay_out_socket *socket,
                                            const struct connection *connection, __u32 seq) {
  __u32 count = socket->count;

  if (socket->run != delay_out_run || socket->sport != connection->sport ||
      socket->dport != connection->dport ||
      seq_before(seq, socket->writes[(count - 1) % DELAY_OUT_WRITES].seq))
    count = 0;
  socket->run = delay_out_run;
  socket->sport = connection->sport;
  socket->dport = connection->dport;
  socket->writes[count % DELAY_OUT_WRITES].seq = seq;
  socket->writes[count % DELAY_OUT_WRITES].ns = bpf_ktime_get_ns();
  socket->count = count + 1;
}

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

/* All that it may be cut into. */
static __always_inline __u64 delay_out_all(const struct delay_out_super *super) {
  __u32 pieces = super->size ? (super->length - 1) / super->size + 1 : 0;

  return pieces < 64 ? (1ULL << pieces) - 1 : ~0ULL;
}

/* Gives its number. */
static __always_inline __u32 delay_out_note_super(struct delay_out_socket *socket,
                                                  struct delay_out_super *super) {
  __u32 number = socket->super_count + 1;
  struct delay_out_super *old = &socket->supers[number % DELAY_OUT_SUPERS];
  __u32 end = old->seq + old->length;

  if (number == 1) socket->forgotten = super->seq;
  if (number > DELAY_OUT_SUPERS) {
    if (~old->gone & delay_out_all(old) && seq_before(socket->forgotten, end))
      socket->forgotten = end;
    /* Sequence numbers come round: what is long past must not come before us again. */
    if ((__s32)(super->seq - socket->forgotten) > 1 << 30)
      socket->forgotten = super->seq - (1 << 30);
  }
  super->unsure = super->retransmitted && seq_before(super->seq, socket->forgotten);
  old->number = 0;
  barrier();
  *old = *super;
  barrier();
  old->number = number;
  socket->super_count = number;
  return number;
}

/* It left the queue as a whole. */
static __always_inline void delay_out_close_super(struct sock *sk, __u32 number, bool dropped) {
  struct delay_out_socket *socket = delay_out_socket_of(sk);
  struct delay_out_super *super;

  if (!socket) return;
  super = &socket->supers[number % DELAY_OUT_SUPERS];
  if (super->number != number) return;
  super->dropped = dropped;
  super->gone = ~0ULL;
}

struct delay_out_search {
  __u64 piece;  /* its bit */
  bool several; /* it may be cut from any of them */
};

/* The newest packet that this piece, named by its place in the stream, may have been cut from. */
static __always_inline struct delay_out_super *delay_out_find_super(
    struct delay_out_socket *socket, __u32 seq, bool dropped, struct delay_out_search *search) {
  struct delay_out_super *found = NULL;
  __u32 count = socket->super_count;

  search->several = false;
  for (__u32 back = 0; back < DELAY_OUT_SUPERS; back++) {
    struct delay_out_super *super = &socket->supers[(count - back) % DELAY_OUT_SUPERS];
    __u32 offset = seq - super->seq, index = super->size ? offset / super->size : 64;

    if (back >= count || offset >= super->length || index > 63) continue;
    if (index * super->size != offset) continue;
    /* A queue that has room for none of the pieces drops each, and the whole. */
    if (dropped && super->dropped && !found) return NULL;
    if (super->gone >> index & 1) continue;
    if (found) search->several = true;
    if (found) break;
    found = super;
    search->piece = 1ULL << index;
  }
  return found;
}

/*
 * The piece leaves. False: there is none, or more than one, that it may have been cut from: the
 * same place may be sent again before it has left, or after it was dropped unseen, as the kernel
 * leaves a program out where it would interrupt itself.
 */
static __always_inline bool delay_out_leave_super(struct delay_out_socket *socket, __u32 seq,
                                                  bool dropped, struct delay_out_super *copy) {
  struct delay_out_search search;
  struct delay_out_super *super = delay_out_find_super(socket, seq, dropped, &search);

  if (!super || search.several) return false;
  *copy = *super;
  if (!copy->number || copy->unsure) return false;
  if (__sync_fetch_and_or(&super->gone, search.piece) & search.piece) return false;
  return super->number == copy->number; /* another one's by now: a piece of that is not told */
}

#endif
