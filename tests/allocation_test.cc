// Scoring of a few rows allocates nothing once a thread has done it before. An executable of its own: it
// counts every call of the C library's allocator, whoever makes it, operator new among them.
#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <barrier>
#include <cerrno>
#include <cstdlib>
#include <thread>

#include "ood/kernels.h"
#include "ood/registry.h"
#include "ood/threshold.h"
#include "synthetic.h"

using namespace ood;

namespace {

std::atomic<bool> counting = false;
std::atomic<long> allocations = 0;

void count() {
  if (counting.load(std::memory_order_relaxed)) ++allocations;
}

}  // namespace

extern "C" {  // glibc's own, under the names that it keeps for this
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t size) {
  count();
  return __libc_malloc(size);
}
void* calloc(std::size_t n, std::size_t size) {
  count();
  return __libc_calloc(n, size);
}
void* realloc(void* memory, std::size_t size) {
  count();
  return __libc_realloc(memory, size);
}
void* memalign(std::size_t alignment, std::size_t size) {
  count();
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  count();
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** memory, std::size_t alignment, std::size_t size) {
  count();
  *memory = __libc_memalign(alignment, size);
  return *memory == nullptr ? ENOMEM : 0;
}
}

namespace {

constexpr Index kDim = 21, kClasses = 5;

const test::Everything& queries() {
  static const auto data = test::make_everything(8 + kernels::kTileRows, kDim, kClasses, 8);
  return data;
}

std::unique_ptr<Detector> fitted(const std::string& name, const OptionMap& options) {
  static const auto train = test::make_everything(600, kDim, kClasses, 7);
  static const auto outliers = test::make_everything(100, kDim, kClasses, 11, 0.01, 1.3f, 1.0);
  auto detector = make_detector(name, options);
  MemorySource source(train.batch(), &train.head), other(outliers.batch(), &train.head);
  detector->fit({.train = &source, .ood_val = {{"noise", &other}}});
  return detector;
}

/// What the detector reads of rows [begin, begin + count), as somebody who serves it has it.
Batch rows_for(const Detector& detector, Index begin, Index count) {
  Batch rows = queries().batch().slice(begin, count);
  const Inputs read = detector.needs().score;
  if (!read.features) rows.features.reset();
  if (!read.logits) rows.logits.reset();
  rows.labels.reset();
  if (!read.layers) rows.layers.clear();
  if (!read.copy_features) rows.copy_features.reset();
  if (!read.copy_logits) rows.copy_logits.reset();
  return rows;
}

/// Calls of the allocator while threads score 1, 7 and 128 rows in turn, after they have done so.
long allocations_of(const Detector& detector, int threads) {
  constexpr int kWarmUp = 3, kRounds = 10;
  const std::array<Batch, 3> batches = {rows_for(detector, 0, 1), rows_for(detector, 1, 7),
                                        rows_for(detector, 8, kernels::kTileRows)};
  const Calibration calibration(std::vector<double>(100, 0.0));
  std::barrier step(threads + 1);
  const auto serve = [&] {
    std::array<float, kernels::kTileRows> scores = {};
    std::array<double, kernels::kTileRows> p_values = {};
    const auto score = [&] {
      for (const Batch& batch : batches) {
        const auto rows = static_cast<std::size_t>(batch.rows());
        const std::span<float> own = std::span(scores).first(rows);
        detector.score(batch, own, {.threads = 1});
        calibration.p_values(batch, own, std::span(p_values).first(rows));
      }
    };
    for (int i = 0; i < kWarmUp; ++i) score();
    step.arrive_and_wait();
    step.arrive_and_wait();  // counting has begun
    for (int i = 0; i < kRounds; ++i) score();
    step.arrive_and_wait();
    step.arrive_and_wait();  // counting has ended
  };
  std::vector<std::thread> users;
  for (int t = 0; t < threads; ++t) users.emplace_back(serve);
  step.arrive_and_wait();
  allocations = 0;
  counting = true;
  step.arrive_and_wait();
  step.arrive_and_wait();
  counting = false;
  step.arrive_and_wait();
  for (std::thread& user : users) user.join();
  return allocations;
}

/// Products by oneDNN, as where there is no AVX-512, allocate.
bool products_allocate() {
  return kernels::PackedMatrix(MatrixView(queries().features)).allocates();
}

using Settings = std::vector<std::pair<std::string, OptionMap>>;

void check_none(const Settings& settings) {
  for (const auto& [name, options] : settings) {
    std::string shown = name;
    for (const auto& [option, value] : options) shown += " " + option + "=" + to_text(value);
    CAPTURE(shown);
    const auto detector = fitted(name, options);
    CHECK(allocations_of(*detector, 1) == 0);
    CHECK(allocations_of(*detector, 2) == 0);
  }
}

}  // namespace

TEST_CASE("allocation: the allocator is counted") {
  counting = true;
  allocations = 0;
  // volatile: a compiler may leave out memory that nobody uses
  void* volatile some = ::operator new(1000);
  void* volatile more = std::malloc(1000);
  counting = false;
  ::operator delete(some);
  std::free(more);
  CHECK(allocations == 2);
}

TEST_CASE("allocation: scores of logits") {
  check_none({{"energy", {}},
              {"msp", {}},
              {"max_logit", {}},
              {"entropy", {}},
              {"gen", {}},
              {"gen", {{"top_m", Index{3}}}}});
}

TEST_CASE("allocation: every detector") {
  if (products_allocate()) {
    MESSAGE("products allocate here: " << kernels::matmul_backend());
    CHECK(allocations_of(*fitted("mahalanobis", {}), 1) > 0);
    return;
  }
  Settings settings;
  for (const auto& name : detector_names())
    settings.emplace_back(name,
                          name == "corp" ? OptionMap{{"dimension", Index{128}}} : OptionMap());
  check_none(settings);
  check_none({{"conjnorm", {{"partition", "per_class"}}},
              {"conjnorm", {{"partition", "importance"}, {"samples", Index{64}}}},
              {"conjnorm", {{"partition", "none"}}},
              {"conjnorm", {{"p", 2.0}, {"gradient", "published_code"}}},
              {"gaussian_density", {{"covariance", "class"}}},
              {"gaussian_density", {{"covariance", "tied"}}},
              {"knn", {{"normalize", false}, {"aggregate", "mean"}}},
              {"mahalanobis", {{"normalize", true}}},
              {"relative_mahalanobis", {{"normalize", true}}}});
}
