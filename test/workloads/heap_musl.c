// cc: musl-gcc flags: -static -pthread
// SPDX-License-Identifier: MIT
// heap_phases with another C library and no dynamic linker: its allocator is found by the symbols of the binary alone.
#include "heap_phases.h"
