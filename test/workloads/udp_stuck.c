// SPDX-License-Identifier: MIT
// flags: -pthread
// Owns: two threads that read one UDP socket, one of them held up between taking a datagram and returning with it: the buffer it reads
// into is a page that somebody else provides only when the other thread has read the next one (userfaultfd). All datagrams are
// of one length, each from a port of its own. Does not own: who may know which thread took which.
//
//   udp_stuck PORT     prints "plain PORT" of what was read with nobody in between, "held PORT" and "passed PORT" of the two.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fd, faults;
static char *page;
static size_t page_size;

static void die(const char *what) {
  fprintf(stderr, "udp_stuck: %s: %s\n", what, strerror(errno));
  _exit(92);
}

static void post(int count) {
  struct sockaddr_in to;
  socklen_t length = sizeof to;
  char text[100] = "letter";
  if (getsockname(fd, (struct sockaddr *)&to, &length)) die("getsockname");
  for (int i = 0; i < count; i++) {
    int sock = socket(AF_INET, SOCK_DGRAM, 0);
    if (sendto(sock, text, sizeof text, 0, (struct sockaddr *)&to, length) != sizeof text) die("sendto");
    close(sock);
  }
}

static void take(char *into, const char *name) {
  struct sockaddr_in from;
  socklen_t length = sizeof from;
  if (recvfrom(fd, into, 100, 0, (struct sockaddr *)&from, &length) != 100) die("recvfrom");
  printf("%s %d\n", name, ntohs(from.sin_port));
}

static void *read_plain(void *unused) {
  char text[100];
  take(text, "plain");
  return unused;
}

static void *read_held(void *unused) {
  take(page, "held");
  return unused;
}

static void watch_page(void) {
  struct uffdio_api api = {.api = UFFD_API};
  struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_MISSING};
  page_size = (size_t)sysconf(_SC_PAGESIZE);
  page = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) die("mmap");
  faults = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
  if (faults < 0 || ioctl(faults, UFFDIO_API, &api)) die("userfaultfd");
  range.range.start = (uintptr_t)page;
  range.range.len = page_size;
  if (ioctl(faults, UFFDIO_REGISTER, &range)) die("UFFDIO_REGISTER");
}

static void in_thread(void *(*what)(void *)) {
  pthread_t other;
  if (pthread_create(&other, NULL, what, NULL) || pthread_join(other, NULL)) die("thread");
}

int main(int argc, char **argv) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct uffdio_zeropage zero = {0};
  struct uffd_msg fault;
  char text[100];
  pthread_t held;
  if (argc != 2) return 2;
  address.sin_port = htons((uint16_t)atoi(argv[1]));
  fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address)) die("bind");
  watch_page();
  // Both are known as readers of it.
  post(2);
  take(text, "plain");
  in_thread(read_plain);
  post(3);
  if (pthread_create(&held, NULL, read_held, NULL)) die("thread");
  if (read(faults, &fault, sizeof fault) != sizeof fault || fault.event != UFFD_EVENT_PAGEFAULT) die("fault");
  take(text, "passed");
  zero.range.start = (uintptr_t)page;
  zero.range.len = page_size;
  if (ioctl(faults, UFFDIO_ZEROPAGE, &zero)) die("UFFDIO_ZEROPAGE");
  if (pthread_join(held, NULL)) die("join");
  take(text, "plain");
  return 0;
}
