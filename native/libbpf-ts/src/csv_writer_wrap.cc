// SPDX-License-Identifier: MIT
#include "csv_writer_wrap.h"

#include <fcntl.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include "arguments.h"
#include "environment.h"
#include "event_spec.h"
#include "table_wrap.h"

namespace libbpf_ts {
namespace {

// Programs that were running when they were detached have ended: synchronize_rcu() by another name.
void AwaitPrograms() {
  if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) != 0) usleep(50000);  // nohz_full
}

}  // namespace

void WriterWrap::Init(Napi::Env env, Napi::Object exports) {
  FileWrap::Init(env);
  TapWrap::Init(env);
  exports.Set(
      "NativeCsvWriter",
      DefineClass(
          env, "NativeCsvWriter",
          {InstanceMethod<&WriterWrap::ReadEvents>("readEvents"),
           InstanceMethod<&WriterWrap::OpenFile>("openFile"),
           InstanceMethod<&WriterWrap::Bind>("bind"), InstanceMethod<&WriterWrap::MoveTo>("moveTo"),
           InstanceMethod<&WriterWrap::Unbind>("unbind"),
           InstanceMethod<&WriterWrap::Introduce>("introduce"),
           InstanceMethod<&WriterWrap::Lost>("lost"), InstanceMethod<&WriterWrap::End>("end"),
           InstanceMethod<&WriterWrap::Sync>("sync"), InstanceMethod<&WriterWrap::Losses>("losses"),
           InstanceMethod<&WriterWrap::Tap>("tap"),
           InstanceMethod<&WriterWrap::CloseWriter>("close")}));
}

// new NativeCsvWriter(onEvent: (kind: number, id: number) => void)
WriterWrap::WriterWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<WriterWrap>(info) {
  if (!info[0].IsFunction()) {
    WrongArgument(info, 0, "a function");
    return;
  }
  auto core = std::make_shared<WriterCore>();
  Failure failure = core->Start(info.Env(), info[0].As<Napi::Function>());
  if (failure) {
    core->Close();
    Throw(info.Env(), failure);
    return;
  }
  Environment::Of(info.Env()).Keep(core);
  core_ = std::move(core);
}

bool WriterWrap::Usable(const Napi::CallbackInfo& info, const char* operation) {
  if (core_ && !core_->closed()) return true;
  ThrowClosed(info.Env(), operation, "CSV writer");
  return false;
}

bool WriterWrap::ReadStream(const Napi::CallbackInfo& info, size_t index, uint32_t* stream) {
  if (!Read(info, index, stream)) return false;
  return *stream < EventDispatch::kStreams || WrongArgument(info, index, "a stream's number");
}

bool WriterWrap::ReadBound(const Napi::CallbackInfo& info, size_t index, uint32_t* stream) {
  if (!ReadStream(info, index, stream)) return false;
  return tables_[*stream] || WrongArgument(info, index, "a stream that is bound");
}

// openFile(fd, folderFd, name, header, maxSize, compression: 0 | 1 | 2) => NativeCsvFile
Napi::Value WriterWrap::OpenFile(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int32_t fd = -1, folder = -1;
  uint32_t compression = 0;
  CsvFileOptions options;
  if (!Usable(info, "open file") || !Read(info, 0, &fd) || !Read(info, 1, &folder) ||
      !Read(info, 2, &options.name) || !Read(info, 3, &options.header) ||
      !Read(info, 4, &options.max_size) || !Read(info, 5, &compression)) {
    return env.Undefined();
  }
  if (compression > static_cast<uint32_t>(Compression::kZstd)) {
    WrongArgument(info, 5, "a kind of compression");
    return env.Undefined();
  }
  options.compression = static_cast<Compression>(compression);
  auto handle = std::make_shared<FileHandle>();
  // Descriptors of our own; JavaScript closes its.
  Failure failure = handle->file.Open(Fd(fcntl(fd, F_DUPFD_CLOEXEC, 3)),
                                      Fd(fcntl(folder, F_DUPFD_CLOEXEC, 3)), std::move(options));
  if (failure) {
    Throw(env, failure);
    return env.Undefined();
  }
  std::shared_ptr<CsvFile> file(handle, &handle->file);
  core_->writer().Post([file](CsvWriter& writer) { writer.AddFile(file); });
  return FileWrap::New(env, {core_, std::move(handle)});
}

// bind(stream, table: NativeEventTable, file: NativeCsvFile)
Napi::Value WriterWrap::Bind(const Napi::CallbackInfo& info) {
  uint32_t stream = 0;
  TableWrap* table = nullptr;
  FileWrap* file = nullptr;
  if (!Usable(info, "bind stream") || !ReadStream(info, 0, &stream) ||
      !ReadInstance(info, 1, &table) || !ReadInstance(info, 2, &file)) {
    return info.Env().Undefined();
  }
  if (stream < EventDispatch::kFirst) {
    WrongArgument(info, 0, "the number of a table's stream");
    return info.Env().Undefined();
  }
  auto bound = std::make_shared<StreamTable>(table->table(), file->file());
  tables_[stream] = bound;
  core_->writer().Post(
      [stream, bound](CsvWriter& writer) { writer.dispatch().Bind(stream, bound); });
  return info.Env().Undefined();
}

// moveTo(stream, file: NativeCsvFile)
Napi::Value WriterWrap::MoveTo(const Napi::CallbackInfo& info) {
  uint32_t stream = 0;
  FileWrap* file = nullptr;
  if (!Usable(info, "move stream") || !ReadBound(info, 0, &stream) ||
      !ReadInstance(info, 1, &file)) {
    return info.Env().Undefined();
  }
  core_->writer().Post([table = tables_[stream], next = file->file()](CsvWriter&) {
    table->Settle(CsvWriter::Now());
    table->MoveTo(next);
  });
  return info.Env().Undefined();
}

Napi::Value WriterWrap::Unbind(const Napi::CallbackInfo& info) {
  uint32_t stream = 0;
  if (!Usable(info, "unbind stream") || !ReadStream(info, 0, &stream)) {
    return info.Env().Undefined();
  }
  tables_[stream].reset();
  core_->writer().Post([stream](CsvWriter& writer) { writer.dispatch().Unbind(stream); });
  return info.Env().Undefined();
}

// introduce(id, pid, name)
Napi::Value WriterWrap::Introduce(const Napi::CallbackInfo& info) {
  uint32_t id = 0, pid = 0;
  Bytes name;
  if (!Usable(info, "introduce source") || !Read(info, 0, &id) || !Read(info, 1, &pid) ||
      !Read(info, 2, &name)) {
    return info.Env().Undefined();
  }
  std::string text(reinterpret_cast<const char*>(name.data), name.size);
  core_->writer().Post(
      [id, pid, text](CsvWriter& writer) { writer.dispatch().Suggest(id, pid, text); });
  return info.Env().Undefined();
}

// lost(stream, id, count): records that no record in the rings tells of
Napi::Value WriterWrap::Lost(const Napi::CallbackInfo& info) {
  uint32_t stream = 0, id = 0;
  uint64_t count = 0;
  if (!Usable(info, "tell loss") || !ReadStream(info, 0, &stream) || !Read(info, 1, &id) ||
      !Read(info, 2, &count)) {
    return info.Env().Undefined();
  }
  core_->writer().Post([stream, id, count](CsvWriter& writer) {
    writer.Drain();
    writer.dispatch().Lost(stream, id, count, CsvWriter::Now());
  });
  return info.Env().Undefined();
}

// end(ids: number[]): of sources of which everything is in the rings
Napi::Value WriterWrap::End(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!Usable(info, "end sources")) return env.Undefined();
  if (!info[0].IsTypedArray() ||
      info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array) {
    WrongArgument(info, 0, "a Uint32Array");
    return env.Undefined();
  }
  Napi::Uint32Array array = info[0].As<Napi::Uint32Array>();
  std::vector<uint32_t> ids(array.Data(), array.Data() + array.ElementLength());
  core_->writer().Post([ids = std::move(ids)](CsvWriter& writer) {
    writer.Drain();
    uint64_t now = CsvWriter::Now();
    for (uint32_t id : ids) writer.dispatch().End(id, now);
  });
  return env.Undefined();
}

// sync(id, quiesce): onEvent(0, id) when everything up to now is written. `quiesce`: programs have
// just been detached; waits for those still running.
Napi::Value WriterWrap::Sync(const Napi::CallbackInfo& info) {
  uint32_t id = 0;
  bool quiesce = false;
  if (!Usable(info, "synchronise") || !Read(info, 0, &id) || !Read(info, 1, &quiesce)) {
    return info.Env().Undefined();
  }
  core_->Await();
  WriterCore* core = core_.get();  // joins the thread before it goes away
  core_->writer().Post([core, id, quiesce](CsvWriter& writer) {
    if (quiesce) AwaitPrograms();
    writer.Sync([core, id] { core->Tell(Told::kSynced, id); });
  });
  return info.Env().Undefined();
}

// losses(stream) => { pid, name: Buffer, count }[]
Napi::Value WriterWrap::Losses(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  uint32_t stream = 0;
  if (!Usable(info, "read figures") || !ReadBound(info, 0, &stream)) return env.Undefined();
  std::vector<StreamTable::Loss> losses = tables_[stream]->losses();
  Napi::Array all = Napi::Array::New(env, losses.size());
  for (uint32_t index = 0; index < losses.size(); index++) {
    const StreamTable::Loss& loss = losses[index];
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("pid", Napi::Number::New(env, loss.pid));
    entry.Set("name", Napi::Buffer<char>::Copy(env, loss.name.data(), loss.name.size()));
    entry.Set("count", Napi::Number::New(env, static_cast<double>(loss.count)));
    all.Set(index, entry);
  }
  return all;
}

// tap(stream, conditions, perSecond, id) => NativeTap; onEvent(1, id) when there is something to
// take
Napi::Value WriterWrap::Tap(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  uint32_t stream = 0, per_second = 0, id = 0;
  std::vector<Condition> where;
  if (!Usable(info, "tap stream") || !ReadBound(info, 0, &stream) ||
      !ReadConditions(info[1], &where) || !Read(info, 2, &per_second) || !Read(info, 3, &id)) {
    return env.Undefined();
  }
  auto tap = std::make_shared<EventTap>(std::move(where), per_second, [core = core_.get(), id] {
    core->Tell(Told::kTapReadable, id);
  });
  core_->writer().Post([table = tables_[stream], tap](CsvWriter&) { table->AddTap(tap); });
  return TapWrap::New(env, {core_, tables_[stream], tap});
}

Napi::Value WriterWrap::CloseWriter(const Napi::CallbackInfo& info) {
  if (core_) core_->Close();
  return info.Env().Undefined();
}

}  // namespace libbpf_ts
