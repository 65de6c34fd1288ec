// SPDX-License-Identifier: MIT
// flags: -pthread
// Owns: a UDP reader that lets datagrams wait and says of each how long that was, by the kernel's own stamp of its arrival
// (SO_TIMESTAMPNS); and senders. Does not own: the network they run in.
//
//   udp_wait read ADDRESS PORT COUNT WAIT_MS HOW [RCVBUF]   reads COUNT datagrams, sleeping before each, and ends
//       HOW: recvmsg, recvmmsg (eight at a time), peek (each looked at twice before), thread (another one reads each),
//       gro (UDP_GRO), two (two threads read at once, without a pause), spin (never blocks, without a pause),
//       connect (to whom the first is from), leave (waits for SIGUSR1 before it reads COUNT and closes the socket on the rest),
//       hold (waits for SIGUSR1 before the first read)
//   udp_wait send ADDRESS PORT COUNT SIZE [slow|gso|spoil]   the lengths are SIZE, SIZE + 1, …; slow: 10 ms apart; gso: one send, cut into
//       COUNT of SIZE each; spoil: with a wrong checksum, IPv4 only
//   udp_wait stamps    prints "stamping" once the kernel stamps every arrival, and keeps it so. It begins some time after the first socket asks for it;
//       before, what has no stamp gets one when it is read
//
// "read LENGTH PORT WAIT_US" of each datagram; "sent COUNT PORT"; "done COUNT".
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#define UDP_GRO 104
#endif
#define BATCH 8

static int fd, total, pause_ms, joins;
static int taken;
static volatile sig_atomic_t told;

static void die(const char *what) {
  fprintf(stderr, "udp_wait: %s: %s\n", what, strerror(errno));
  _exit(92);
}

static struct sockaddr_storage place(const char *address, const char *port, socklen_t *length) {
  struct sockaddr_storage all;
  struct sockaddr_in *four = (struct sockaddr_in *)&all;
  struct sockaddr_in6 *six = (struct sockaddr_in6 *)&all;
  memset(&all, 0, sizeof all);
  if (inet_pton(AF_INET, address, &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = htons((uint16_t)atoi(port));
    *length = sizeof *four;
  } else if (inet_pton(AF_INET6, address, &six->sin6_addr) == 1) {
    six->sin6_family = AF_INET6;
    six->sin6_port = htons((uint16_t)atoi(port));
    *length = sizeof *six;
  } else
    die(address);
  return all;
}

static int port_of(const struct sockaddr_storage *address) {
  return ntohs(address->ss_family == AF_INET ? ((const struct sockaddr_in *)address)->sin_port
                                             : ((const struct sockaddr_in6 *)address)->sin6_port);
}

struct letter {
  struct sockaddr_storage from;
  struct iovec part;
  char control[256];
  char text[65536];
};

static void open_letter(struct letter *letter, struct msghdr *head) {
  memset(head, 0, sizeof *head);
  letter->part = (struct iovec){letter->text, sizeof letter->text};
  head->msg_name = &letter->from;
  head->msg_namelen = sizeof letter->from;
  head->msg_iov = &letter->part;
  head->msg_iovlen = 1;
  head->msg_control = letter->control;
  head->msg_controllen = sizeof letter->control;
}

/* From the arrival to now, in microseconds. */
static long wait_of(struct msghdr *head) {
  struct timespec now, came = {0, 0};
  clock_gettime(CLOCK_REALTIME, &now);
  for (struct cmsghdr *c = CMSG_FIRSTHDR(head); c; c = CMSG_NXTHDR(head, c))
    if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS) memcpy(&came, CMSG_DATA(c), sizeof came);
  return (now.tv_sec - came.tv_sec) * 1000000 + (now.tv_nsec - came.tv_nsec) / 1000;
}

static void report(struct letter *letter, struct msghdr *head, long length) {
  long waited = wait_of(head);
  printf("read %ld %d %ld\n", length, port_of(&letter->from), waited);
}

/* The length, or -1 with EAGAIN. */
static long take(int flags) {
  static __thread struct letter letter;
  struct msghdr head;
  open_letter(&letter, &head);
  long length = recvmsg(fd, &head, flags);
  if (joins && !taken && connect(fd, (struct sockaddr *)&letter.from, head.msg_namelen)) die("connect");
  if (length < 0 && errno != EAGAIN) die("recvmsg");
  if (length >= 0 && !(flags & MSG_PEEK)) report(&letter, &head, length);
  return length;
}

static int take_many(void) {
  static struct letter letters[BATCH];
  struct mmsghdr heads[BATCH];
  for (int i = 0; i < BATCH; i++) open_letter(&letters[i], &heads[i].msg_hdr);
  int count = recvmmsg(fd, heads, BATCH, MSG_WAITFORONE, NULL);
  if (count < 0) die("recvmmsg");
  for (int i = 0; i < count; i++) report(&letters[i], &heads[i].msg_hdr, heads[i].msg_len);
  return count;
}

static void *take_one(void *flags) {
  (void)flags;
  take(0);
  return NULL;
}

static void *take_all(void *flags) {
  while (__atomic_load_n(&taken, __ATOMIC_SEQ_CST) < total)
    if (take(flags ? MSG_DONTWAIT : 0) >= 0) __atomic_fetch_add(&taken, 1, __ATOMIC_SEQ_CST);
  return NULL;
}

static void on_signal(int number) {
  (void)number;
  told = 1;
}

static int reader(char **argv, int argc) {
  socklen_t length;
  struct sockaddr_storage address = place(argv[2], argv[3], &length);
  const char *how = argv[6];
  int on = 1;
  total = atoi(argv[4]);
  pause_ms = atoi(argv[5]);
  joins = !strcmp(how, "connect");
  signal(SIGUSR1, on_signal);
  fd = socket(address.ss_family, SOCK_DGRAM, 0);
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on)) die("socket");
  if (argc > 7) {
    int size = atoi(argv[7]);
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size)) die("SO_RCVBUFFORCE");
  }
  if (!strcmp(how, "gro") && setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on)) die("UDP_GRO");
  if (bind(fd, (struct sockaddr *)&address, length)) die("bind");
  printf("ready %d\n", getpid());
  fflush(stdout);
  if (!strcmp(how, "leave") || !strcmp(how, "hold"))
    while (!told) usleep(1000);
  if (!strcmp(how, "two") || !strcmp(how, "spin")) {
    pthread_t other;
    if (how[0] == 't' && pthread_create(&other, NULL, take_all, &on)) die("thread");
    take_all(&on);
    if (how[0] == 't') pthread_join(other, NULL);
  } else
    while (taken < total) {
      /* What waits is there before the pause begins. */
      struct pollfd there = {.fd = fd, .events = POLLIN};
      if (poll(&there, 1, -1) < 0 && errno != EINTR) die("poll");
      usleep((useconds_t)pause_ms * 1000);
      if (!strcmp(how, "recvmmsg"))
        taken += take_many();
      else if (!strcmp(how, "thread")) {
        pthread_t other;
        if (pthread_create(&other, NULL, take_one, NULL) || pthread_join(other, NULL)) die("thread");
        taken++;
      } else {
        if (!strcmp(how, "peek")) take(MSG_PEEK), take(MSG_PEEK);
        take(0);
        taken++;
      }
    }
  printf("done %d\n", taken);
  return 0;
}

/* Datagrams to itself, until one has a stamp from before its wait. */
static int stamps(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  int on = 1;
  long waited = 0;
  fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on)) die("socket");
  if (bind(fd, (struct sockaddr *)&address, length) || getsockname(fd, (struct sockaddr *)&address, &length)) die("bind");
  while (waited < 5000) {
    static struct letter letter;
    struct msghdr head;
    if (sendto(fd, "", 1, 0, (struct sockaddr *)&address, length) < 0) die("sendto");
    usleep(5000);
    open_letter(&letter, &head);
    if (recvmsg(fd, &head, 0) < 0) die("recvmsg");
    waited = wait_of(&head);
  }
  printf("stamping\n");
  fflush(stdout);
  for (;;) pause();
}

static int spoiled(const char *address, const char *port, int count, int size) {
  socklen_t length;
  struct sockaddr_storage to = place(address, port, &length);
  static char packet[65536];
  struct udphdr *head = (struct udphdr *)packet;
  int raw = socket(AF_INET, SOCK_RAW, IPPROTO_UDP);
  ((struct sockaddr_in *)&to)->sin_port = 0;
  for (int i = 0; i < count; i++) {
    head->source = htons(999);
    head->dest = htons((uint16_t)atoi(port));
    head->len = htons((uint16_t)(sizeof *head + (size_t)size));
    head->check = htons(0x1234);
    if (sendto(raw, packet, sizeof *head + (size_t)size, 0, (struct sockaddr *)&to, length) < 0) die("sendto");
  }
  printf("sent %d 999\n", count);
  return 0;
}

static int sender(char **argv, int argc) {
  static char text[65536];
  socklen_t length, own;
  const char *how = argc > 6 ? argv[6] : "";
  int count = atoi(argv[4]), size = atoi(argv[5]), sock;
  if (!strcmp(how, "spoil")) return spoiled(argv[2], argv[3], count, size);
  struct sockaddr_storage to = place(argv[2], argv[3], &length), from;
  sock = socket(to.ss_family, SOCK_DGRAM, 0);
  if (sock < 0 || connect(sock, (struct sockaddr *)&to, length)) die("connect");
  if (!strcmp(how, "gso")) {
    if (setsockopt(sock, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof size)) die("UDP_SEGMENT");
    if (send(sock, text, (size_t)(size * count), 0) != size * count) die("send");
  } else
    for (int i = 0; i < count; i++) {
      if (!strcmp(how, "slow")) usleep(10000);
      if (send(sock, text, (size_t)(size + i), 0) < 0 && errno != ECONNREFUSED) die("send");
    }
  own = sizeof from;
  if (getsockname(sock, (struct sockaddr *)&from, &own)) die("getsockname");
  printf("sent %d %d\n", count, port_of(&from));
  return 0;
}

int main(int argc, char **argv) {
  if (argc >= 7 && !strcmp(argv[1], "read")) return reader(argv, argc);
  if (argc >= 6 && !strcmp(argv[1], "send")) return sender(argv, argc);
  if (argc == 2 && !strcmp(argv[1], "stamps")) return stamps();
  fprintf(stderr, "usage: see the head of udp_wait.c\n");
  return 2;
}
