#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs the native threads, without Node, under ThreadSanitizer on real ring buffers.
set -eu
cd "$(dirname "$0")/.."
npm run --silent build:test
exec test/native.sh build-tsan thread
