// SPDX-License-Identifier: MIT
// Reading JavaScript arguments without ever trusting them. Each reader throws a TypeError into
// JavaScript and returns false when the argument is not what it must be.
#pragma once

#include <napi.h>
#include <cmath>
#include <cstdint>
#include <string>

namespace libbpf_ts {

struct Bytes {
  const uint8_t* data = nullptr;
  size_t size = 0;
};

inline bool WrongArgument(const Napi::CallbackInfo& info, size_t index, const char* expected) {
  if (!info.Env().IsExceptionPending()) {
    Napi::TypeError::New(info.Env(), "argument " + std::to_string(index) + " must be " + expected)
        .ThrowAsJavaScriptException();
  }
  return false;
}

inline bool Read(const Napi::CallbackInfo& info, size_t index, std::string* out) {
  if (!info[index].IsString()) return WrongArgument(info, index, "a string");
  *out = info[index].As<Napi::String>().Utf8Value();
  // A name cut at its NUL would reach the kernel as another name.
  if (out->find('\0') != std::string::npos) return WrongArgument(info, index, "free of NUL");
  return true;
}

inline bool Read(const Napi::CallbackInfo& info, size_t index, bool* out) {
  if (!info[index].IsBoolean()) return WrongArgument(info, index, "a boolean");
  *out = info[index].As<Napi::Boolean>().Value();
  return true;
}

inline bool Read(const Napi::CallbackInfo& info, size_t index, int64_t* out) {
  if (info[index].IsBigInt()) {
    bool lossless = false;
    *out = info[index].As<Napi::BigInt>().Int64Value(&lossless);
    return lossless || WrongArgument(info, index, "a 64-bit integer");
  }
  if (!info[index].IsNumber()) return WrongArgument(info, index, "an integer");
  double value = info[index].As<Napi::Number>().DoubleValue();
  if (!(std::fabs(value) <= 9007199254740991.0) || value != std::floor(value)) {
    return WrongArgument(info, index, "a safe integer");
  }
  *out = static_cast<int64_t>(value);
  return true;
}

inline bool Read(const Napi::CallbackInfo& info, size_t index, uint64_t* out) {
  if (info[index].IsBigInt()) {
    bool lossless = false;
    *out = info[index].As<Napi::BigInt>().Uint64Value(&lossless);
    return lossless || WrongArgument(info, index, "an unsigned 64-bit integer");
  }
  int64_t value = 0;
  if (!Read(info, index, &value)) return false;
  if (value < 0) return WrongArgument(info, index, "zero or above");
  *out = static_cast<uint64_t>(value);
  return true;
}

inline bool Read(const Napi::CallbackInfo& info, size_t index, uint32_t* out) {
  uint64_t value = 0;
  if (!Read(info, index, &value)) return false;
  if (value > UINT32_MAX) return WrongArgument(info, index, "below 2^32");
  *out = static_cast<uint32_t>(value);
  return true;
}

inline bool Read(const Napi::CallbackInfo& info, size_t index, int32_t* out) {
  int64_t value = 0;
  if (!Read(info, index, &value)) return false;
  if (value < INT32_MIN || value > INT32_MAX) return WrongArgument(info, index, "a 32-bit integer");
  *out = static_cast<int32_t>(value);
  return true;
}

// Only Uint8Array (so also Buffer): the length is in bytes, and it is checked by the user of it.
inline bool Read(const Napi::CallbackInfo& info, size_t index, Bytes* out) {
  if (!info[index].IsTypedArray() ||
      info[index].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    return WrongArgument(info, index, "a Uint8Array");
  }
  Napi::Uint8Array array = info[index].As<Napi::Uint8Array>();
  out->data = array.Data();
  out->size = array.ByteLength();
  return true;
}

// Unwraps an instance of one of our classes, recognised by its type tag.
template <typename Class>
bool ReadInstance(const Napi::CallbackInfo& info, size_t index, Class** out) {
  if (!info[index].IsObject() || !info[index].As<Napi::Object>().CheckTypeTag(&Class::kTag)) {
    return WrongArgument(info, index, Class::kExpected);
  }
  *out = Class::Unwrap(info[index].As<Napi::Object>());
  return true;
}

}  // namespace libbpf_ts
