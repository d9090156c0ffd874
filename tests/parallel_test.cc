#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <stdexcept>
#include <vector>

#include "ood/exec.h"

using namespace ood;

TEST_CASE("parallel_for: every task once, for any number of threads") {
  for (const int threads : {0, 1, 2, 7, 64}) {
    std::vector<std::atomic<int>> done(100);
    parallel_for(100, Exec{threads}, [&](Index i) { ++done[static_cast<std::size_t>(i)]; });
    for (const auto& count : done) CHECK(count == 1);
  }
  parallel_for(0, {}, [](Index) { FAIL("no task to do"); });
}

TEST_CASE("parallel_for: the exception of a task arrives, and the next call works") {
  for (const int threads : {1, 2, 7}) {
    const auto fail = [](Index i) {
      if (i == 5) throw std::runtime_error("task 5");
    };
    CHECK_THROWS_WITH_AS(parallel_for(50, Exec{threads}, fail), "task 5", std::runtime_error);
    std::atomic<int> done{0};
    parallel_for(50, Exec{threads}, [&](Index) { ++done; });
    CHECK(done == 50);
  }
}

TEST_CASE("parallel_for: calls within tasks work") {
  std::atomic<int> done{0};
  parallel_for(4, Exec{4}, [&](Index) { parallel_for(10, Exec{4}, [&](Index) { ++done; }); });
  CHECK(done == 40);
}

TEST_CASE("parallel_for: works in a child that was forked after threads were used") {
  parallel_for(8, Exec{2}, [](Index) {});
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);  // ends a child that hangs
    std::atomic<int> done = 0;
    parallel_for(100, Exec{2}, [&](Index) { ++done; });
    _exit(done == 100 ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(status == 0);
  std::atomic<int> done = 0;
  parallel_for(100, Exec{2}, [&](Index) { ++done; });
  CHECK(done == 100);  // the parent keeps its threads
}

TEST_CASE("thread_count: a number that cannot be meant is an error") {
  CHECK(thread_count({.threads = 3}) == 3);
  CHECK(thread_count({}) >= 1);
  CHECK_THROWS_WITH_AS(thread_count({.threads = -1}), "threads has -1, expected 0 (all) to 1024",
                       std::invalid_argument);
  CHECK_THROWS_AS(thread_count({.threads = 1025}), std::invalid_argument);
}
