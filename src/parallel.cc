#include <omp.h>
#include <pthread.h>

#include <atomic>
#include <charconv>
#include <exception>
#include <mutex>

#include "errors.h"
#include "ood/exec.h"
#include "single_threaded.h"

namespace ood {

ThreadLimit::ThreadLimit(int threads) : before_(omp_get_max_threads()) {
  omp_set_num_threads(threads);
}
ThreadLimit::~ThreadLimit() { omp_set_num_threads(before_); }

namespace {

/// OpenMP's threads do not live on in a child of fork(), which would wait for them forever: a child of a
/// process that has used them works on one thread. (Python's multiprocessing forks.)
std::atomic<bool> threads_are_lost = false;

void expect_forks() {
  [[maybe_unused]] static const int registered =
      pthread_atfork(nullptr, nullptr, [] { threads_are_lost = true; });
}

}  // namespace

Device Device::parse(std::string_view text) {
  Device device;
  if (text == "cpu") return device;
  device.kind = Kind::cuda;
  if (text == "cuda") return device;
  constexpr std::string_view kPrefix = "cuda:";
  const char* const end = text.data() + text.size();
  if (text.starts_with(kPrefix)) {
    const auto [last, error] = std::from_chars(text.data() + kPrefix.size(), end, device.index);
    if (error == std::errc() && last == end && device.index >= 0) return device;
  }
  throw_invalid("device has {}, expected cpu, cuda or cuda:<index>", text);
}

std::string Device::name() const {
  return kind == Kind::cpu ? "cpu" : fmt::format("cuda:{}", index);
}

int thread_count(const Exec& exec) {
  constexpr int kMost = 1024;  // each costs memory: buffers are made for all of them
  if (exec.threads < 0 || exec.threads > kMost)
    throw_invalid("threads has {}, expected 0 (all) to {}", exec.threads, kMost);
  return exec.threads == 0 ? omp_get_max_threads() : exec.threads;
}

void parallel_for(Index count, const Exec& exec, const std::function<void(Index)>& task) {
  const int threads = static_cast<int>(std::min<Index>(thread_count(exec), count));
  if (threads <= 1 || threads_are_lost) {
    const SingleThreaded guard;
    for (Index i = 0; i < count; ++i) task(i);
    return;
  }

  expect_forks();
  std::atomic<Index> next{0};
  std::exception_ptr error;
  std::mutex error_mutex;
#pragma omp parallel num_threads(threads) default(shared)
  {
    const SingleThreaded guard;
    try {
      for (Index i = next++; i < count; i = next++) task(i);
    } catch (...) {
      next = count;
      const std::lock_guard lock(error_mutex);
      if (!error) error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace ood
