// flags: -static -pthread
// SPDX-License-Identifier: MIT
// heap_phases with glibc's allocator inside the executable: found by its symbols, and no library is mapped.
#include "heap_phases.h"
