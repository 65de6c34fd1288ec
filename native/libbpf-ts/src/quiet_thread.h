// SPDX-License-Identifier: MIT
// Starts a thread that takes no signals: they belong to the host's threads.
#pragma once

#include <pthread.h>
#include <csignal>

namespace libbpf_ts {

// Runs (owner->*kRun)(). 0 or an errno; not std::thread, which throws when the process may have no
// more threads.
template <typename Owner, void (Owner::*kRun)()>
int StartQuietThread(pthread_t* thread, Owner* owner) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = pthread_create(
      thread, nullptr,
      [](void* self) -> void* {
        (static_cast<Owner*>(self)->*kRun)();
        return nullptr;
      },
      owner);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return error;
}

}  // namespace libbpf_ts
