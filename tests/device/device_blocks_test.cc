// Rows that do not fit a device at one time, memory that is short, errors on the way: what the host does for
// a device, on an emulated one.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "device/emulated_queue.h"
#include "kernels/bodies/elements.h"
#include "ood/detectors/energy.h"
#include "ood/detectors/mahalanobis.h"
#include "ood/detectors/max_logit.h"
#include "ood/scratch.h"
#include "synthetic.h"

using namespace ood;

namespace {

constexpr Exec kDevice = {.threads = 1, .device = {Device::Kind::cuda, 0}};

Batch logits_of(const Matrix& rows) {
  Batch batch;
  batch.logits = rows;
  return batch;
}

/// Row i holds i, and less.
Matrix numbered_rows(Index rows, Index cols) {
  Matrix x = Matrix::Zero(rows, cols);
  for (Index i = 0; i < rows; ++i) x(i, i % cols) = static_cast<float>(i + 1);
  return x;
}

}  // namespace

TEST_CASE("device: more rows than a block has: each score is its own row's") {
  const test::EmulatedDevice device;
  const Matrix x = numbered_rows(20'001, 1'000);  // of 32 MB, three blocks
  const auto scores = MaxLogit().score(logits_of(x), kDevice);
  Index wrong = 0;
  for (Index i = 0; i < x.rows(); ++i)
    wrong += scores[static_cast<std::size_t>(i)] != static_cast<float>(i + 1);
  CHECK(wrong == 0);
}

TEST_CASE("device: too little memory for a block cuts it, down to a row") {
  const Matrix x = numbered_rows(3'000, 100);
  const auto expected = Energy().score(logits_of(x));
  std::vector<float> whole;
  {
    const test::EmulatedDevice device;
    whole = Energy().score(logits_of(x), kDevice);
  }
  for (const std::size_t kib : {1'024u, 256u, 140u}) {
    CAPTURE(kib);
    const test::EmulatedDevice device(kib * 1'024);
    const auto scores = Energy().score(logits_of(x), kDevice);
    CHECK(scores == whole);
    CHECK(test::EmulatedDevice::peak() <= kib * 1'024);
  }
  double worst = 0;
  for (std::size_t i = 0; i < whole.size(); ++i)
    worst = std::max(worst, std::abs(static_cast<double>(whole[i] - expected[i])));
  CHECK(worst < 1e-3);  // of 3,000

  const test::EmulatedDevice none(4'096);
  CHECK_THROWS_WITH_AS(Energy().score(logits_of(x), kDevice),
                       doctest::Contains("cuda:0 has 4096 bytes free, expected"), std::bad_alloc);
}

TEST_CASE("device: fitted state that has no room is an error, and the detector is well after it") {
  const auto data = test::make_everything(600, 64, 5, 3);
  Mahalanobis detector;
  MemorySource source(data.batch(), &data.head);
  std::vector<float> expected;
  {
    const test::EmulatedDevice device;
    detector.fit(source);
    expected = detector.score(data.batch(), kDevice);
  }
  {
    const test::EmulatedDevice small(80 * 1'024);
    const auto copy = detector.clone();
    CHECK_THROWS_AS(copy->score(data.batch(), kDevice), std::bad_alloc);
  }
  const test::EmulatedDevice device;
  CHECK(detector.score(data.batch(), kDevice) == expected);
}

TEST_CASE(
    "device: arrays that are there are scored in place, rows with room between them or none too") {
  const test::EmulatedDevice device;
  const auto data = test::make_everything(300, 21, 5, 3);
  Mahalanobis detector;
  MemorySource source(data.batch(), &data.head);
  detector.fit(source);
  const auto queue = test::open_emulated_queue(0);
  struct Array {
    Array(kernels::DeviceQueue& owner, Index entries)
        : memory(owner.memory()),
          bytes(static_cast<std::size_t>(entries) * sizeof(float)),
          data(static_cast<float*>(memory.allocate(bytes))) {}
    ~Array() { memory.deallocate(data, bytes); }
    std::pmr::memory_resource& memory;
    std::size_t bytes;
    float* data;
  };
  const Index width = data.features.cols(), wide = width + 4;
  Matrix padded = Matrix::Constant(300, wide, NAN);
  padded.leftCols(width) = data.features;
  const Array rows(*queue, padded.size()), scores(*queue, 300);
  queue->copy_in(rows.data, padded.data(), rows.bytes);
  const auto score = [&](Index count, Index stride) {
    Batch batch;
    batch.features = MatrixView(rows.data, count, width, stride);
    std::vector<float> host(static_cast<std::size_t>(count));
    detector.score_in_place(batch, {scores.data, host.size()}, *queue);
    queue->copy_out(host.data(), scores.data, host.size() * sizeof(float));
    queue->wait();
    return host;
  };
  const auto expected = detector.score(data.batch(), kDevice);
  CHECK(score(300, wide) == expected);
  CHECK(score(0, wide).empty());
  const auto repeated = score(40, 0);  // the first row again and again
  CHECK(std::ranges::all_of(repeated, [&](float s) { return s == expected[0]; }));
}

TEST_CASE("emulated device: work is done when somebody waits, and only in its own memory") {
  const test::EmulatedDevice device;
  const auto queue = test::open_emulated_queue(0);
  kernels::DeviceCopies copies;
  std::vector<float> host(100, 1.0f), back(100, 0.0f);
  {
    const kernels::DeviceScope scope(*queue, copies);
    Scratch scratch;
    const auto x = scratch.span<float>(100);
    queue->copy_in(x.data(), host.data(), 400);
    std::ranges::fill(host, 5.0f);  // the source may change
    kernels::run(kernels::bodies::Scale{x.data(), 3.0f}, 100);
    queue->copy_out(back.data(), x.data(), 400);
    CHECK(back[7] == 0.0f);
    queue->wait();
    CHECK(std::ranges::all_of(back, [](float b) { return b == 3.0f; }));
    float one = 0;
    kernels::read_back(x.data() + 99, 1, &one);
    CHECK(one == 3.0f);
    // where the compiler can clear what lies between the numbers of a body, which may look like a pointer
    if (kernels::Launch::of<kernels::bodies::Scale>().clear_padding != nullptr)
      CHECK_THROWS_AS(kernels::run(kernels::bodies::Scale{host.data(), 3.0f}, 100),
                      std::logic_error);
  }
}

TEST_CASE("device: state is copied once for each device, and must not change") {
  const test::EmulatedDevice device;
  const auto queue = test::open_emulated_queue(0);
  kernels::DeviceCopies copies;
  std::vector<float> state(10);
  std::iota(state.begin(), state.end(), 0.0f);
  const kernels::DeviceScope scope(*queue, copies);
  const std::span<const float> entries = state;
  const float* const copy = kernels::placed(entries);
  CHECK(copy != state.data());
  CHECK(kernels::placed(entries) == copy);
  CHECK(kernels::placed(entries.first(4)) != copy);  // another array
  Scratch scratch;
  const std::span<const float> own = scratch.span<float>(5);
  CHECK(kernels::placed(own) == own.data());
  CHECK(kernels::placed(std::span<const float>()) == nullptr);
  state[3] = 7;
  CHECK_THROWS_AS(kernels::placed(entries), std::logic_error);
}
