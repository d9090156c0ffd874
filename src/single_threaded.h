#pragma once

namespace ood {

/// While it lives, OpenMP code called from this thread, and thread_count({}), use this many threads.
class ThreadLimit {
 public:
  explicit ThreadLimit(int threads);
  ~ThreadLimit();
  ThreadLimit(const ThreadLimit&) = delete;
  ThreadLimit& operator=(const ThreadLimit&) = delete;

 private:
  int before_;
};

/// While it lives, OpenMP code called from this thread (oneDNN) uses one thread, so that its
/// results cannot depend on how many there are.
class SingleThreaded : ThreadLimit {
 public:
  SingleThreaded() : ThreadLimit(1) {}
};

}  // namespace ood
