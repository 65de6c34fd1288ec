// flags: -pthread
// SPDX-License-Identifier: MIT
// heap_phases as most programs are: the allocator is in a shared library, libc's or one put in front of it.
#include "heap_phases.h"
