// SPDX-License-Identifier: MIT
// The thread's life with the environment's, and the two smaller classes of csv_writer_wrap.h.
#include "arguments.h"
#include "csv_writer_wrap.h"
#include "environment.h"

namespace libbpf_ts {
namespace {

// Text of sampled tables that waits for a disk that stalls; beyond, rows are lost and counted.
constexpr uint64_t kMaxQueued = 32 << 20;

struct Message {
  Told kind;
  uint32_t id;
};

void CallJs(napi_env env, napi_value callback, void* context, void* data) {
  std::unique_ptr<Message> message(static_cast<Message*>(data));
  auto* core = static_cast<WriterCore*>(context);
  if (env == nullptr || callback == nullptr) return;
  if (message->kind == Told::kSynced) core->Answered();
  Napi::Env napi(env);
  Napi::HandleScope scope(napi);
  napi_value arguments[2] = {Napi::Number::New(napi, static_cast<uint32_t>(message->kind)),
                             Napi::Number::New(napi, message->id)};
  napi_call_function(env, Napi::Value(napi.Undefined()), callback, 2, arguments, nullptr);
}

}  // namespace

Failure WriterCore::Start(Napi::Env env, Napi::Function on_event) {
  napi_value name = Napi::String::New(env, "libbpf-ts CSV writer");
  napi_status status = napi_create_threadsafe_function(env, on_event, nullptr, name, 0, 1, nullptr,
                                                       nullptr, this, CallJs, &tell_);
  if (status != napi_ok) return Fail(ENOMEM, "start writer", "");
  napi_unref_threadsafe_function(env, tell_);  // must not keep the process alive
  // Hooks run last in, first out: this one before Node takes the function away from the thread.
  env_ = env;
  napi_add_env_cleanup_hook(env, OnEnvironmentExit, this);
  return writer_.Start();
}

void WriterCore::OnEnvironmentExit(void* core) { static_cast<WriterCore*>(core)->Close(); }

void WriterCore::DoClose() {
  writer_.Stop();  // joins the thread
  if (tell_ == nullptr) return;
  napi_release_threadsafe_function(tell_, napi_tsfn_abort);
  tell_ = nullptr;
  napi_remove_env_cleanup_hook(env_, OnEnvironmentExit, this);
}

void WriterCore::Tell(Told kind, uint32_t id) {
  auto* message = new Message{kind, id};
  if (napi_call_threadsafe_function(tell_, message, napi_tsfn_nonblocking) != napi_ok) {
    delete message;
  }
}

void WriterCore::Await() {
  if (awaited_++ == 0) napi_ref_threadsafe_function(env_, tell_);
}

void WriterCore::Answered() {
  if (--awaited_ == 0 && tell_ != nullptr) napi_unref_threadsafe_function(env_, tell_);
}

void FileWrap::Init(Napi::Env env) {
  Napi::Function constructor = DefineClass(
      env, "NativeCsvFile",
      {InstanceMethod<&FileWrap::Append>("append"), InstanceMethod<&FileWrap::Figures>("figures"),
       InstanceMethod<&FileWrap::CloseFile>("close")});
  Environment::Of(env).file_constructor = Napi::Persistent(constructor);
}

Napi::Value FileWrap::New(Napi::Env env, Seed seed) {
  return Environment::Of(env).file_constructor.New({Napi::External<Seed>::New(env, &seed)});
}

FileWrap::FileWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<FileWrap>(info) {
  if (!info[0].IsExternal()) {
    WrongArgument(info, 0, "made by a CSV writer");
    return;
  }
  seed_ = *info[0].As<Napi::External<Seed>>().Data();
  info.This().As<Napi::Object>().TypeTag(&kTag);
}

// append(lines, rows)
Napi::Value FileWrap::Append(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string lines;
  uint64_t rows = 0;
  if (seed_.core->closed()) {
    ThrowClosed(env, "append", "CSV file");
    return env.Undefined();
  }
  if (!Read(info, 0, &lines) || !Read(info, 1, &rows)) return env.Undefined();
  if (seed_.handle->queued.load() + lines.size() > kMaxQueued) {
    seed_.handle->refused += rows;
    return env.Undefined();
  }
  seed_.handle->queued += lines.size();
  seed_.core->writer().Post([handle = seed_.handle, lines = std::move(lines), rows](CsvWriter&) {
    handle->file.Append(lines, rows);
    handle->queued -= lines.size();
  });
  return env.Undefined();
}

// figures() => { rows, events, rowsLost, eventsLost, bytes, files, problem: errno }
Napi::Value FileWrap::Figures(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  CsvFile::Figures figures = seed_.handle->file.figures();
  Napi::Object object = Napi::Object::New(env);
  auto set = [&](const char* name, uint64_t value) {
    object.Set(name, Napi::Number::New(env, static_cast<double>(value)));
  };
  set("rows", figures.rows);
  set("events", figures.events);
  set("rowsLost", figures.rows_lost + seed_.handle->refused.load());
  set("eventsLost", figures.events_lost);
  set("bytes", figures.bytes);
  set("files", figures.files);
  set("problem", static_cast<uint64_t>(figures.problem));
  return object;
}

// close(timeoutMs): what a pipe's reader does not take by then is lost
Napi::Value FileWrap::CloseFile(const Napi::CallbackInfo& info) {
  int32_t timeout_ms = 0;
  if (seed_.core->closed() || !Read(info, 0, &timeout_ms)) return info.Env().Undefined();
  seed_.core->writer().Post(
      [file = file(), timeout_ms](CsvWriter& writer) { writer.CloseFile(file, timeout_ms); });
  return info.Env().Undefined();
}

void TapWrap::Init(Napi::Env env) {
  Napi::Function constructor = DefineClass(
      env, "NativeTap",
      {InstanceMethod<&TapWrap::Take>("take"), InstanceMethod<&TapWrap::CloseTap>("close")});
  Environment::Of(env).tap_constructor = Napi::Persistent(constructor);
}

Napi::Value TapWrap::New(Napi::Env env, Seed seed) {
  return Environment::Of(env).tap_constructor.New({Napi::External<Seed>::New(env, &seed)});
}

TapWrap::TapWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<TapWrap>(info) {
  if (!info[0].IsExternal()) {
    WrongArgument(info, 0, "made by a CSV writer");
    return;
  }
  seed_ = *info[0].As<Napi::External<Seed>>().Data();
}

// take() => { bytes: Buffer, skipped }
Napi::Value TapWrap::Take(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  EventTap::Taken taken = seed_.tap->Take();
  Napi::Object object = Napi::Object::New(env);
  object.Set("bytes", Napi::Buffer<uint8_t>::Copy(env, taken.bytes.data(), taken.bytes.size()));
  object.Set("skipped", Napi::Number::New(env, static_cast<double>(taken.skipped)));
  return object;
}

Napi::Value TapWrap::CloseTap(const Napi::CallbackInfo& info) {
  if (seed_.core->closed()) return info.Env().Undefined();
  seed_.core->writer().Post(
      [table = seed_.table, tap = seed_.tap](CsvWriter&) { table->RemoveTap(tap.get()); });
  return info.Env().Undefined();
}

}  // namespace libbpf_ts
