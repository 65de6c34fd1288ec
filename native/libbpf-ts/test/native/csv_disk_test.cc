// SPDX-License-Identifier: MIT
// Regular files that cannot grow: a full disk, a size limit of the process, somebody who empties
// them. Whole rows only, each one written or told as lost, and it goes on when there is room again.
// Needs root: it mounts a small disk, seen by nobody else. Run under AddressSanitizer and
// ThreadSanitizer.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <string>
#include "csv_files.h"
#include "csv_producer.h"

using libbpf_ts::Compression;
using libbpf_ts::CsvFile;
using libbpf_ts::Fd;

namespace {

std::string Disk() {
  std::string disk = root + "/disk";
  mkdir(disk.c_str(), 0755);
  CHECK(mount("none", disk.c_str(), "tmpfs", 0, "size=3m") == 0);
  return disk;
}

void FullDisk(const Form& form, uint64_t max_size) {
  std::string disk = Disk();
  std::string ballast = disk + "/ballast";
  std::string name = std::string("t") + form.extension;
  CsvFile file;
  CHECK(!file.Open(Create(disk + "/" + name), OpenFolder(disk),
                   Options(name, form.compression, max_size)));
  Producer producer(&file, 5);
  uint64_t lost = 0;
  for (int round = 0; round < 3; round++) {
    producer.Write(3000);
    producer.Tell();
    file.Flush();
    CHECK(file.figures().events_lost == lost);
    {
      Fd fill = Create(ballast);
      std::string zeros(1 << 20, '\0');
      size_t size = zeros.size();
      while (size > 0) {
        if (write(fill.get(), zeros.data(), size) < 0) size /= 2;
      }
    }
    for (int i = 0; i < 30; i++) {
      producer.Write(2000);
      if (i % 7 == 0) file.Flush();
    }
    file.Flush();
    CHECK(file.figures().problem == ENOSPC && file.figures().events_lost > lost);
    lost = file.figures().events_lost;
    CHECK(unlink(ballast.c_str()) == 0);
  }
  producer.Write(1);
  producer.End();
  file.Close(0);
  CHECK(file.figures().problem == ENOSPC);  // remembered, though it is over
  Reading reading;
  for (uint32_t i = 0; i < file.figures().files; i++) {
    reading.All(Read(Numbered(disk + "/t", i, form.extension), form.reader));
  }
  CHECK(!Exists(Numbered(disk + "/t", file.figures().files, form.extension)));
  producer.Check(reading);
  CHECK(umount2(disk.c_str(), MNT_DETACH) == 0);
}

// The header has no room either: then there is no such file.
void FullFromTheStart() {
  std::string disk = Disk();
  Fd file = Create(disk + "/t.csv");
  Fd fill = Create(disk + "/ballast");
  std::string zeros(4 << 20, '\0');
  CHECK(write(fill.get(), zeros.data(), zeros.size()) > 0);
  CHECK(CsvFile().Open(std::move(file), Fd(), Options("t.csv", Compression::kNone)).error ==
        ENOSPC);
  CHECK(SizeOf(disk + "/t.csv") == 0);
  CHECK(umount2(disk.c_str(), MNT_DETACH) == 0);
}

// The signal that comes with EFBIG would end this process.
void SizeLimit(const Form& form) {
  std::string path = Folder() + "/t" + form.extension;
  rlimit old;
  CHECK(getrlimit(RLIMIT_FSIZE, &old) == 0);
  rlimit limit = {100001, old.rlim_max};
  CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  CsvFile file;
  CHECK(!file.Open(Create(path), Fd(), Options("t", form.compression)));
  Producer producer(&file, 4);
  for (int i = 0; i < 60; i++) {
    producer.Write(1000);
    producer.Tell();
    file.Flush();
  }
  CHECK(file.figures().problem == EFBIG && SizeOf(path) <= 100001);
  CHECK(setrlimit(RLIMIT_FSIZE, &old) == 0);
  producer.Write(1000);
  file.Close(0);
  Reading reading;
  reading.All(Read(path, form.reader));
  CHECK(file.figures().events_lost > 0 && file.figures().problem == EFBIG);
  producer.Check(reading);
}

// Emptied by somebody else while it is written: no hole, whole rows.
void EmptiedByOthers() {
  std::string path = Folder() + "/t.csv";
  rlimit old;
  CHECK(getrlimit(RLIMIT_FSIZE, &old) == 0);
  CsvFile file;
  CHECK(!file.Open(Create(path), Fd(), Options("t.csv", Compression::kNone)));
  file.Append(std::string(50000, 'x') + "\n", 1);
  file.Flush();
  CHECK(truncate(path.c_str(), 0) == 0);
  file.Append("a\n", 1);
  file.Flush();
  rlimit limit = {100, old.rlim_max};
  CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  file.Append(std::string(1000, 'y') + "\n", 1);
  file.Flush();
  CHECK(setrlimit(RLIMIT_FSIZE, &old) == 0);
  file.Append("b\n", 1);
  file.Close(0);
  CHECK(Read(path, "cat") == "a\nb\n" && file.figures().rows_lost == 1);
}

// The text before is lost when room is made for the next one, which is not.
void LosesOnlyWhatWasThere() {
  std::string path = Folder() + "/t.csv";
  rlimit old;
  CHECK(getrlimit(RLIMIT_FSIZE, &old) == 0);
  CsvFile file;
  CHECK(!file.Open(Create(path), Fd(), Options("t.csv", Compression::kNone)));
  rlimit limit = {100, old.rlim_max};
  CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  std::string next = std::string(100000, 'b') + "\n";
  file.Append(std::string(200000, 'a') + "\n", 1);
  file.Append(next, 1);
  CHECK(setrlimit(RLIMIT_FSIZE, &old) == 0);
  file.Close(0);
  CHECK(Read(path, "cat") == kHeader + next);
  CHECK(file.figures().rows == 1 && file.figures().rows_lost == 1);
}

}  // namespace

// Its argument is an empty folder.
int main(int argc, char** argv) {
  CHECK(argc == 2);
  root = argv[1];
  CHECK(unshare(CLONE_NEWNS) == 0 && mount("none", "/", nullptr, MS_REC | MS_PRIVATE, "") == 0);
  for (const Form& form : kForms) {
    FullDisk(form, 0);
    FullDisk(form, form.compression == Compression::kNone ? 300000 : 30000);
    SizeLimit(form);
  }
  FullFromTheStart();
  EmptiedByOthers();
  LosesOnlyWhatWasThere();
  printf("ok\n");
  return 0;
}
