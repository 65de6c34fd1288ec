#!/bin/sh
# SPDX-License-Identifier: MIT
# Builds and runs what tests the native code without Node, on the real kernel.
#
#   test/native.sh FOLDER SANITIZERS    objects are kept in FOLDER; thread, or address,undefined
#
# A test is run where the BPF objects are and gets an empty folder of its own.
set -eu
cd "$(dirname "$0")/.."
mkdir -p "$1"
build=$(cd "$1" && pwd)
make --silent -j2 -f test/native/Makefile "BUILD=$build" "SANITIZE=$2"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd test/out
for source in ../native/*_test.cc; do
  name=$(basename "$source" .cc)
  mkdir "$scratch/$name"
  # ThreadSanitizer of gcc 12 does not know the address layouts of kernels with more random bits.
  echo "$name"
  TSAN_OPTIONS=halt_on_error=1 UBSAN_OPTIONS=print_stacktrace=1 \
    timeout 120 setarch "$(uname -m)" -R "$build/$name" "$scratch/$name"
done
