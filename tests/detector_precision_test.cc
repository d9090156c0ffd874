// The option `precision`: what it may change, and what not. Runs on every instruction set: where one has no
// bfloat16 products, float32 stands in.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "ood/kernels.h"
#include "ood/model_file.h"
#include "ood/registry.h"
#include "ood/residual_space.h"
#include "synthetic.h"

using namespace ood;
using kernels::Precision;

namespace {

constexpr Index kDim = 64, kClasses = 5, kRows = 301;
constexpr double kUnit = 0x1p-24;

const test::Everything& train() {
  static const auto data = test::make_everything(2'000, kDim, kClasses, 7);
  return data;
}
const test::Everything& queries() {
  static const auto data = test::make_everything(kRows, kDim, kClasses, 8);
  return data;
}

const std::vector<std::string>& names() {
  static const std::vector<std::string> list = [] {
    std::vector<std::string> found;
    for (const auto& name : detector_names()) {
      const auto options = make_detector(name)->options();
      if (std::ranges::find(options, "precision", &OptionInfo::name) != options.end())
        found.push_back(name);
    }
    return found;
  }();
  return list;
}

std::unique_ptr<Detector> fitted(const std::string& name, Precision precision) {
  OptionMap options = {
      {"precision", std::string(kernels::kPrecisions[static_cast<std::size_t>(precision)])}};
  if (name == "corp") options["dimension"] = Index{128};  // seconds else
  auto detector = make_detector(name, options);
  MemorySource source(train().batch(), &train().head);
  detector->fit(source);
  return detector;
}

std::vector<float> scores(const std::string& name, Precision precision) {
  return fitted(name, precision)->score(queries().batch());
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    largest = std::max(largest, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  return largest;
}

double deviation(const std::vector<float>& values) {
  double sum = 0, squares = 0;
  const auto n = static_cast<double>(values.size());
  for (const float v : values) sum += static_cast<double>(v);
  for (const float v : values) squares += std::pow(static_cast<double>(v) - sum / n, 2);
  return std::sqrt(squares / n);
}

/// Of a product, as a share of |x| |b|, see ood/kernels.h; with what float32 may be off too.
double error(Precision precision) {
  const double sum = static_cast<double>(kDim) * kUnit;
  const double rounding = precision == Precision::bfloat16     ? 0x1p-7
                          : precision == Precision::bfloat16x3 ? 0x1p-15
                                                               : 0x1p-10;
  return rounding + 4.06 * sum;
}

/// On every processor float32 stands in for the last.
constexpr Precision kRounded[] = {Precision::bfloat16x3, Precision::bfloat16, Precision::tf32};

/// Reads the options of a detector that a file of version 1 holds.
std::string precision_in(const char* file) {
  const Model model = load_model(std::string(OOD_SOURCE_DIR "/tests/compatibility/v1/") + file);
  for (const OptionInfo& option : model.detector->options())
    if (option.name == "precision") return to_text(option.value);
  return "";
}

/// What a detector keeps, but for its options.
class StateBytes final : public FieldVisitor {
 public:
  std::vector<float> floats;
  std::vector<double> doubles;
  void state(std::string_view, double& value) override { doubles.push_back(value); }
  void state(std::string_view, Matrix& value) override {
    floats.insert(floats.end(), value.data(), value.data() + value.size());
  }
  void state(std::string_view, Vector& value) override {
    floats.insert(floats.end(), value.data(), value.data() + value.size());
  }
  void state(std::string_view, VectorD& value) override {
    doubles.insert(doubles.end(), value.data(), value.data() + value.size());
  }
};

}  // namespace

TEST_CASE("precision: float32 is the default, and the last option of those that have it") {
  CHECK(names().size() == 21);
  for (const auto& name : names()) {
    CAPTURE(name);
    const auto options = make_detector(name)->options();
    CHECK(options.back().name == "precision");
    CHECK(to_text(options.back().value) == "float32");
    CHECK(options.back().expected == "one of float32, bfloat16x3, bfloat16, tf32");
  }
  CHECK_THROWS_WITH_AS(make_detector("msp", {{"precision", std::string("bfloat16")}}),
                       "msp: unknown option precision, expected one of temperature",
                       std::invalid_argument);
}

TEST_CASE("precision: the fitted state does not depend on it") {
  for (const auto& name : names()) {
    CAPTURE(name);
    StateBytes expected;
    fitted(name, Precision::float32)->visit_all(expected);
    for (const Precision precision : kRounded) {
      StateBytes state;
      fitted(name, precision)->visit_all(state);
      CHECK(state.floats == expected.floats);
      // conjnorm's standard errors may be NaN
      CHECK(std::ranges::equal(state.doubles, expected.doubles, [](double a, double b) {
        return a == b || (std::isnan(a) && std::isnan(b));
      }));
    }
  }
}

TEST_CASE("precision: what the machine lacks is float32, to the bit, and a warning says so") {
  for (const auto& name : names()) {
    CAPTURE(name);
    const auto expected = scores(name, Precision::float32);
    for (const Precision precision : kRounded) {
      const auto detector = fitted(name, precision);
      const bool has = kernels::available(precision) == precision;
      CHECK(same_bits(detector->score(queries().batch()), expected) == !has);
      const auto warnings = detector->diagnostics().warnings;
      const bool warned = std::ranges::any_of(
          warnings, [](const std::string& line) { return line.starts_with("precision has "); });
      CHECK(warned == !has);
    }
    const auto plain = fitted(name, Precision::float32)->diagnostics().warnings;
    CHECK(std::ranges::none_of(
        plain, [](const std::string& line) { return line.starts_with("precision has "); }));
  }
}

// What the error of a product, error() of |x| |b|, does to scores that follow from one product by few steps.
TEST_CASE("precision: scores keep to the bounds that those of the product imply") {
  const auto& x = queries().features;
  for (const Precision precision : kRounded) {
    CAPTURE(precision);
    const double e = error(precision);

    // cosines with directions of length 1
    CHECK(largest_difference(scores("max_cosine", precision),
                             scores("max_cosine", Precision::float32)) <= e + 8 * kUnit);

    // log sum exp is off by no more than the logit that is off most
    const auto& head = train().head;
    const auto react = scores("react", precision), react_32 = scores("react", Precision::float32);
    const double longest = static_cast<double>(head.weight.rowwise().norm().maxCoeff());
    double worst = 0;
    for (std::size_t i = 0; i < react.size(); ++i) {
      const double size = static_cast<double>(x.row(static_cast<Index>(i)).norm());
      const double allowed = e * size * longest + 1e-5 * (1 + std::abs(react_32[i]));
      worst = std::max(worst, std::abs(static_cast<double>(react[i]) - react_32[i]) / allowed);
    }
    CHECK(worst <= 1);

    // |y|_2 with y off by e |x - mu| in each of its entries: those of R, D - d of them
    const auto residual = scores("residual", precision),
               residual_32 = scores("residual", Precision::float32);
    const Vector origin = ResidualSpace::origin_of(head).cast<float>();
    worst = 0;
    for (std::size_t i = 0; i < residual.size(); ++i) {
      const double size =
          static_cast<double>((x.row(static_cast<Index>(i)) - origin.transpose()).norm());
      const double allowed =
          e * size * std::sqrt(static_cast<double>(kDim - kDim / 2)) + 1e-5 * size;
      worst =
          std::max(worst, std::abs(static_cast<double>(residual[i]) - residual_32[i]) / allowed);
    }
    CHECK(worst <= 1);
  }
}

TEST_CASE("precision: tf32 is float32 on a processor, to the bit") {
  CHECK(kernels::available(Precision::tf32) == Precision::float32);
}

TEST_CASE("precision: bfloat16x3 scores as float32 does, bfloat16 nearly so") {
  for (const auto& name : names()) {
    CAPTURE(name);
    const auto expected = scores(name, Precision::float32);
    const double spread = deviation(expected);
    CHECK(largest_difference(scores(name, Precision::bfloat16x3), expected) <= 0.005 * spread);
    CHECK(largest_difference(scores(name, Precision::bfloat16), expected) <= 0.3 * spread);
  }
}

TEST_CASE("precision: the same bits for any number of threads, batches and places") {
  const Batch all = queries().batch();
  for (const auto& name : names())
    for (const Precision precision : kRounded) {
      CAPTURE(name);
      CAPTURE(precision);
      const auto detector = fitted(name, precision);
      const auto expected = detector->score(all, {.threads = 1});
      for (const int threads : {2, 7})
        CHECK(same_bits(detector->score(all, {.threads = threads}), expected));
      for (const Index size : {1, 3, 16, 17, 129, 300}) {
        CAPTURE(size);
        std::vector<float> parts;
        for (Index begin = 0; begin < kRows; begin += size) {
          const auto part = detector->score(all.slice(begin, std::min(size, kRows - begin)));
          parts.insert(parts.end(), part.begin(), part.end());
        }
        CHECK(same_bits(parts, expected));
      }
    }
}

TEST_CASE("precision: a row with NaN or infinity scores NaN, and no other row changes") {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const auto& name : names())
    for (const Precision precision : kRounded) {
      CAPTURE(name);
      CAPTURE(precision);
      const auto detector = fitted(name, precision);
      const auto clean = detector->score(queries().batch());
      for (const float bad : {std::nanf(""), infinity, -infinity}) {
        auto data = queries();
        for (const Index row : {0, 130, 300}) data.spoil(row, bad);
        const auto got = detector->score(data.batch());
        for (std::size_t i = 0; i < got.size(); ++i) {
          CAPTURE(i);
          if (i == 0 || i == 130 || i == 300)
            CHECK(std::isnan(got[i]));
          else
            CHECK(got[i] == clean[i]);
        }
      }
    }
}

TEST_CASE("precision: is saved, and float32 in files that are older than it") {
  for (const auto& name : names()) {
    CAPTURE(name);
    const auto detector = fitted(name, Precision::bfloat16);
    const auto loaded = detector_from_bytes(to_bytes(*detector));
    CHECK(to_text(loaded->options().back().value) == "bfloat16");
    CHECK(same_bits(loaded->score(queries().batch()), detector->score(queries().batch())));
  }
  CHECK(precision_in("mahalanobis.ood") == "float32");
  CHECK(precision_in("max_cosine.ood") == "float32");
  CHECK(precision_in("msp.ood").empty());
}

TEST_CASE("precision: of settings that are tried together, each has its own") {
  const std::vector<OptionMap> settings = {{{"precision", std::string("bfloat16")}},
                                           {{"precision", std::string("float32")}}};
  const auto detector = make_detector("conjnorm");
  const auto candidates = detector->candidates(settings, Quantity::score);
  MemorySource source(train().batch(), &train().head);
  candidates->fit(source);
  MatrixD together;
  candidates->score(queries().batch(), together);
  const bool has = kernels::available(Precision::bfloat16) == Precision::bfloat16;
  CHECK((together.col(0) == together.col(1)) == !has);
}
