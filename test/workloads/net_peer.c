// SPDX-License-Identifier: MIT
// Owns: both ends of small conversations of known size over TCP and UDP, IPv4 and IPv6, and a statement of what each
// process sent and received. Does not own: the network they run in.
//
//   net_peer serve ADDRESS PORT                  TCP requests and UDP echo, one process, until killed
//   net_peer udp ADDRESS PORT COUNT SIZE [busy]  sends COUNT datagrams, awaits the echo of each
//   net_peer tcp ADDRESS PORT DOWN UP [hold]     one connection; hold: connects, then waits for SIGUSR1
//   net_peer prefork ADDRESS PORT CHILDREN       listens, forks; each child accepts one connection
//   net_peer handover ADDRESS PORT               accepts one connection, forks, and leaves it to the child
//   net_peer loopback ADDRESS PORT COUNT SIZE    a child serves UDP echo, the parent is its client
//   net_peer linger ADDRESS PORT BYTES           a child fills its socket's send buffer and ends; the parent waits for SIGUSR1
//   net_peer slow ADDRESS PORT                   accepts one connection, and reads it to its end only after SIGUSR1
//   net_peer ping ADDRESS ID COUNT SIZE          echo requests from a raw socket that filters by ID from the start
//
// A TCP request is two 64-bit numbers in host order: how many bytes the server is to send, and how many the client will.
// "done ROLE PID SENT RECEIVED" states payload bytes (datagrams for UDP) of one process.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static char buffer[1 << 16];

static void say(const char *format, ...) {
  char line[256];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  if (write(1, line, (size_t)length) != length) _exit(90);
}

static void die(const char *what) {
  fprintf(stderr, "net_peer: %s: %s\n", what, strerror(errno));
  _exit(92);
}

struct place {
  struct sockaddr_storage address;
  socklen_t length;
  int family;
};

static struct place place_of(const char *address, const char *port) {
  struct place place;
  memset(&place, 0, sizeof place);
  struct sockaddr_in *four = (struct sockaddr_in *)&place.address;
  struct sockaddr_in6 *six = (struct sockaddr_in6 *)&place.address;
  if (inet_pton(AF_INET, address, &four->sin_addr) == 1) {
    place.family = four->sin_family = AF_INET;
    four->sin_port = htons((uint16_t)atoi(port));
    place.length = sizeof *four;
  } else if (inet_pton(AF_INET6, address, &six->sin6_addr) == 1) {
    place.family = six->sin6_family = AF_INET6;
    six->sin6_port = htons((uint16_t)atoi(port));
    place.length = sizeof *six;
  } else {
    errno = EINVAL;
    die(address);
  }
  return place;
}

static int open_socket(const struct place *place, int type, int listening) {
  int fd = socket(place->family, type | SOCK_CLOEXEC, 0);
  int yes = 1;
  if (fd < 0) die("socket");
  if (listening) {
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (const struct sockaddr *)&place->address, place->length) != 0) die("bind");
    if (type == SOCK_STREAM && listen(fd, 64) != 0) die("listen");
  } else if (connect(fd, (const struct sockaddr *)&place->address, place->length) != 0) {
    die("connect");
  }
  return fd;
}

static uint64_t push(int fd, uint64_t bytes) {
  uint64_t left = bytes;
  while (left > 0) {
    ssize_t sent = write(fd, buffer, left < sizeof buffer ? left : sizeof buffer);
    if (sent <= 0) die("write");
    left -= (uint64_t)sent;
  }
  return bytes;
}

static uint64_t pull(int fd, void *into, uint64_t bytes) {
  uint64_t left = bytes;
  while (left > 0) {
    size_t most = left < sizeof buffer ? left : sizeof buffer;
    ssize_t got = read(fd, into != NULL ? (char *)into + (bytes - left) : buffer, most);
    if (got <= 0) die("read");
    left -= (uint64_t)got;
  }
  return bytes;
}

static void answer(int fd, uint64_t *sent, uint64_t *received) {
  uint64_t request[2];
  *received += pull(fd, request, sizeof request);
  *sent += push(fd, request[0]);
  *received += pull(fd, NULL, request[1]);
  *sent += push(fd, 1);  // the client closes only after this: nothing is cut off
  close(fd);
}

static void await_release(void) {
  sigset_t set;
  int signal_number;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  if (sigwait(&set, &signal_number) != 0) die("sigwait");
}

static void echo_datagram(int fd, uint64_t *count) {
  struct sockaddr_storage from;
  socklen_t length = sizeof from;
  ssize_t got = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &length);
  if (got >= 0 && sendto(fd, buffer, (size_t)got, 0, (struct sockaddr *)&from, length) == got) ++*count;
}

static void serve(const struct place *place) {
  int tcp = open_socket(place, SOCK_STREAM, 1), udp = open_socket(place, SOCK_DGRAM, 1);
  signal(SIGCHLD, SIG_IGN);
  say("ready serve %d\n", (int)getpid());
  for (;;) {
    struct pollfd both[2] = {{tcp, POLLIN, 0}, {udp, POLLIN, 0}};
    uint64_t ignored = 0;
    if (poll(both, 2, -1) < 0) die("poll");
    if (both[1].revents) echo_datagram(udp, &ignored);
    if (both[0].revents) {
      int fd = accept(tcp, NULL, NULL);
      if (fd < 0) die("accept");
      if (fork() == 0) {
        answer(fd, &ignored, &ignored);
        _exit(0);
      }
      close(fd);
    }
  }
}

static void udp_client(const struct place *place, long count, size_t size, int busy) {
  pid_t spinners[2] = {0, 0};
  for (int i = 0; busy && i < 2; i++) {
    // Someone else of the tree is on the CPU whenever a packet arrives: those must not be given the bytes.
    spinners[i] = fork();
    if (spinners[i] == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (volatile long n = 0;; n++) {
      }
    }
    say("spinner %d\n", (int)spinners[i]);
  }
  int fd = open_socket(place, SOCK_DGRAM, 0);
  long sent = 0, received = 0;
  for (long i = 0; i < count; i++) {
    struct pollfd wait = {fd, POLLIN, 0};
    if (send(fd, buffer, size, 0) == (ssize_t)size) sent++;
    if (poll(&wait, 1, 2000) == 1 && recv(fd, buffer, sizeof buffer, 0) == (ssize_t)size) received++;
  }
  for (int i = 0; busy && i < 2; i++) {
    kill(spinners[i], SIGKILL);
    waitpid(spinners[i], NULL, 0);
  }
  say("done client %d %ld %ld\n", (int)getpid(), sent, received);
}

static void tcp_client(const struct place *place, uint64_t down, uint64_t up, int held) {
  int fd = open_socket(place, SOCK_STREAM, 0);
  say("ready client %d\n", (int)getpid());
  if (held) await_release();
  uint64_t request[2] = {down, up};
  if (write(fd, request, sizeof request) != (ssize_t)sizeof request) die("write");
  uint64_t received = pull(fd, NULL, down), sent = sizeof request + push(fd, up);
  received += pull(fd, NULL, 1);
  close(fd);
  say("done client %d %llu %llu\n", (int)getpid(), (unsigned long long)sent, (unsigned long long)received);
  if (held) await_release();
}

static void serve_one(int listener) {
  uint64_t sent = 0, received = 0;
  int fd = accept(listener, NULL, NULL);
  if (fd < 0) die("accept");
  answer(fd, &sent, &received);
  say("done server %d %llu %llu\n", (int)getpid(), (unsigned long long)sent, (unsigned long long)received);
}

static void prefork(const struct place *place, int children) {
  int listener = open_socket(place, SOCK_STREAM, 1);
  for (int i = 0; i < children; i++) {
    if (fork() == 0) {
      serve_one(listener);
      _exit(0);
    }
  }
  say("ready prefork %d\n", (int)getpid());
  while (wait(NULL) > 0) {
  }
}

static void handover(const struct place *place) {
  int listener = open_socket(place, SOCK_STREAM, 1);
  say("ready handover %d\n", (int)getpid());
  int fd = accept(listener, NULL, NULL);
  if (fd < 0) die("accept");
  pid_t child = fork();
  if (child == 0) {
    uint64_t sent = 0, received = 0;
    close(listener);
    await_release();  // until nobody else holds the connection
    answer(fd, &sent, &received);
    say("done server %d %llu %llu\n", (int)getpid(), (unsigned long long)sent, (unsigned long long)received);
    _exit(0);
  }
  close(fd);
  kill(child, SIGUSR1);
  waitpid(child, NULL, 0);
}

static void loopback(const struct place *place, long count, size_t size) {
  int opened[2];
  if (pipe(opened) != 0) die("pipe");
  pid_t child = fork();
  if (child == 0) {
    uint64_t echoed = 0;
    int server = open_socket(place, SOCK_DGRAM, 1);
    if (write(opened[1], "", 1) != 1) die("write");
    while (echoed < (uint64_t)count) echo_datagram(server, &echoed);
    say("done server %d %llu %llu\n", (int)getpid(), (unsigned long long)echoed, (unsigned long long)echoed);
    _exit(0);
  }
  char ready;
  if (read(opened[0], &ready, 1) != 1) die("read");
  udp_client(place, count, size, 0);
  waitpid(child, NULL, 0);
}

static void linger(const struct place *place, uint64_t bytes) {
  pid_t child = fork();
  if (child == 0) {
    int fd = open_socket(place, SOCK_STREAM, 0), size = 64 << 20;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0) die("SO_SNDBUFFORCE");
    push(fd, bytes);
    say("done client %d %llu 0\n", (int)getpid(), (unsigned long long)bytes);
    _exit(0);  // the kernel goes on sending
  }
  waitpid(child, NULL, 0);
  say("ready linger %d\n", (int)getpid());
  await_release();
}

static void slow(const struct place *place) {
  int listener = open_socket(place, SOCK_STREAM, 1);
  say("ready slow %d\n", (int)getpid());
  int fd = accept(listener, NULL, NULL);
  if (fd < 0) die("accept");
  await_release();
  uint64_t received = 0;
  for (ssize_t got; (got = read(fd, buffer, sizeof buffer)) > 0;) received += (uint64_t)got;
  say("done server %d 0 %llu\n", (int)getpid(), (unsigned long long)received);
}

// ping(8) installs such a filter only when it has read a reply to somebody else; this one never reads any.
static void ping(const struct place *place, int id, long count, size_t size) {
  int four = place->family == AF_INET;
  // A raw IPv4 socket is handed the IP header as well.
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, four ? 20 : 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, four ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY, 0, 3),
      BPF_STMT(BPF_LD | BPF_H | BPF_ABS, four ? 24 : 4),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)id, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0xffff),
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  struct sock_fprog filter = {sizeof code / sizeof code[0], code};
  struct place there = *place;
  if (four) ((struct sockaddr_in *)&there.address)->sin_port = 0;
  else ((struct sockaddr_in6 *)&there.address)->sin6_port = 0;
  int fd = socket(place->family, SOCK_RAW | SOCK_CLOEXEC, four ? (int)IPPROTO_ICMP : (int)IPPROTO_ICMPV6);
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) != 0) die("raw socket");
  struct icmphdr *request = (struct icmphdr *)buffer;
  long sent = 0, received = 0;
  for (long i = 0; i < count; i++) {
    struct pollfd wait = {fd, POLLIN, 0};
    memset(buffer, 0, sizeof *request + size);
    request->type = four ? ICMP_ECHO : ICMP6_ECHO_REQUEST;
    request->un.echo.id = htons((uint16_t)id);
    request->un.echo.sequence = htons((uint16_t)i);
    uint32_t sum = 0;  // for IPv6 the kernel does it
    for (size_t k = 0; four && k < (sizeof *request + size) / 2; k++) sum += ((uint16_t *)buffer)[k];
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    request->checksum = four ? (uint16_t)~sum : 0;
    if (sendto(fd, buffer, sizeof *request + size, 0, (struct sockaddr *)&there.address, there.length) > 0) sent++;
    // In bytes on the link: a reply to somebody else may have come before the filter was in place.
    ssize_t got = poll(&wait, 1, 2000) == 1 ? recv(fd, buffer, sizeof buffer, 0) : 0;
    if (got > 0) received += got + 14 + (four ? 0 : 40);
  }
  say("done pinger %d %ld %ld\n", (int)getpid(), sent, received);
}

int main(int count, char **arguments) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigprocmask(SIG_BLOCK, &set, NULL);
  signal(SIGPIPE, SIG_IGN);
  if (count < 4) return 2;
  struct place place = place_of(arguments[2], arguments[3]);
  const char *mode = arguments[1];
  long first = count > 4 ? atol(arguments[4]) : 0, second = count > 5 ? atol(arguments[5]) : 0;
  if (strcmp(mode, "serve") == 0) serve(&place);
  else if (strcmp(mode, "udp") == 0) udp_client(&place, first, (size_t)second, count > 6);
  else if (strcmp(mode, "tcp") == 0) tcp_client(&place, (uint64_t)first, (uint64_t)second, count > 6);
  else if (strcmp(mode, "prefork") == 0) prefork(&place, (int)first);
  else if (strcmp(mode, "handover") == 0) handover(&place);
  else if (strcmp(mode, "loopback") == 0) loopback(&place, first, (size_t)second);
  else if (strcmp(mode, "linger") == 0) linger(&place, (uint64_t)first);
  else if (strcmp(mode, "slow") == 0) slow(&place);
  else if (strcmp(mode, "ping") == 0) ping(&place, atoi(arguments[3]), first, (size_t)second);
  else return 2;
  return 0;
}
