#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>

#include "dataset_files.h"
#include "ood/synthetic.h"

using namespace ood;
using namespace ood::test;

namespace {

const SyntheticData& small() {
  static const SyntheticData data("cifar100-densenet", 3);
  return data;
}

Matrix features(const SyntheticData& data, std::string_view split, Index rows, int threads = 1) {
  const auto source = data.source(split, rows, false, {.threads = threads});
  return gather(*source, {.features = true}).features;
}

std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The mean of max(a, 0)^power over a normal a, by the trapezoidal rule; power 0: how often a > 0.
double rectified_moment(double mean, double deviation, int power) {
  constexpr int kSteps = 4000;
  double sum = 0;
  for (int i = 0; i <= kSteps; ++i) {
    const double t = -8 + 16.0 * i / kSteps, a = mean + deviation * t;
    if (a > 0) sum += std::pow(a, power) * std::exp(-t * t / 2);
  }
  return sum * 16 / kSteps / std::sqrt(2 * std::acos(-1.0));
}

}  // namespace

TEST_CASE("synthetic: shapes, names, errors") {
  CHECK(synthetic_presets() == std::vector<std::string>{"imagenet-resnet50", "cifar100-densenet"});
  const auto source = small().source("train", 250, true);
  CHECK(source->info().dim == 342);
  CHECK(source->info().classes == 100);
  CHECK(source->info().rows == 250);
  const BatchBuffer rows = gather(*source);
  CHECK(rows.features.minCoeff() >= 0);
  CHECK(rows.labels[0] == 0);
  CHECK(rows.labels[249] == 49);
  const Head& head = small().head();
  const MatrixD logits =
      (rows.features.cast<double>() * head.weight.cast<double>().transpose()).rowwise() +
      head.bias.cast<double>().transpose();
  CHECK((rows.logits.cast<double>() - logits).cwiseAbs().maxCoeff() < 1e-4);
  CHECK(SyntheticData::kind("ood/unseen") == "near");
  CHECK(SyntheticData::kind("ood/noise") == "far");
  CHECK(SyntheticData::kind("id_test").empty());
  CHECK_FALSE(small().source("ood/noise", 1)->info().has.labels);

  CHECK_THROWS_WITH_AS(
      SyntheticData("vgg"),
      "synthetic: preset has vgg, expected one of imagenet-resnet50, cifar100-densenet",
      std::invalid_argument);
  CHECK_THROWS_WITH_AS(
      small().source("test", 1),
      "synthetic: split has test, expected one of train, id_val, id_test, ood_val/unseen, "
      "ood/unseen, ood/spectrum, ood/noise",
      std::invalid_argument);
  CHECK_THROWS_WITH_AS(small().source("train", 0),
                       "synthetic: train has 0 rows, expected 1 or more", std::invalid_argument);
}

TEST_CASE("synthetic: a row depends on seed, split and its number alone") {
  const Matrix many = features(small(), "train", 2500);
  CHECK(features(small(), "train", 2500, 4) == many);
  for (const Index rows : {1, 127, 129, 1025})
    CHECK(features(small(), "train", rows) == many.topRows(rows));
  CHECK(features(SyntheticData("cifar100-densenet", 3), "train", 10) == many.topRows(10));
  CHECK(features(SyntheticData("cifar100-densenet", 4), "train", 10) != many.topRows(10));
  CHECK(features(small(), "id_val", 10) != many.topRows(10));
  CHECK(features(small(), "id_val", 10) != features(small(), "id_test", 10));
}

TEST_CASE("synthetic: features are what the model says") {
  const SyntheticModel& model = small().model();
  const Index per_class = 300, rows = per_class * model.classes;
  const Matrix z = features(small(), "train", rows);
  double zeros = 0, expected_zeros = 0;
  for (const Index label : {0, 57, 99}) {
    VectorD mean = VectorD::Zero(model.dim);
    for (Index i = label; i < rows; i += model.classes) {
      mean += z.row(i).cast<double>();
      zeros += static_cast<double>((z.row(i).array() == 0).count());
    }
    mean /= static_cast<double>(per_class);
    // over the strength, by the midpoint rule
    constexpr int kStrengths = 20;
    VectorD expected = VectorD::Zero(model.dim), second = expected;
    const VectorD code = model.codes.row(label).cast<double>();
    const VectorD direction = model.loadings.cast<double>() * code;
    const VectorD variance =
        model.loadings.cast<double>().cwiseAbs2() * model.within.cast<double>().cwiseAbs2();
    for (int s = 0; s < kStrengths; ++s) {
      const double q =
          model.strength_low + (model.strength_high - model.strength_low) * (s + 0.5) / kStrengths;
      for (Index j = 0; j < model.dim; ++j) {
        const double a = model.offset + q * direction[j], g = model.scale[j];
        const double deviation = std::sqrt(variance[j] + model.noise * model.noise);
        expected[j] += g * rectified_moment(a, deviation, 2) / kStrengths;
        second[j] += g * g * rectified_moment(a, deviation, 4) / kStrengths;
        expected_zeros +=
            static_cast<double>(per_class) * (1 - rectified_moment(a, deviation, 0)) / kStrengths;
      }
      if (s == 7) {  // the closed form
        const VectorD closed = model.mean(q * code);
        for (Index j = 0; j < model.dim; j += 11)
          CHECK(closed[j] ==
                doctest::Approx(model.scale[j] *
                                rectified_moment(model.offset + q * direction[j],
                                                 std::sqrt(variance[j] + model.noise * model.noise),
                                                 2))
                    .epsilon(1e-5));
      }
    }
    // 342 means of 300 rows, in their standard errors: mean square 1, none beyond 5
    const VectorD errors =
        (mean - expected).array() /
        ((second.array() - expected.array().square()) / static_cast<double>(per_class)).sqrt();
    CHECK(errors.cwiseAbs().maxCoeff() < 5);
    CHECK(errors.squaredNorm() / static_cast<double>(model.dim) ==
          doctest::Approx(1).epsilon(0.35));
  }
  CHECK(zeros == doctest::Approx(expected_zeros).epsilon(0.06));
  CHECK(z.mean() == doctest::Approx(0.14).epsilon(0.03));  // what the preset is made for
}

TEST_CASE("synthetic: accuracy is that of such networks") {
  for (const char* preset : {"cifar100-densenet", "imagenet-resnet50"}) {
    CAPTURE(preset);
    const SyntheticData data(preset, 1);
    const BatchBuffer rows = gather(*data.source("id_test", 3000, true));
    Index right = 0;
    for (Index i = 0; i < rows.logits.rows(); ++i) {
      Index best = 0;
      rows.logits.row(i).maxCoeff(&best);
      right += best == rows.labels[static_cast<std::size_t>(i)];
    }
    CHECK(static_cast<double>(right) / 3000 > 0.70);
    CHECK(static_cast<double>(right) / 3000 < 0.82);
  }
}

TEST_CASE("synthetic: a file, the same for any number of threads") {
  const TemporaryFolder folder;
  const auto path = folder / "a.h5";
  write_synthetic(path, small(), {.rows = 300, .test_rows = 40, .exec = {.threads = 1}});
  write_synthetic(folder / "b.h5", small(), {.rows = 300, .test_rows = 40, .exec = {.threads = 4}});
  CHECK(bytes_of(path) == bytes_of(folder / "b.h5"));
  const Dataset dataset(path);
  CHECK(dataset.info().model == "synthetic cifar100-densenet");
  CHECK(dataset.info().id_dataset == "synthetic");
  CHECK(dataset.info().splits.size() == 7);
  CHECK(dataset.at("train").source.rows == 300);
  CHECK(dataset.at("id_test").source.rows == 40);
  CHECK(dataset.at("ood/spectrum").kind == "far");
  CHECK_FALSE(dataset.at("train").source.has.logits);
  CHECK(gather(*dataset.source("train")).features == features(small(), "train", 300));

  write_synthetic(path, small(), {.rows = 100, .test_rows = 1, .logits = true, .gzip_level = 1});
  CHECK(Dataset(path).at("train").source.has.logits);
  CHECK(gather(*Dataset(path).source("train")).features == features(small(), "train", 100));

  CHECK(error_of(path, [&] { write_synthetic(path, small(), {.rows = 99}); }) ==
        "invalid_argument: synthetic: rows has 99, expected at least 100, one for each class of "
        "cifar100-densenet");
  CHECK(error_of(path, [&] { write_synthetic(path, small(), {.rows = 100, .test_rows = 0}); }) ==
        "invalid_argument: synthetic: test_rows has 0, expected 1 or more");
  CHECK(Dataset(path).at("train").source.rows == 100);  // it is what it was
}
