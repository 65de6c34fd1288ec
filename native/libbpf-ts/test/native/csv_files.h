// SPDX-License-Identifier: MIT
// Files and folders for the tests of tables: made, measured, and read back with the tools others
// use.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cstdio>
#include <string>
#include "csv_producer.h"

struct Form {
  libbpf_ts::Compression compression;
  const char* extension;
  const char* reader;
};
inline constexpr Form kForms[] = {{libbpf_ts::Compression::kNone, ".csv", "cat"},
                                  {libbpf_ts::Compression::kGzip, ".csv.gz", "gzip -dc"},
                                  {libbpf_ts::Compression::kZstd, ".csv.zst", "zstd -qdc"}};

inline std::string root;

// A fresh folder each time.
inline std::string Folder(const std::string& parent = root) {
  static int number = 0;
  std::string folder = parent + "/" + std::to_string(number++);
  CHECK(mkdir(folder.c_str(), 0755) == 0);
  return folder;
}

inline libbpf_ts::Fd OpenFolder(const std::string& folder) {
  return libbpf_ts::Fd(open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
}

inline libbpf_ts::Fd Create(const std::string& path, mode_t mode = 0644) {
  libbpf_ts::Fd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, mode));
  CHECK(fd.valid());
  return fd;
}

inline libbpf_ts::CsvFileOptions Options(const std::string& name,
                                         libbpf_ts::Compression compression,
                                         uint64_t max_size = 0) {
  return {name, kHeader, max_size, compression};
}

inline std::string Read(const std::string& path, const char* reader) {
  FILE* pipe = popen((std::string(reader) + " " + path).c_str(), "r");
  CHECK(pipe != nullptr);
  std::string text;
  char buffer[65536];
  while (size_t count = fread(buffer, 1, sizeof buffer, pipe)) text.append(buffer, count);
  CHECK(pclose(pipe) == 0);
  return text;
}

inline uint64_t SizeOf(const std::string& path) {
  struct stat status;
  CHECK(lstat(path.c_str(), &status) == 0);
  return static_cast<uint64_t>(status.st_size);
}

inline bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

// Name of the file with this number.
inline std::string Numbered(const std::string& stem, uint32_t number, const char* extension) {
  return stem + (number == 0 ? "" : "." + std::to_string(number)) + extension;
}
