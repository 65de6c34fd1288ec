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

// What a value must be to become `*out`, or null when it has.
inline const char* Convert(Napi::Value value, std::string* out) {
  if (!value.IsString()) return "a string";
  *out = value.As<Napi::String>().Utf8Value();
  // A name cut at its NUL would reach the kernel as another name.
  return out->find('\0') == std::string::npos ? nullptr : "free of NUL";
}

inline const char* Convert(Napi::Value value, bool* out) {
  if (!value.IsBoolean()) return "a boolean";
  *out = value.As<Napi::Boolean>().Value();
  return nullptr;
}

inline const char* Convert(Napi::Value value, int64_t* out) {
  if (value.IsBigInt()) {
    bool lossless = false;
    *out = value.As<Napi::BigInt>().Int64Value(&lossless);
    return lossless ? nullptr : "a 64-bit integer";
  }
  if (!value.IsNumber()) return "an integer";
  double number = value.As<Napi::Number>().DoubleValue();
  if (!(std::fabs(number) <= 9007199254740991.0) || number != std::floor(number)) {
    return "a safe integer";
  }
  *out = static_cast<int64_t>(number);
  return nullptr;
}

inline const char* Convert(Napi::Value value, uint64_t* out) {
  if (value.IsBigInt()) {
    bool lossless = false;
    *out = value.As<Napi::BigInt>().Uint64Value(&lossless);
    return lossless ? nullptr : "an unsigned 64-bit integer";
  }
  int64_t number = 0;
  const char* expected = Convert(value, &number);
  if (expected != nullptr) return expected;
  *out = static_cast<uint64_t>(number);
  return number >= 0 ? nullptr : "zero or above";
}

inline const char* Convert(Napi::Value value, uint32_t* out) {
  uint64_t number = 0;
  const char* expected = Convert(value, &number);
  if (expected != nullptr) return expected;
  *out = static_cast<uint32_t>(number);
  return number <= UINT32_MAX ? nullptr : "below 2^32";
}

inline const char* Convert(Napi::Value value, int32_t* out) {
  int64_t number = 0;
  const char* expected = Convert(value, &number);
  if (expected != nullptr) return expected;
  *out = static_cast<int32_t>(number);
  return number >= INT32_MIN && number <= INT32_MAX ? nullptr : "a 32-bit integer";
}

// Only Uint8Array (so also Buffer): the length is in bytes, and it is checked by the user of it.
inline const char* Convert(Napi::Value value, Bytes* out) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    return "a Uint8Array";
  }
  Napi::Uint8Array array = value.As<Napi::Uint8Array>();
  out->data = array.Data();
  out->size = array.ByteLength();
  return nullptr;
}

template <typename Type>
bool Read(const Napi::CallbackInfo& info, size_t index, Type* out) {
  const char* expected = Convert(info[index], out);
  return expected == nullptr || WrongArgument(info, index, expected);
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
