// SPDX-License-Identifier: MIT
// NativeCsvWriter, NativeCsvFile and NativeTap: the writing thread as JavaScript sees it.
#pragma once

#include <napi.h>
#include <array>
#include <atomic>
#include <memory>
#include "csv_writer.h"
#include "resource.h"

namespace libbpf_ts {

// What JavaScript is told of by itself; as in lib/csv-writer.ts.
enum class Told : uint32_t { kSynced = 0, kTapReadable = 1 };

// Lives until closed by JavaScript or with the environment.
class WriterCore : public Resource {
 public:
  ~WriterCore() override { Close(); }
  Failure Start(Napi::Env env, Napi::Function on_event);
  CsvWriter& writer() { return writer_; }
  // From any thread: on_event(kind, id) in JavaScript.
  void Tell(Told kind, uint32_t id);
  // The process stays alive while somebody waits for an answer.
  void Await();
  void Answered();

 protected:
  void DoClose() override;

 private:
  static void OnEnvironmentExit(void* core);

  CsvWriter writer_;
  napi_env env_ = nullptr;
  napi_threadsafe_function tell_ = nullptr;
  uint32_t awaited_ = 0;
};

// A file and what waits to be written to it.
struct FileHandle {
  CsvFile file;
  std::atomic<uint64_t> queued{0};   // bytes posted and not yet appended
  std::atomic<uint64_t> refused{0};  // rows that found the queue full
};

class FileWrap : public Napi::ObjectWrap<FileWrap> {
 public:
  static constexpr napi_type_tag kTag = {0x6c696262706674d1, 0xb0a1d2c3e4f50008};
  static constexpr const char* kExpected = "a CSV file";
  struct Seed {
    std::shared_ptr<WriterCore> core;
    std::shared_ptr<FileHandle> handle;
  };
  static void Init(Napi::Env env);
  static Napi::Value New(Napi::Env env, Seed seed);
  explicit FileWrap(const Napi::CallbackInfo& info);

  std::shared_ptr<CsvFile> file() const { return {seed_.handle, &seed_.handle->file}; }

 private:
  Napi::Value Append(const Napi::CallbackInfo& info);
  Napi::Value Figures(const Napi::CallbackInfo& info);
  Napi::Value CloseFile(const Napi::CallbackInfo& info);

  Seed seed_;
};

class TapWrap : public Napi::ObjectWrap<TapWrap> {
 public:
  struct Seed {
    std::shared_ptr<WriterCore> core;
    std::shared_ptr<StreamTable> table;
    std::shared_ptr<EventTap> tap;
  };
  static void Init(Napi::Env env);
  static Napi::Value New(Napi::Env env, Seed seed);
  explicit TapWrap(const Napi::CallbackInfo& info);

 private:
  Napi::Value Take(const Napi::CallbackInfo& info);
  Napi::Value CloseTap(const Napi::CallbackInfo& info);

  Seed seed_;
};

class WriterWrap : public Napi::ObjectWrap<WriterWrap> {
 public:
  static void Init(Napi::Env env, Napi::Object exports);
  explicit WriterWrap(const Napi::CallbackInfo& info);

 private:
  Napi::Value ReadEvents(const Napi::CallbackInfo& info);
  Napi::Value OpenFile(const Napi::CallbackInfo& info);
  Napi::Value Bind(const Napi::CallbackInfo& info);
  Napi::Value MoveTo(const Napi::CallbackInfo& info);
  Napi::Value Unbind(const Napi::CallbackInfo& info);
  Napi::Value Introduce(const Napi::CallbackInfo& info);
  Napi::Value Lost(const Napi::CallbackInfo& info);
  Napi::Value End(const Napi::CallbackInfo& info);
  Napi::Value Sync(const Napi::CallbackInfo& info);
  Napi::Value Losses(const Napi::CallbackInfo& info);
  Napi::Value Tap(const Napi::CallbackInfo& info);
  Napi::Value CloseWriter(const Napi::CallbackInfo& info);
  bool Usable(const Napi::CallbackInfo& info, const char* operation);
  bool ReadStream(const Napi::CallbackInfo& info, size_t index, uint32_t* stream);
  bool ReadBound(const Napi::CallbackInfo& info, size_t index, uint32_t* stream);

  std::shared_ptr<WriterCore> core_;
  std::array<std::shared_ptr<StreamTable>, EventDispatch::kStreams> tables_;
  bool reading_ = false;
};

}  // namespace libbpf_ts
