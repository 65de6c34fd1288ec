// SPDX-License-Identifier: MIT
// Several threads attach to several network namespaces at once and detach again; each stays where
// it was. Run under ThreadSanitizer.
#include <bpf/bpf.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <cstdio>
#include <thread>
#include <vector>
#include "check.h"
#include "link_core.h"
#include "netfilter.h"

using libbpf_ts::Failure;
using libbpf_ts::Fd;
using libbpf_ts::LinkCore;
using libbpf_ts::NetfilterHold;
using libbpf_ts::NetfilterPlace;

namespace {

constexpr int kThreads = 4;
constexpr int kRounds = 25;
constexpr char kOwn[] = "/proc/thread-self/ns/net";

ino_t Inode(int fd) {
  struct stat status = {};
  CHECK(fstat(fd, &status) == 0);
  return status.st_ino;
}

Fd Own() { return Fd(open(kOwn, O_RDONLY | O_CLOEXEC)); }

Fd NewSpace() {
  Fd space;
  std::thread([&space] {
    CHECK(unshare(CLONE_NEWNET) == 0);
    space = Own();
  }).join();
  CHECK(space.valid());
  return space;
}

void AttachAndDetach(int program, const std::vector<Fd>& spaces, int number) {
  ino_t own = Inode(Own().get());
  for (int round = 0; round < kRounds; round++) {
    std::vector<std::shared_ptr<LinkCore>> links;
    for (const Fd& space : spaces) {
      NetfilterPlace place;
      place.family = 2;
      place.hook = static_cast<uint32_t>(round % 5);
      place.priority = 10 + number;
      place.space = space.get();
      NetfilterHold hold;
      Failure failure = libbpf_ts::AttachNetfilter(program, "count_packets", place, &hold);
      CHECK(!failure);
      CHECK(Inode(hold.space.get()) == Inode(space.get()));
      links.push_back(
          std::make_shared<LinkCore>("count_packets", std::move(hold.link), std::move(hold.space)));
      // Two cannot have one place.
      failure = libbpf_ts::AttachNetfilter(program, "count_packets", place, &hold);
      CHECK(failure.error == EBUSY);
    }
    for (auto& link : links) link->Close();
  }
  CHECK(Inode(Own().get()) == own);
}

}  // namespace

int main() {
  bpf_object* object = bpf_object__open_file("netfilter.bpf.o", nullptr);
  CHECK(object != nullptr);
  libbpf_ts::TypeNetfilterPrograms(object);
  CHECK(bpf_object__load(object) == 0);
  CHECK(libbpf_ts::ProbeNetfilter() == 1);
  int program = bpf_program__fd(bpf_object__find_program_by_name(object, "count_packets"));
  std::vector<Fd> spaces;
  for (int space = 0; space < 3; space++) spaces.push_back(NewSpace());
  std::vector<std::thread> threads;
  for (int number = 0; number < kThreads; number++) {
    threads.emplace_back([&, number] { AttachAndDetach(program, spaces, number); });
  }
  for (auto& thread : threads) thread.join();

  // The link outlives whoever named its namespace.
  NetfilterHold hold;
  {
    Fd space = NewSpace();
    NetfilterPlace place;
    place.family = 10;
    place.space = space.get();
    CHECK(!libbpf_ts::AttachNetfilter(program, "count_packets", place, &hold));
  }
  LinkCore last("count_packets", std::move(hold.link), std::move(hold.space));
  last.Close();
  bpf_object__close(object);
  printf("%d threads, %zu namespaces\n", kThreads, spaces.size());
}
