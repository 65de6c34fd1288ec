#!/bin/sh
# SPDX-License-Identifier: MIT
# Compiles what the tests run: BPF objects, the probed program, the tests themselves.
set -eu
cd "$(dirname "$0")"
mkdir -p out
# Debian keeps asm/ in a folder per architecture, which clang -target bpf does not look into.
include="/usr/include/$(uname -m)-linux-gnu"
[ -d "$include" ] || include=/usr/include
case "$(uname -m)" in
  x86_64) arch=x86 ;;
  aarch64) arch=arm64 ;;
  *) arch=$(uname -m) ;;
esac
for source in bpf/*.bpf.c; do
  clang -O2 -g -Wall -Wno-unused-function -target bpf "-D__TARGET_ARCH_$arch" "-I$include" \
    -c "$source" -o "out/$(basename "$source" .c).o"
done
cc -O1 -g -o out/probed target/probed.c
PATH="$PWD/../node_modules/.bin:$PWD/../../../node_modules/.bin:$PATH" tsc -p tsconfig.json
