// SPDX-License-Identifier: MIT
// A file that only ever holds whole lines: buffered in one block, written with write(2), cut back
// when the disk is full, continued in another file at a size limit, compressed block by block. A
// pipe is never waited for. One thread writes; the figures may be read from any.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>
#include "compressor.h"
#include "failure.h"
#include "fd.h"
#include "file_series.h"
#include "loss_book.h"
#include "pipe_end.h"
#include "row_block.h"
#include "whole_file.h"

namespace libbpf_ts {

struct CsvFileOptions {
  std::string name;       // in the folder: "syscall.csv", "syscall.csv.gz", "syscall.csv.zst"
  std::string header;     // first line of each file, with its LF
  uint64_t max_size = 0;  // bytes of one file; 0: no limit
  Compression compression = Compression::kNone;
};

class CsvFile {
 public:
  struct Figures {             // running totals
    uint64_t rows = 0;         // in the files, headers aside
    uint64_t events = 0;       // of these
    uint64_t rows_lost = 0;    // that could not be written
    uint64_t events_lost = 0;  // of these
    uint64_t bytes = 0;        // in the files
    uint32_t files = 0;
    // errno of the last write that failed, 0 when none has. EAGAIN: a pipe's reader is slow.
    int problem = 0;
  };

  CsvFile() = default;
  CsvFile(const CsvFile&) = delete;
  CsvFile& operator=(const CsvFile&) = delete;
  ~CsvFile() { Close(0); }

  // `file` was just created by the caller and is empty, or is a pipe's end; `folder` is where
  // further ones go (only needed with max_size). Writes the header.
  Failure Open(Fd file, Fd folder, CsvFileOptions options);

  // Room for `size` bytes at the end of the block, which is written out first if need be. Null when
  // a pipe takes no more or the block before could not be written whole: call Drop then.
  char* Room(size_t size) { return block_.used() + size <= limit_ ? block_.end() : MakeRoom(size); }
  // What was put into the room: up to `end`, one row. `lost`: what a LOST row tells.
  void Commit(char* end, const std::shared_ptr<const Source>& source, RowKind kind,
              uint64_t lost = 0) {
    block_.Add(end, source, kind, 1, lost);
  }
  // Several whole lines at once, of any length; about nobody in particular. Counts them as lost
  // where there is no room.
  void Append(std::string_view lines, uint64_t rows);
  // One event for which there was no room.
  void Drop(const std::shared_ptr<const Source>& source);

  // Writes what is in the block. What could not be written is counted, and comes back from
  // TakeLost.
  void Flush() { WriteOut(); }
  // Waits for a pipe's reader up to `timeout_ms`, then gives up; closes.
  void Close(int timeout_ms);

  // What was to be in the file and is not, by source, since the last call: events, what LOST rows
  // told, a last row. To be told in the next rows.
  std::vector<Portion> TakeLost() { return lost_.Take(); }
  bool has_lost() const { return !lost_.empty(); }
  bool compressed() const { return compressor_ != nullptr; }
  bool empty() const;  // nothing waits to be written
  Figures figures() const;

 private:
  enum class Outcome { kGone, kWaits, kLost };

  int OpenPipe(Fd file);
  int OpenFile(Fd file);
  int Begin(WholeFile* file);
  int Rotate();
  void SetLimit();
  char* MakeRoom(size_t size);
  Outcome WriteOut();
  Outcome WriteToFile();
  Outcome WriteToPipe();
  // Makes `text` what it becomes in the file. 0 or an errno.
  int Pack(std::string_view* text, std::vector<char>* packed);
  void GiveUpBlock();
  void CountWritten(const std::vector<RowRun>& runs);
  void CountLost(const std::vector<RowRun>& runs);
  void SetProblem(int error) {
    if (error != 0) problem_.store(error, std::memory_order_relaxed);
  }

  CsvFileOptions options_;
  RowBlock block_;
  size_t limit_ = 0;  // bytes the block may have before it is written; 0 when closed
  std::unique_ptr<Compressor> compressor_;
  std::vector<char> packed_;
  WholeFile file_;
  uint64_t header_size_ = 0;  // in the file
  FileSeries series_;
  std::unique_ptr<PipeEnd> pipe_;  // null: it is a file
  unsigned refusals_ = 0;          // of Room, before a full pipe is tried again
  bool open_ = false;
  LossBook lost_;

  std::atomic<uint64_t> rows_{0};
  std::atomic<uint64_t> events_{0};
  std::atomic<uint64_t> rows_lost_{0};
  std::atomic<uint64_t> events_lost_{0};
  std::atomic<uint64_t> bytes_{0};
  std::atomic<uint32_t> files_{0};
  std::atomic<int> problem_{0};
};

}  // namespace libbpf_ts
