#!/bin/sh
# SPDX-License-Identifier: MIT
# Builds the addon with AddressSanitizer and runs the whole suite against it.
# Leaks are not looked for: V8 never frees what it holds at exit.
set -eu
cd "$(dirname "$0")/.."
cmake-js compile --out build-asan --CDLIBBPF_TS_ASAN=ON
npm run --silent build:test
LIBBPF_TS_BUILD=build-asan \
  LD_PRELOAD="$(c++ -print-file-name=libasan.so)" \
  ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:detect_stack_use_after_return=1 \
  exec node --expose-gc --test --test-concurrency=1 test/out/*.test.js
