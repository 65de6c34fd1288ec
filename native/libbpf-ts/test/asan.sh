#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs the native tests under AddressSanitizer and UndefinedBehaviorSanitizer, then builds the addon
# with AddressSanitizer and runs the whole suite against it.
set -eu
cd "$(dirname "$0")/.."
npm run --silent build:test
test/native.sh build-asan/native address,undefined
cmake-js compile --out build-asan --CDLIBBPF_TS_ASAN=ON
# Leaks are not looked for here: V8 never frees what it holds at exit.
LIBBPF_TS_BUILD=build-asan \
  LD_PRELOAD="$(c++ -print-file-name=libasan.so)" \
  ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:detect_stack_use_after_return=1 \
  exec node --expose-gc --test --test-concurrency=1 test/out/*.test.js
