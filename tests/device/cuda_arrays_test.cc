// What only a GPU can show: run with OOD_DEVICE=cuda, as scripts/gpu-check does; else there is nothing here to test.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>

#include "device/emulated_queue.h"
#include "kernels/cuda/caller.h"
#include "ood/cuda.h"
#include "ood/detectors.h"
#include "ood/kernels/elements.h"
#include "ood/metrics.h"
#include "synthetic.h"

using namespace ood;

namespace {

constexpr Device kDevice{Device::Kind::cuda, 0};

bool on_gpu() {
  const char* const wanted = std::getenv("OOD_DEVICE");
  return wanted != nullptr && std::string_view(wanted) == "cuda";
}

/// An array in the GPU's memory.
class DeviceArray {
 public:
  DeviceArray(kernels::DeviceQueue& queue, const float* data, Index count)
      : queue_(queue), bytes_(static_cast<std::size_t>(count) * sizeof(float)) {
    data_ = static_cast<float*>(queue_.memory().allocate(bytes_));
    queue_.copy_in(data_, data, bytes_);
    queue_.wait();
  }
  DeviceArray(kernels::DeviceQueue& queue, const Matrix& x)
      : DeviceArray(queue, x.data(), x.size()) {}
  ~DeviceArray() { queue_.memory().deallocate(data_, bytes_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  float* data() const { return data_; }
  std::vector<float> values() const {
    std::vector<float> host(bytes_ / sizeof(float));
    queue_.copy_out(host.data(), data_, bytes_);
    queue_.wait();
    return host;
  }

 private:
  kernels::DeviceQueue& queue_;
  std::size_t bytes_;
  float* data_;
};

template <class Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("cuda: copies of many pieces arrive, and their source may change at once") {
  if (!on_gpu()) return;
  const auto queue = kernels::open_cuda_queue(0);
  const Matrix x = test::normal_matrix(4099, 3001, 1);  // 49 MB
  Matrix source = x;
  const DeviceArray there(*queue, Matrix::Zero(4099, 3001)), again(*queue, x);
  queue->copy_in(there.data(), source.data(), static_cast<std::size_t>(x.size()) * sizeof(float));
  source.setConstant(7);
  const auto first = there.values(), second = again.values();
  CHECK(std::equal(first.begin(), first.end(), x.data()));
  CHECK(first == second);
}

TEST_CASE("cuda: lanes are those of the processor, to the bit") {
  if (!on_gpu()) return;
  for (const Index cols : {1, 7, 31, 32, 33, 1000}) {
    CAPTURE(cols);
    const Matrix x = test::normal_matrix(77, cols, 2);
    std::vector<float> expected(77);
    {
      const test::KernelsAsOnDevice lanes;
      kernels::row_sum_of_absolutes(x, expected);
    }
    const auto queue = kernels::open_cuda_queue(0);
    const DeviceArray rows(*queue, x), out(*queue, expected.data(), 77);
    kernels::DeviceCopies copies;
    {
      const kernels::DeviceScope scope(*queue, copies);
      kernels::fill({out.data(), 77}, -1);
      kernels::row_sum_of_absolutes(MatrixView(rows.data(), 77, cols), {out.data(), 77});
    }
    CHECK(out.values() == expected);
  }
}

TEST_CASE("cuda: products keep their bounds in every precision, rows apart and in place") {
  if (!on_gpu()) return;
  const auto queue = kernels::open_cuda_queue(0);
  const Index n = 301, m = 93, d = 517, wide = 600;
  const Matrix x = test::normal_matrix(n, wide, 3), b = test::normal_matrix(m, d, 4);
  const DeviceArray x_there(*queue, x), b_there(*queue, b),
      out(*queue, Matrix::Constant(n, m, NAN));
  const MatrixD exact = x.leftCols(d).cast<double>() * b.cast<double>().transpose();
  using kernels::Precision;
  for (const auto& entry :
       {std::pair{Precision::float32, 0.0}, std::pair{Precision::tf32, std::ldexp(1.0, -10)},
        std::pair{Precision::bfloat16, std::ldexp(1.0, -7)}}) {
    const Precision precision = entry.first;
    const double factors = entry.second;
    CAPTURE(factors);
    queue->multiply({{x_there.data(), wide, n, d},
                     {b_there.data(), d, m, d},
                     {out.data(), m, n, m},
                     precision});
    const auto got = out.values();
    double worst = 0;
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < m; ++j) {
        const double norms =
            x.row(i).head(d).cast<double>().norm() * b.row(j).cast<double>().norm();
        const double error =
            std::abs(static_cast<double>(got[static_cast<std::size_t>(i * m + j)]) - exact(i, j));
        worst = std::max(worst, error / norms);
      }
    CHECK(worst <= factors + 2 * 1.02 * static_cast<double>(d) * std::ldexp(1.0, -24));
  }
}

TEST_CASE("cuda: more memory than there is ends in one line, and nothing else") {
  if (!on_gpu()) return;
  const auto queue = kernels::open_cuda_queue(0);
  const std::string message =
      message_of([&] { (void)queue->memory().allocate(std::size_t{1} << 50); });
  CHECK(message.find("cuda:0 has ") == 0);
  CHECK(message.find(" bytes of memory free, expected 1125899906842624") != std::string::npos);
  CHECK(DeviceArray(*queue, Matrix::Constant(2, 2, 3)).values() == std::vector<float>(4, 3));
}

TEST_CASE("cuda: arrays of a device are scored in place, dense or not") {
  if (!on_gpu()) return;
  const Index rows = 3000, dim = 33, classes = 7, wide = 40;
  const auto data = test::make_synthetic(rows, dim, classes, 5);
  Matrix padded = Matrix::Constant(rows, wide, NAN);
  padded.leftCols(dim) = data.features;
  const auto queue = kernels::lend_cuda_queue(0, nullptr);  // scores are read behind their work
  const DeviceArray features(*queue, padded), logits(*queue, data.logits),
      out(*queue, Matrix::Zero(rows, 1));
  Batch there;
  there.features = MatrixView(features.data(), rows, dim, wide);
  there.logits = MatrixView(logits.data(), rows, classes);
  for (const char* const name : {"energy", "msp", "conjnorm", "mahalanobis", "knn"}) {
    CAPTURE(name);
    const auto detector = make_detector(name);
    if (!detector->runs_on_devices()) continue;
    MemorySource source(data.batch(), &data.head);
    if (!detector->fitted()) detector->fit(source);
    const auto expected = detector->score(data.batch());
    for (int turn = 0; turn < 2; ++turn) {
      cuda::score(*detector, there, out.data(), kDevice);
      const auto got = out.values();
      double worst = 0, most = 0;
      for (std::size_t i = 0; i < got.size(); ++i) {
        worst = std::max(worst, static_cast<double>(std::abs(got[i] - expected[i])));
        most = std::max(most, static_cast<double>(std::abs(expected[i])));
      }
      CHECK(worst <= 2e-5 * most);
    }
  }
  Batch of_host = there;
  of_host.logits = data.logits;
  CHECK(message_of([&] { cuda::score(Energy(), of_host, out.data(), kDevice); }) ==
        "energy.score: logits has an address in host memory, expected one of cuda:0");
}

TEST_CASE("cuda: auroc is that of the processor, to the bit") {
  if (!on_gpu()) return;
  std::mt19937 random(6);
  std::normal_distribution<float> normal;
  const auto made = [&](Index n, float shift, float step) {
    std::vector<float> scores(static_cast<std::size_t>(n));
    for (float& s : scores) {
      s = normal(random) + shift;
      if (step > 0) s = std::round(s / step) * step;  // ties, and zeros of both signs
    }
    return scores;
  };
  const auto queue = kernels::open_cuda_queue(0);
  const auto area = [&](const std::vector<float>& id, const std::vector<float>& ood) {
    const DeviceArray ids(*queue, id.data(), std::ssize(id)),
        oods(*queue, ood.data(), std::ssize(ood));
    return cuda::auroc(ids.data(), std::ssize(id), oods.data(), std::ssize(ood), kDevice);
  };
  for (const Index n : {1, 2, 1000, 300'001})
    for (const float step : {0.0f, 0.25f}) {
      auto id = made(n, 0.5f, step), ood = made(2 * n - 1, 0, step);
      id.back() = INFINITY;
      ood.front() = -INFINITY;
      CHECK(area(id, ood) == auroc(std::vector<double>(id.begin(), id.end()),
                                   std::vector<double>(ood.begin(), ood.end())));
    }
  auto id = made(100, 0, 0), ood = made(100, 0, 0);
  ood[41] = ood[77] = NAN;
  CHECK(message_of([&] { area(id, ood); }) == "auroc: ood score 41 is NaN, expected a number");
  id[99] = NAN;
  CHECK(message_of([&] { area(id, ood); }) == "auroc: id score 99 is NaN, expected a number");
}
