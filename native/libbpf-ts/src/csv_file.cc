// SPDX-License-Identifier: MIT
#include "csv_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

namespace libbpf_ts {

namespace {

// Large enough that a write costs nothing per row, small enough to stay in the cache until then.
constexpr size_t kBlock = 256 << 10;
// A frame begins without knowing what the one before held: larger ones compress better.
constexpr size_t kPackedBlock = 1 << 20;
// While a pipe is full most calls of Room do not ask the kernel again.
constexpr unsigned kRefusals = 63;

const std::shared_ptr<const Source> kNobody;

// Only one thread writes the figures, so no read-modify-write needs to be atomic.
template <typename Number>
void Add(std::atomic<Number>* to, Number value) {
  to->store(to->load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
}

// Of the first row: a LF between quotes ends none.
size_t RowLength(std::string_view lines) {
  bool quoted = false;
  for (size_t i = 0; i < lines.size(); i++) {
    if (lines[i] == '"') quoted = !quoted;
    if (lines[i] == '\n' && !quoted) return i + 1;
  }
  return lines.size();
}

}  // namespace

Failure CsvFile::Open(Fd file, Fd folder, CsvFileOptions options) {
  auto fail = [&options](int error) { return Fail(error, "open output file", options.name); };
  struct stat status;
  if (open_) return fail(EBUSY);
  if (fstat(file.get(), &status) != 0) return fail(errno);
  bool is_pipe = S_ISFIFO(status.st_mode);
  if (!is_pipe && !S_ISREG(status.st_mode)) return fail(EINVAL);
  if (!is_pipe && options.max_size > 0 && !folder.valid()) return fail(EINVAL);
  bool compressed = options.compression != Compression::kNone;
  if (!block_.Allocate(compressed ? kPackedBlock : kBlock, is_pipe)) return fail(ENOMEM);
  if (compressed) compressor_ = std::make_unique<Compressor>(options.compression);
  series_ = FileSeries(std::move(folder), options.name, file.get());
  options_ = std::move(options);
  if (int error = is_pipe ? OpenPipe(std::move(file)) : OpenFile(std::move(file))) {
    return Fail(error, "write the header of output file", options_.name);
  }
  files_.store(1, std::memory_order_relaxed);
  open_ = true;
  SetLimit();
  return {};
}

int CsvFile::OpenFile(Fd file) {
  WholeFile first(std::move(file));
  if (int error = Begin(&first)) return error;
  file_ = std::move(first);
  return 0;
}

// The header goes the way of rows: the pipe may be full already.
int CsvFile::OpenPipe(Fd file) {
  int flags = fcntl(file.get(), F_GETFL);
  if (flags < 0 || fcntl(file.get(), F_SETFL, flags | O_NONBLOCK) != 0) return errno;
  if (options_.header.size() > block_.capacity()) return EINVAL;
  pipe_ = std::make_unique<PipeEnd>(std::move(file));
  if (!pipe_->Allocate(block_.capacity())) return ENOMEM;
  memcpy(block_.end(), options_.header.data(), options_.header.size());
  block_.Add(block_.end() + options_.header.size(), kNobody, RowKind::kHeader, 1, 0);
  if (WriteToPipe() != Outcome::kLost) return 0;
  pipe_.reset();
  return problem_.load(std::memory_order_relaxed);
}

int CsvFile::Begin(WholeFile* file) {
  std::string_view header = options_.header;
  std::vector<char> packed;  // not packed_: the block is there while the next file is begun
  int error = Pack(&header, &packed);
  if (!error) error = file->Append(header);
  if (error) return error;
  header_size_ = header.size();
  Add<uint64_t>(&bytes_, header.size());
  return 0;
}

// The old file stays in use until the next one has its header.
int CsvFile::Rotate() {
  Fd fd;
  if (int error = series_.Create(&fd)) return error;
  WholeFile next(std::move(fd));
  if (int error = Begin(&next)) {
    series_.Discard();
    return error;
  }
  file_ = std::move(next);
  Add<uint32_t>(&files_, 1);
  return 0;
}

// What is not compressed fills a file to its last row: a block ends where the file has to.
void CsvFile::SetLimit() {
  limit_ = block_.capacity();
  if (options_.max_size == 0 || pipe_) return;
  uint64_t left = options_.max_size;
  if (!compressor_) {
    bool full = file_.size() >= left;
    uint64_t used = full ? header_size_ : file_.size();
    left = left > used ? left - used : 0;
  }
  limit_ = std::min<uint64_t>(limit_, left);
}

char* CsvFile::MakeRoom(size_t size) {
  if (!open_ || size > block_.capacity()) return nullptr;
  if (refusals_ > 0) {
    refusals_--;
    return nullptr;
  }
  Outcome outcome = block_.empty() ? Outcome::kGone : WriteOut();
  // A row that alone is beyond the limit is a block of its own.
  bool fits = block_.empty() || block_.used() + size <= limit_;
  if (fits && outcome != Outcome::kLost) return block_.end();
  if (!fits) refusals_ = kRefusals;
  if (outcome == Outcome::kWaits) SetProblem(EAGAIN);
  return nullptr;
}

void CsvFile::Append(std::string_view lines, uint64_t rows) {
  // A pipe may take some rows and not others, so there each is committed by itself.
  bool at_once = !pipe_ && lines.size() <= limit_;
  while (!lines.empty()) {
    size_t length = at_once ? lines.size() : RowLength(lines);
    uint64_t count = length == lines.size() ? rows : std::min<uint64_t>(rows, 1);
    char* room = Room(length);
    // The block before may have been lost; there is nobody to be told of it before this one.
    if (!room) room = Room(length);
    if (room) {
      memcpy(room, lines.data(), length);
      block_.Add(room + length, kNobody, RowKind::kOther, count, 0);
    } else {
      Add(&rows_lost_, count);
    }
    lines.remove_prefix(length);
    rows -= count;
  }
}

void CsvFile::Drop(const std::shared_ptr<const Source>& source) {
  lost_.Add({source, 1, 1});
  Add<uint64_t>(&rows_lost_, 1);
  Add<uint64_t>(&events_lost_, 1);
}

int CsvFile::Pack(std::string_view* text, std::vector<char>* packed) {
  if (!compressor_) return 0;
  if (!compressor_->Compress(*text, packed)) return ENOMEM;
  *text = {packed->data(), packed->size()};
  return 0;
}

CsvFile::Outcome CsvFile::WriteOut() {
  if (!open_) return Outcome::kLost;
  return pipe_ ? WriteToPipe() : WriteToFile();
}

CsvFile::Outcome CsvFile::WriteToFile() {
  if (block_.empty()) return Outcome::kGone;
  std::string_view bytes = block_.text();
  int problem = 0;  // of the next file, which does not keep the block from this one
  int error = Pack(&bytes, &packed_);
  bool beyond = options_.max_size > 0 && file_.size() + bytes.size() > options_.max_size;
  if (!error && beyond && file_.size() > header_size_) problem = Rotate();
  if (!error) error = file_.Append(bytes);
  SetProblem(error ? error : problem);
  if (error) {
    GiveUpBlock();
  } else {
    Add<uint64_t>(&bytes_, bytes.size());
    CountWritten(block_.runs());
    block_.Clear();
  }
  SetLimit();
  return error ? Outcome::kLost : Outcome::kGone;
}

CsvFile::Outcome CsvFile::WriteToPipe() {
  refusals_ = 0;
  for (;;) {
    if (pipe_->idle()) {
      if (block_.empty()) return Outcome::kGone;
      std::string_view bytes = block_.text();
      if (int error = Pack(&bytes, &packed_)) {
        SetProblem(error);
        GiveUpBlock();
        return Outcome::kLost;
      }
      pipe_->Load(&block_, compressor_ ? &packed_ : nullptr);
    }
    int error = pipe_->Send();
    bytes_.store(pipe_->bytes(), std::memory_order_relaxed);
    if (error == EAGAIN) return Outcome::kWaits;
    SetProblem(error);
    PipeEnd::Outcome outcome = pipe_->Settle(false);
    CountWritten(outcome.written);
    CountLost(outcome.lost);
    if (error) return Outcome::kLost;
  }
}

void CsvFile::Close(int timeout_ms) {
  if (!open_) return;
  using Clock = std::chrono::steady_clock;
  auto until = Clock::now() + std::chrono::milliseconds(timeout_ms);
  Outcome outcome = WriteOut();
  while (outcome == Outcome::kWaits) {
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count();
    if (left <= 0) break;
    pipe_->Wait(static_cast<int>(left));
    outcome = WriteOut();
  }
  if (pipe_) {
    if (outcome == Outcome::kWaits) SetProblem(EAGAIN);
    PipeEnd::Outcome rest = pipe_->Settle(true);
    CountWritten(rest.written);
    CountLost(rest.lost);
    pipe_.reset();
  }
  GiveUpBlock();
  file_.Close();
  open_ = false;
  limit_ = 0;
}

void CsvFile::GiveUpBlock() {
  CountLost(block_.runs());
  block_.Clear();
}

void CsvFile::CountWritten(const std::vector<RowRun>& runs) {
  uint64_t rows = 0;
  uint64_t events = 0;
  for (const RowRun& run : runs) {
    if (run.kind != RowKind::kHeader) rows += run.rows;
    if (run.kind == RowKind::kEvent) events += run.rows;
  }
  Add(&rows_, rows);
  Add(&events_, events);
}

void CsvFile::CountLost(const std::vector<RowRun>& runs) {
  for (const RowRun& run : runs) {
    if (run.kind == RowKind::kHeader) continue;
    uint64_t events = run.kind == RowKind::kEvent ? run.rows : 0;
    Add(&rows_lost_, run.rows);
    Add(&events_lost_, events);
    bool ended = run.kind == RowKind::kEnd;
    if (events + run.lost > 0 || ended) lost_.Add({run.source, run.rows, events, run.lost, ended});
  }
}

bool CsvFile::empty() const { return block_.empty() && (!pipe_ || pipe_->idle()); }

CsvFile::Figures CsvFile::figures() const {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  Figures figures;
  figures.rows = rows_.load(kRelaxed);
  figures.events = events_.load(kRelaxed);
  figures.rows_lost = rows_lost_.load(kRelaxed);
  figures.events_lost = events_lost_.load(kRelaxed);
  figures.bytes = bytes_.load(kRelaxed);
  figures.files = files_.load(kRelaxed);
  figures.problem = problem_.load(kRelaxed);
  return figures;
}

}  // namespace libbpf_ts
