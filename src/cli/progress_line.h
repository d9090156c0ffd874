#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <string_view>

namespace ood::cli {

/// One line on a terminal that is written over; nothing elsewhere.
class ProgressLine {
 public:
  ProgressLine() = default;
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  ~ProgressLine() {
    if (terminal_) fmt::print(stderr, "\r\033[K");
  }

  void show(std::string_view step, double done) {
    if (!terminal_) return;
    fmt::print(stderr, "\r\033[K{:3.0f} %  {}", 100 * done, step);
    std::fflush(stderr);
  }

 private:
  bool terminal_ = isatty(STDERR_FILENO) != 0;
};

}  // namespace ood::cli
