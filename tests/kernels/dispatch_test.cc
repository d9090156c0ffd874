#include <doctest/doctest.h>
#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "kernels/error_bounds.h"
#include "ood/kernels.h"

extern char** environ;

using namespace ood;
using namespace ood::test;

namespace {

const char* forced_target() {
  const char* name = std::getenv("OOD_SIMD");
  return name != nullptr && *name != '\0' ? name : nullptr;
}

/// The test case `name` in a new process with OOD_SIMD=simd; true if it passed. What a kernel reads
/// of the environment it reads once.
bool passes_in_new_process(const std::string& name, const std::string& simd) {
  std::vector<std::string> settings = {"OOD_SIMD=" + simd};
  for (char** setting = environ; *setting != nullptr; ++setting)
    if (!std::string_view(*setting).starts_with("OOD_SIMD=")) settings.emplace_back(*setting);
  std::vector<char*> environment;
  for (auto& setting : settings) environment.push_back(setting.data());
  environment.push_back(nullptr);

  std::string program = "/proc/self/exe", filter = "--test-case=" + name;
  std::string no_skip = "--no-skip", quiet = "--minimal";
  char* arguments[] = {program.data(), filter.data(), no_skip.data(), quiet.data(), nullptr};
  pid_t process = 0;
  if (posix_spawn(&process, program.c_str(), nullptr, nullptr, arguments, environment.data()) != 0)
    return false;
  int status = 0;
  waitpid(process, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

TEST_CASE("simd_targets: the best first, each once") {
  const std::vector<std::string> order = {"AVX3_ZEN4", "AVX3_DL", "AVX3",   "AVX2",
                                          "SSE4",      "SSSE3",   "EMU128", "SCALAR"};
  const auto targets = kernels::simd_targets();
  REQUIRE_FALSE(targets.empty());
  std::ptrdiff_t before = -1;
  for (const auto& target : targets) {
    const auto rank = std::ranges::find(order, target) - order.begin();
    CHECK_MESSAGE(rank < std::ssize(order), target);
    CHECK(rank > before);
    before = rank;
  }
}

TEST_CASE("simd_target: what OOD_SIMD names, else the best") {
  CHECK(kernels::simd_target() ==
        (forced_target() != nullptr ? forced_target() : kernels::simd_targets().front()));
}

TEST_CASE("simd_target: kernels run on it, also after it was asked for") {
  // Each lane sums every L-th entry. In the lane that begins with 1 the others are too small to
  // count.
  constexpr int kSmall = 1024;
  Matrix x = Matrix::Constant(1, kSmall, 0x1p-24f);
  x(0, 0) = 1;
  const Matrix ones = Matrix::Ones(1, kSmall);
  std::vector<float> sum(1);
  kernels::row_dot_selected(x, ones, std::vector<std::int64_t>{0}, sum);
  CHECK(sum[0] == 1 + static_cast<float>(kSmall - kSmall / lanes()) * 0x1p-24f);
}

TEST_CASE("simd_targets: all that there are, also when one is forced") {
  const auto before = kernels::simd_targets();
  kernels::simd_target();
  CHECK(kernels::simd_targets() == before);
}

TEST_CASE("matmul_backend: its name, version and an instruction set that the target has") {
  const std::string backend = kernels::matmul_backend(), target = kernels::simd_target();
  CAPTURE(backend);
  CAPTURE(target);
  CHECK(backend.starts_with("oneDNN "));
  CHECK(backend.find("another") == std::string::npos);
  if (target == "AVX2") {
    CHECK(backend.ends_with(" (AVX2)"));
  } else if (!target.starts_with("AVX3")) {
    CHECK(backend.ends_with(" (SSE4.1)"));
  }
}

TEST_CASE("OOD_SIMD: every target can be forced") {
  for (const auto& target : kernels::simd_targets()) {
    CAPTURE(target);
    CHECK(passes_in_new_process("simd_target: *,matmul_backend: *", target));
  }
}

TEST_CASE("OOD_SIMD: a name that is no target is an error, from kernels too") {
  CHECK(passes_in_new_process("in a process of its own: *", ""));
}

// Run by the one above: it changes the environment before anything reads it
TEST_CASE("in a process of its own: OOD_SIMD=NOPE" * doctest::skip()) {
  setenv("OOD_SIMD", "NOPE", 1);
  std::string message = "OOD_SIMD has NOPE, expected one of ";
  const auto targets = kernels::simd_targets();
  for (std::size_t i = 0; i < targets.size(); ++i) message += (i > 0 ? ", " : "") + targets[i];
  CHECK_THROWS_WITH_AS(kernels::simd_target(), message.c_str(), std::invalid_argument);
  const Matrix x = Matrix::Ones(1, 3);
  std::vector<float> out(1);
  CHECK_THROWS_WITH_AS(kernels::row_max(x, out), message.c_str(), std::invalid_argument);
  CHECK_THROWS_WITH_AS(kernels::PackedMatrix{x}, message.c_str(), std::invalid_argument);
  CHECK_THROWS_WITH_AS(kernels::matmul_backend(), message.c_str(), std::invalid_argument);
}
