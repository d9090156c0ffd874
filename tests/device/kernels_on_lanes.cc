// OOD_KERNELS=lanes: every test case has its kernels run as on a GPU, in host memory.
#include <doctest/doctest.h>

#include <cstdlib>
#include <optional>
#include <string_view>

#include "device/emulated_queue.h"

namespace {

class KernelsOnLanes : public doctest::IReporter {
 public:
  explicit KernelsOnLanes(const doctest::ContextOptions&) {}
  void test_case_start(const doctest::TestCaseData&) override {
    const char* const wanted = std::getenv("OOD_KERNELS");
    if (wanted != nullptr && std::string_view(wanted) == "lanes") scope_.emplace();
  }
  void test_case_end(const doctest::CurrentTestCaseStats&) override { scope_.reset(); }
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}

 private:
  std::optional<ood::test::KernelsAsOnDevice> scope_;
};
REGISTER_LISTENER("lanes", 1, KernelsOnLanes);

}  // namespace
