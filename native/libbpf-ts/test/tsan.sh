#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs the ring reader and its thread, without Node, under ThreadSanitizer on a real ring buffer.
set -eu
cd "$(dirname "$0")/.."
mkdir -p build-tsan
npm run --silent build:test
# shellcheck disable=SC2046 # flags are meant to be split
c++ -std=c++17 -g -O1 -Wall -Wextra -Wno-missing-field-initializers -fsanitize=thread -Isrc \
  test/native/ring_reader_test.cc src/ring_reader.cc \
  $(pkg-config --cflags --libs libbpf libelf zlib) -pthread -o build-tsan/ring_reader_test
# ThreadSanitizer of gcc 12 does not know the address layouts of kernels with more random bits.
TSAN_OPTIONS=halt_on_error=1 exec setarch "$(uname -m)" -R build-tsan/ring_reader_test test/out/main.bpf.o
