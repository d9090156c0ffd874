#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "ood/devices.h"
#include "ood/kernels.h"

namespace {

unsigned matching_tests = 0;

/// Sees how many tests the filters of the command line let through.
class CountTests : public doctest::IReporter {
 public:
  explicit CountTests(const doctest::ContextOptions&) {}
  void test_run_end(const doctest::TestRunStats& stats) override {
    matching_tests = stats.numTestCasesPassingFilters;
  }
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_case_start(const doctest::TestCaseData&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};
REGISTER_LISTENER("count", 1, CountTests);

}  // namespace

int main(int argc, char** argv) {
  if (const char* target = std::getenv("OOD_SIMD"); target != nullptr && *target != '\0') {
    const auto targets = ood::kernels::simd_targets();
    if (std::ranges::find(targets, target) == targets.end()) {
      std::printf("skipped: this machine or build has no SIMD target %s\n", target);
      return OOD_SKIP_CODE;
    }
  }
  if (const char* device = std::getenv("OOD_DEVICE");
      device != nullptr && std::strcmp(device, "cuda") == 0 && ood::cuda::devices().empty()) {
    std::printf("skipped: there is no GPU (CUDA: %s)\n", ood::cuda::description().c_str());
    return OOD_SKIP_CODE;
  }
  doctest::Context context(argc, argv);
  const int result = context.run();
  if (context.shouldExit()) return result;  // it was only asked a question, such as --help
  if (matching_tests == 0) {
    std::printf("no test matches the filters\n");
    return 1;  // a filter with a typing error must not pass
  }
  return result;
}
