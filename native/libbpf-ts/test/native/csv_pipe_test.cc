// SPDX-License-Identifier: MIT
// Pipes: a reader that is slow, stops, or goes away sees whole rows in order, and learns of each
// that is missing; the writer never waits. Run under AddressSanitizer and ThreadSanitizer.
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>
#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include "csv_files.h"
#include "csv_producer.h"

using libbpf_ts::Compression;
using libbpf_ts::CsvFile;
using libbpf_ts::Fd;

namespace {

std::string Fifo() {
  static int number = 0;
  std::string path = root + "/fifo" + std::to_string(number++);
  CHECK(mkfifo(path.c_str(), 0600) == 0);
  return path;
}

Fd OpenReader(const std::string& path) {
  Fd fd(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  CHECK(fd.valid());
  return fd;
}

Fd OpenWriter(const std::string& path) {
  Fd fd(open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
  CHECK(fd.valid());
  return fd;
}

void Open(CsvFile* file, const std::string& path, Compression compression = Compression::kNone) {
  CHECK(!file->Open(OpenWriter(path), Fd(), {"fifo", kHeader, 0, compression}));
}

// Up to `most` bytes of what is there now.
std::string ReadSome(const Fd& fd, size_t most) {
  std::string text(most, '\0');
  ssize_t count = read(fd.get(), &text[0], most);
  CHECK(count >= 0 || errno == EAGAIN);
  text.resize(count > 0 ? static_cast<size_t>(count) : 0);
  return text;
}

std::string ReadAll(const Fd& fd) {
  std::string text;
  for (std::string more; !(more = ReadSome(fd, 1 << 20)).empty();) text += more;
  return text;
}

// Until the writer has closed. A piece at a time, with pauses that grow and go.
std::string ReadToEnd(Fd fd, size_t piece, unsigned pause_us) {
  std::string text;
  std::string buffer(piece, '\0');
  for (unsigned round = 0;; round++) {
    pollfd wanted = {fd.get(), POLLIN, 0};
    CHECK(poll(&wanted, 1, 20000) == 1);
    ssize_t count = read(fd.get(), &buffer[0], piece);
    if (count == 0) return text;
    CHECK(count > 0);
    text.append(buffer, 0, static_cast<size_t>(count));
    if (round / 16 % 2) std::this_thread::sleep_for(std::chrono::microseconds(pause_us));
  }
}

std::string Unpacked(const std::string& bytes, const char* reader) {
  std::string path = root + "/packed";
  FILE* file = fopen(path.c_str(), "w");
  CHECK(file && fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size() && fclose(file) == 0);
  return Read(path, reader);
}

// In bursts, while another thread reads.
void WithReader(const Form& form, size_t piece, unsigned pause_us, bool loses) {
  std::string path = Fifo();
  Fd reader_fd = OpenReader(path);
  CsvFile file;
  Open(&file, path, form.compression);
  std::string text;
  std::thread reader([&] { text = ReadToEnd(std::move(reader_fd), piece, pause_us); });
  Producer producer(&file, 5);
  for (int i = 0; i < 40; i++) {
    producer.Write(2000);
    if (i % 4 == 0) file.Flush();
    // A reader that keeps up is to be seen keeping up on a busy machine, too.
    for (int wait = 0; !loses && wait < 20000 && !file.empty(); wait++) {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
      file.Flush();
    }
  }
  producer.Tell();
  producer.End();
  if (!loses) producer.Write(5000);  // more than a pipe holds: closing waits for the reader
  file.Close(20000);
  reader.join();
  CHECK(file.figures().bytes == text.size());
  Reading reading;
  reading.All(Unpacked(text, form.reader));
  producer.Check(reading);
  CHECK((file.figures().events_lost > 0) == loses);
}

// Nobody reads while far more happens than a pipe and a block hold; then somebody does again.
void ReaderStops() {
  std::string path = Fifo();
  Fd reader = OpenReader(path);
  CsvFile file;
  Open(&file, path);
  Producer producer(&file, 5);
  std::string text;
  uint64_t written = 0;
  for (int round = 0; round < 6; round++) {
    bool flood = round % 2 == 0;
    uint64_t lost = file.figures().events_lost;
    producer.Write(flood ? 120000 : 8000);
    CHECK((file.figures().events_lost > lost) == flood);
    CHECK(!flood || file.figures().problem == EAGAIN);
    text += ReadSome(reader, 12345);
    while (!file.empty()) {
      text += ReadSome(reader, 77777);
      file.Flush();
    }
    CHECK(file.figures().rows > written && file.figures().problem == EAGAIN);
    written = file.figures().rows;
  }
  file.Close(0);
  text += ReadAll(reader);
  Reading reading;
  reading.All(text);
  producer.Check(reading);
  CHECK(file.figures().bytes == text.size());
}

// Closed while nobody reads: what was not sent is lost, what was sent is whole rows.
void NeverRead() {
  std::string path = Fifo();
  Fd reader = OpenReader(path);
  CsvFile file;
  Open(&file, path);
  Producer producer(&file, 3);
  producer.Write(900);  // none longer than a pipe takes at once
  file.Flush();
  producer.Write(50);
  file.Close(20);
  CHECK(file.figures().rows == 950 && file.figures().problem == 0);
  CsvFile other;
  std::string other_path = Fifo();
  Fd other_reader = OpenReader(other_path);
  Open(&other, other_path);
  Producer more(&other, 300);
  more.Write(20000);
  other.Close(20);
  CHECK(other.figures().problem == EAGAIN && other.figures().rows_lost > 0);
  Reading reading;
  reading.All(ReadAll(other_reader));
  more.Check(reading);
}

// The reader goes in the middle of a row, and another one comes: it finds what is left in the pipe,
// the rest of what had begun, then whole rows. Nothing kills the writer.
void ReaderVanishes(const Form& form, size_t taken) {
  std::string path = Fifo();
  Fd reader = OpenReader(path);
  CsvFile file;
  Open(&file, path, form.compression);
  Producer producer(&file, 4);
  while (file.figures().events_lost == 0) {  // so the pipe is full
    producer.Write(3000);
    file.Flush();
  }
  std::string text = ReadSome(reader, taken);
  CHECK(text.size() == taken);
  file.Flush();
  reader.Reset();
  for (int i = 0; i < 20; i++) {
    producer.Write(3000);
    file.Flush();
  }
  CHECK(file.figures().problem == EPIPE && file.figures().events_lost > 0);
  Fd keeper = OpenReader(path);
  for (int i = 0; i < 10; i++) {
    text += ReadAll(keeper);
    producer.Write(100);
    file.Flush();
  }
  std::thread last([&] { text += ReadToEnd(std::move(keeper), 4096, 0); });
  producer.Tell();
  file.Close(20000);
  last.join();
  Reading reading;
  reading.All(Unpacked(text, form.reader));
  producer.Check(reading);
}

void GoneForGood(bool torn) {
  std::string path = Fifo();
  Fd reader = OpenReader(path);
  CsvFile file;
  Open(&file, path);
  Producer producer(&file, 1);
  producer.Write(torn ? 20000 : 10);
  file.Flush();
  std::string text = ReadSome(reader, 1 << 20);
  reader.Reset();
  for (int i = 0; i < 5; i++) producer.Write(20000);
  file.Close(1000);
  CHECK(file.figures().problem == EPIPE);
  CHECK(file.figures().events + file.figures().events_lost == producer.happened());
  CHECK(file.figures().rows_lost > 90000);
}

// A row too long for a pipe to take at once is broken off and continued.
void LongRows() {
  std::string path = Fifo();
  Fd reader = OpenReader(path);
  CsvFile file;
  Open(&file, path);
  std::string expected = kHeader;
  std::string text;
  for (int i = 0; i < 60; i++) {
    std::string row = std::to_string(i) + std::string(i % 2 ? 90000 : 10, 'x') + "\n";
    file.Append(row, 1);
    expected += row;
    file.Flush();
    if (i % 3 == 0) text += ReadSome(reader, 50001);
    while (!file.empty()) {
      text += ReadSome(reader, 10007);
      file.Flush();
    }
  }
  file.Close(0);
  text += ReadAll(reader);
  CHECK(text == expected && file.figures().rows == 60 && file.figures().rows_lost == 0);
}

// The reader goes while a long row is under way: the row is finished for the next one, what was to
// follow it at that time is lost.
void LongRowBrokenOff() {
  std::string path = Fifo();
  Fd reader = OpenReader(path);
  CsvFile file;
  Open(&file, path);
  // Pages of a pipe and most of another: the last piece has room for the rows that were to follow.
  std::string long_row = std::string(21 * 4096 + 4079, 'x') + "\n";
  file.Append("1\n2\n" + long_row + "3\n4\n5\n", 6);
  file.Flush();
  std::string text = ReadSome(reader, 10000);
  reader.Reset();
  for (int i = 0; i < 3; i++) {
    file.Flush();
    CHECK(file.figures().problem == EPIPE && file.figures().rows == 2);
    CHECK(file.figures().rows_lost == 3 && !file.empty());
  }
  file.Append("6\n", 1);
  reader = OpenReader(path);
  while (!file.empty()) {
    text += ReadSome(reader, 1000);
    file.Flush();
  }
  file.Close(0);
  text += ReadAll(reader);
  CHECK(text == kHeader + ("1\n2\n" + long_row) + "6\n");
  CHECK(file.figures().rows == 4 && file.figures().rows_lost == 3);
}

// The header has to wait when the pipe is full of somebody else's rows, and fails without a reader.
void Header() {
  std::string path = Fifo();
  Fd reader = OpenReader(path);
  Fd other = OpenWriter(path);
  std::string full(1 << 20, 'x');
  full.back() = '\n';
  CHECK(write(other.get(), full.data(), full.size()) > 0);
  CsvFile file;
  Open(&file, path);
  CHECK(!file.empty());
  file.Append("1\n", 1);
  std::string before = ReadAll(reader);
  file.Close(1000);
  CHECK(ReadAll(reader) == std::string(kHeader) + "1\n");
  CHECK(file.figures().rows == 1 && before.size() < full.size());

  Fd writer = OpenWriter(path);
  reader.Reset();
  CHECK(CsvFile().Open(std::move(writer), Fd(), {"fifo", kHeader, 0, Compression::kNone}).error ==
        EPIPE);
}

// Rows in a long text are told apart, though cells have line breaks.
void AppendedText() {
  std::string path = Fifo();
  Fd reader = OpenReader(path);
  CsvFile file;
  Open(&file, path);
  std::string text;
  for (int i = 0; i < 30000; i++) text += "\"a\n\"\"" + std::to_string(i) + "\n\",\n";
  file.Append(text, 30000);
  file.Close(0);
  std::string read = ReadAll(reader);
  CHECK(kHeader + text.substr(0, read.size() - strlen(kHeader)) == read);
  CsvFile::Figures figures = file.figures();
  CHECK(figures.rows + figures.rows_lost == 30000 && figures.rows_lost > 0);
  CHECK(read.substr(read.size() - 4) == "\n\",\n");
  CHECK(read.find("\"" + std::to_string(figures.rows - 1) + "\n") != std::string::npos);
  CHECK(read.find("\"" + std::to_string(figures.rows) + "\n") == std::string::npos);
}

void FiguresFromAnotherThread() {
  std::string path = Fifo();
  Fd reader = OpenReader(path);
  CsvFile file;
  Open(&file, path);
  std::atomic<bool> done{false};
  std::thread looker([&file, &done] {
    uint64_t lost = 0;
    while (!done.load()) {
      CsvFile::Figures now = file.figures();
      CHECK(now.rows_lost >= lost);
      lost = now.rows_lost;
    }
  });
  Producer producer(&file, 3);
  producer.Write(100000);
  file.Close(0);
  done.store(true);
  looker.join();
}

}  // namespace

// Its argument is an empty folder.
int main(int argc, char** argv) {
  CHECK(argc == 2);
  root = argv[1];
  for (const Form& form : kForms) {
    WithReader(form, 65536, 0, false);
    for (size_t taken : {1, 10000, 30000}) ReaderVanishes(form, taken);
  }
  WithReader(kForms[0], 5000, 2000, true);
  ReaderStops();
  NeverRead();
  GoneForGood(false);
  GoneForGood(true);
  LongRows();
  LongRowBrokenOff();
  Header();
  AppendedText();
  FiguresFromAnotherThread();
  printf("ok\n");
  return 0;
}
