// SPDX-License-Identifier: MIT
// Regular files: what others read back is what was written, less what was told as lost, on full
// disks, at size limits, through rotation and compression. Needs root: it mounts a small disk, seen
// by nobody else. Run under AddressSanitizer, and under ThreadSanitizer for the figures.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <atomic>
#include <string>
#include <thread>
#include "csv_files.h"
#include "csv_producer.h"

using libbpf_ts::Compression;
using libbpf_ts::CsvFile;
using libbpf_ts::Fd;

namespace {

void Whole(const Form& form) {
  std::string path = Folder() + "/table" + form.extension;
  CsvFile file;
  CHECK(!file.Open(Create(path), Fd(), Options("table", form.compression)));
  CHECK(file.empty() && Read(path, form.reader) == kHeader);
  Producer producer(&file, 7);
  producer.Write(50);
  CHECK(!file.empty() && Read(path, form.reader) == kHeader);
  file.Flush();
  CHECK(file.empty() && Read(path, form.reader).size() > strlen(kHeader));
  for (int i = 0; i < 20; i++) {
    producer.Write(10000);
    if (i % 5 == 0) file.Flush();
  }
  producer.End();
  file.Close(0);
  file.Close(0);
  CHECK(file.Room(1) == nullptr && file.figures().rows_lost == 0);
  Reading reading;
  reading.All(Read(path, form.reader));
  producer.Check(reading);
  CHECK(file.figures().bytes == SizeOf(path) && file.figures().problem == 0);
}

// Megabytes at once, with line breaks in cells.
void AppendsText(const Form& form) {
  std::string path = Folder() + "/table" + form.extension;
  std::string text;
  uint64_t rows = 0;
  for (; text.size() < 3 << 20; rows++) text += "1," + Reading::Text(rows % 900);
  std::string expected = kHeader;
  CsvFile file;
  CHECK(!file.Open(Create(path), Fd(), Options("table", form.compression)));
  for (const std::string& each : {std::string("a,b\n"), text, std::string("c\n"), text}) {
    file.Append(each, each.size() < 10 ? 1 : rows);
    expected += each;
  }
  file.Append("", 0);
  file.Append("long" + std::string(2 << 20, 'x') + "\n", 1);  // no block holds it
  file.Close(0);
  CHECK(Read(path, form.reader) == expected);
  CHECK(file.figures().rows == 2 * rows + 2 && file.figures().rows_lost == 1);
  CHECK(!file.has_lost());  // about nobody
}

void Rotates(const Form& form, uint64_t max_size) {
  std::string folder = Folder();
  CsvFile file;
  std::string name = std::string("table") + form.extension;
  Fd first = Create(folder + "/" + name, 0640);
  CHECK(fchown(first.get(), 1234, 4321) == 0 && fchmod(first.get(), 0620) == 0);
  CHECK(
      !file.Open(std::move(first), OpenFolder(folder), Options(name, form.compression, max_size)));
  Producer producer(&file, 5);
  for (int i = 0; i < 40; i++) {
    producer.Write(2500);
    if (i % 3 == 0) file.Flush();
  }
  file.Close(0);
  uint32_t files = file.figures().files;
  CHECK(files > 2 && !Exists(Numbered(folder + "/table", files, form.extension)));
  Reading reading;
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < files; i++) {
    std::string path = Numbered(folder + "/table", i, form.extension);
    struct stat status;
    CHECK(stat(path.c_str(), &status) == 0);
    CHECK(status.st_uid == 1234 && status.st_gid == 4321 && (status.st_mode & 07777) == 0620);
    CHECK(SizeOf(path) <= max_size);
    // Filled to the last row (of 9 KB at most, asked for with 40 more).
    bool filled = form.compression == Compression::kNone && i + 1 < files;
    CHECK(!filled || SizeOf(path) > max_size - 9100);
    bytes += SizeOf(path);
    reading.All(Read(path, form.reader));
  }
  CHECK(reading.headers == files && file.figures().rows_lost == 0);
  CHECK(file.figures().bytes == bytes);
  producer.Check(reading);
}

// A limit no row fits into: one row each, none lost.
void RotatesEachRow() {
  std::string folder = Folder();
  CsvFile file;
  CHECK(!file.Open(Create(folder + "/t.csv"), OpenFolder(folder),
                   Options("t.csv", Compression::kNone, 10)));
  Producer producer(&file, 2);
  producer.Write(20);
  file.Close(0);
  CHECK(file.figures().files == 20);
  Reading reading;
  for (uint32_t i = 0; i < 20; i++) reading.All(Read(Numbered(folder + "/t", i, ".csv"), "cat"));
  producer.Check(reading);
}

void NamesThatAreTaken() {
  std::string folder = Folder();
  for (const char* name : {"plain", "a.csv.b", "x.gz", "y.tar.csv.gz"}) {
    CsvFile file;
    CHECK(!file.Open(Create(folder + "/" + name), OpenFolder(folder),
                     Options(name, Compression::kNone, 4096)));
    if (std::string("plain") == name) {
      CHECK(symlink("elsewhere", (folder + "/plain.1").c_str()) == 0);
      CHECK(mkdir((folder + "/plain.2").c_str(), 0755) == 0);
    }
    file.Append(std::string(3000, '1') + "\n", 1);
    file.Append(std::string(3000, '2') + "\n", 1);
    file.Close(0);
    CHECK(file.figures().files == 2 && file.figures().problem == 0);
  }
  CHECK(!Exists(folder + "/elsewhere"));
  for (const char* name : {"plain.3", "a.csv.1.b", "x.1.gz", "y.tar.1.csv.gz"}) {
    CHECK(Read(folder + "/" + name, "cat") == kHeader + std::string(3000, '2') + "\n");
  }
}

// Where no further file can be made the old one is continued, and that is said.
void RotationFails() {
  std::string folder = Folder();
  std::string gone = Folder();
  CsvFile file;
  CHECK(!file.Open(Create(folder + "/t.csv"), OpenFolder(gone),
                   Options("t.csv", Compression::kNone, 20000)));
  CHECK(rmdir(gone.c_str()) == 0);
  Producer producer(&file, 3);
  producer.Write(5000);
  file.Flush();
  CHECK(file.figures().problem == ENOENT && file.figures().files == 1);
  file.Close(0);
  Reading reading;
  reading.All(Read(folder + "/t.csv", "cat"));
  CHECK(file.figures().rows_lost == 0);
  producer.Check(reading);
}

void FiguresFromAnotherThread() {
  std::string folder = Folder();
  CsvFile file;
  CHECK(!file.Open(Create(folder + "/t.csv"), OpenFolder(folder),
                   Options("t.csv", Compression::kNone, 1 << 20)));
  std::atomic<bool> done{false};
  std::thread looker([&file, &done] {
    CsvFile::Figures last;
    while (!done.load()) {
      CsvFile::Figures now = file.figures();
      CHECK(now.rows >= last.rows && now.bytes >= last.bytes && now.files >= last.files);
      last = now;
    }
  });
  Producer producer(&file, 3);
  producer.Write(150000);
  file.Close(0);
  done.store(true);
  looker.join();
}

void CannotBeOpened() {
  std::string folder = Folder();
  auto open_with = [](Fd fd, uint64_t max_size) {
    return CsvFile().Open(std::move(fd), Fd(), Options("t", Compression::kNone, max_size)).error;
  };
  CHECK(open_with(Fd(), 0) == EBADF);
  CHECK(open_with(OpenFolder(folder), 0) == EINVAL);
  CHECK(open_with(Fd(open("/dev/null", O_WRONLY | O_CLOEXEC)), 0) == EINVAL);
  CHECK(open_with(Create(folder + "/t"), 1000) == EINVAL);
  CHECK(open_with(Fd(open((folder + "/t").c_str(), O_RDONLY | O_CLOEXEC)), 0) == EBADF);
}

}  // namespace

// Its argument is an empty folder.
int main(int argc, char** argv) {
  CHECK(argc == 2);
  root = argv[1];
  for (const Form& form : kForms) {
    Whole(form);
    AppendsText(form);
    Rotates(form, form.compression == Compression::kNone ? 400000 : 40000);
  }
  RotatesEachRow();
  NamesThatAreTaken();
  RotationFails();
  CannotBeOpened();
  FiguresFromAnotherThread();
  printf("ok\n");
  return 0;
}
