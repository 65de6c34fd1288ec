// SPDX-License-Identifier: MIT
// What does not reach a table's file, on a full disk and in a pipe that nobody reads: counted by
// source as soon as it is known, told in the file, in bounded memory, holding up nobody.
// Run under ThreadSanitizer.
#include <fcntl.h>
#include <sys/resource.h>
#include <cstdio>
#include <thread>
#include "table_writing.h"

using libbpf_ts::CsvFile;
using libbpf_ts::CsvWriter;
using libbpf_ts::Fd;
using libbpf_ts::StreamTable;

namespace {

// While it lives, files take nothing.
class FullDisk {
 public:
  FullDisk() { Limit(strlen(kRowsHeader)); }
  ~FullDisk() { Limit(RLIM_INFINITY); }

 private:
  static void Limit(rlim_t bytes) {
    rlimit limit = {bytes, RLIM_INFINITY};
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  }
};

struct Pipe {
  Pipe() {
    int ends[2];
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    reader = Fd(ends[0]);
    libbpf_ts::CsvFileOptions options;
    options.name = "pipe";
    options.header = kRowsHeader;
    CHECK(!file->Open(Fd(ends[1]), Fd(), options));
  }
  // Up to the end, or `most` bytes.
  std::string Read(size_t most = SIZE_MAX) const {
    std::string text;
    char buffer[4096];
    while (text.size() < most) {
      ssize_t count = read(reader.get(), buffer, std::min(sizeof buffer, most - text.size()));
      if (count <= 0) break;
      text.append(buffer, static_cast<size_t>(count));
    }
    return text;
  }

  Fd reader;
  std::shared_ptr<CsvFile> file = std::make_shared<CsvFile>();
};

Telling Tell(const std::string& text) {
  std::vector<std::string> lines = Lines(text);
  Telling telling;
  for (size_t index = 1; index < lines.size(); index++) telling.Hear(ParseRow(lines[index]));
  return telling;
}

// Whoever waited for a flush knows all that is lost.
void FlushOnFullDisk() {
  std::string path = NextPath();
  Writing writing(Create(path));
  Call(&writing.writer, [&writing](CsvWriter& of) {
    FullDisk full;
    writing.producer.Write(100);
    of.Flush();
  });
  CHECK(writing.lost() == 100 && writing.file->figures().events_lost == 100);
  Call(&writing.writer, [&writing](CsvWriter& of) {
    writing.producer.Write(10);
    of.dispatch().End(7, CsvWriter::Now());  // somebody else of that number
    of.Flush();
  });
  std::vector<Row> rows = Rows(path);
  CHECK(rows.size() == 12 && rows[0].lost == 100 && rows[1].sequence == 100 && rows[11].end());
  CHECK(writing.lost() == 100);
}

// At the latest when the file is closed it is told in it.
void StopOnFullDisk() {
  std::string path = NextPath();
  Writing writing(Create(path));
  Call(&writing.writer, [&writing](CsvWriter& of) {
    FullDisk full;
    writing.producer.Write(100);
    of.Flush();
  });
  writing.writer.Stop();
  std::vector<Row> rows = Rows(path);
  CHECK(rows.size() == 1 && rows[0].lost == 100 && writing.lost() == 100);
}

// What the old file cannot take any more is told in the new one.
void MovedOnFullDisk() {
  std::string path = NextPath();
  std::string next_path = NextPath();
  Writing writing(Create(path));
  std::shared_ptr<CsvFile> next = Create(next_path);
  Call(&writing.writer, [&writing, &next](CsvWriter& of) {
    of.AddFile(next);
    FullDisk full;
    writing.producer.Write(100);
    writing.producer.table->MoveTo(next);
    of.Flush();
  });
  CHECK(writing.lost() == 100);
  Call(&writing.writer, [&writing](CsvWriter& of) {
    writing.producer.Write(5);
    of.CloseFile(writing.file, 0);
    of.Flush();
  });
  std::vector<Row> rows = Rows(next_path);
  CHECK(Rows(path).empty() && rows.size() == 6 && rows[0].lost == 100);
  CHECK(writing.lost() == 100);
  std::weak_ptr<CsvFile> old = writing.file;
  writing.file.reset();
  Sync(&writing.writer);
  CHECK(old.expired());  // with its block
}

// As for a pipe that is closed before its reader has taken all.
void MovedFromPipe() {
  Pipe pipe;
  std::string path = NextPath();
  Writing writing(pipe.file);
  std::shared_ptr<CsvFile> next = Create(path);
  Call(&writing.writer, [&writing, &next](CsvWriter& of) {
    of.AddFile(next);
    writing.producer.Write(5000);
    of.Flush();
    writing.producer.table->MoveTo(next);
    of.CloseFile(writing.file, 0);
  });
  Sync(&writing.writer);
  uint64_t lost = writing.lost();
  uint64_t read = Lines(pipe.Read()).size() - 1;
  std::vector<Row> rows = Rows(path);
  CHECK(lost > 0 && lost + read == 5000);
  CHECK(rows.size() == 1 && rows[0].lost == lost);
}

// Nothing but the pipe itself waits for its reader.
void ClosingPipe(bool read) {
  Pipe pipe;
  Writing writing(pipe.file);
  uint64_t before = CsvWriter::Now();
  Call(&writing.writer, [&writing](CsvWriter& of) {
    writing.producer.Write(5000);
    of.CloseFile(writing.file, 400);
  });
  Sync(&writing.writer);
  CHECK(CsvWriter::Now() - before < 300000000);
  CHECK(writing.file->figures().rows_lost == 0);
  uint64_t rows = read ? Lines(pipe.Read()).size() - 1 : 0;
  while (!read && writing.file->figures().rows_lost == 0) std::this_thread::yield();
  uint64_t took = CsvWriter::Now() - before;
  CHECK(read ? took < 390000000 : took > 390000000);
  writing.writer.Stop();
  CsvFile::Figures figures = writing.file->figures();
  CHECK(!read || rows == 5000);
  CHECK(figures.events + figures.events_lost == 5000 && writing.lost() == figures.events_lost);
}

// Stopping gives it the rest of its time.
void StopWhileClosing() {
  Pipe pipe;
  Writing writing(pipe.file);
  Call(&writing.writer, [&writing](CsvWriter& of) {
    writing.producer.Write(5000);
    of.CloseFile(writing.file, 5000);
  });
  std::string text;
  std::thread reader([&pipe, &text] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    text = pipe.Read();
  });
  writing.writer.Stop();
  reader.join();
  CHECK(Lines(text).size() == 5001);
}

// The last row waits for its turn like what is told before it.
void EndInFullPipe() {
  Pipe pipe;
  Writing writing(pipe.file);
  Call(&writing.writer, [&writing](CsvWriter&) {
    writing.producer.Write(40000);
    writing.producer.table->End(CsvWriter::Now(), writing.producer.source);
  });
  Sync(&writing.writer);
  uint64_t lost = writing.lost();
  std::string text;
  std::thread reader([&pipe, &text] { text = pipe.Read(); });
  writing.writer.Post([&writing](CsvWriter& of) { of.CloseFile(writing.file, 5000); });
  reader.join();
  Telling telling = Tell(text);
  CHECK(telling.next == 40000 && telling.lost == lost && lost > 0 && telling.ended);
}

// However many processes there are while nobody reads.
void ManySources() {
  Pipe pipe;
  Writing writing(pipe.file);
  constexpr uint32_t kSources = 70000;
  Call(&writing.writer, [&writing](CsvWriter&) {
    writing.producer.Write(40000);  // more than there is room for
    for (uint32_t id = 1000; id < 1000 + kSources; id++) {
      writing.producer.source = SourceOf(id);
      writing.producer.Write(2);
      writing.producer.table->End(CsvWriter::Now(), writing.producer.source);
    }
  });
  Sync(&writing.writer);
  CsvFile::Figures figures = writing.file->figures();
  CHECK(writing.lost() == figures.events_lost && figures.events_lost > 2 * kSources);
  CHECK(writing.producer.table->losses().size() == (1 << 16) + 1);
}

}  // namespace

int main(int argc, char** argv) {
  CHECK(argc == 2);
  scratch = argv[1];
  FlushOnFullDisk();
  StopOnFullDisk();
  MovedOnFullDisk();
  MovedFromPipe();
  ClosingPipe(false);
  ClosingPipe(true);
  StopWhileClosing();
  EndInFullPipe();
  ManySources();
  printf("ok\n");
  return 0;
}
