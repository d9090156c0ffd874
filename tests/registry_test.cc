#include <doctest/doctest.h>
#include <fmt/ranges.h>

#include <Eigen/LU>
#include <algorithm>
#include <cmath>
#include <string>

#include "ood/detectors.h"
#include "ood/registry.h"
#include "synthetic.h"

using namespace ood;

TEST_CASE("make_detector: an unknown name is an error with the names that there are") {
  CHECK_THROWS_WITH_AS(make_detector("mahalanobi"),
                       fmt::format("unknown detector mahalanobi, expected one of {}",
                                   fmt::join(detector_names(), ", "))
                           .c_str(),
                       std::invalid_argument);
}

TEST_CASE("make_detector: options by name, typed or as text") {
  const auto typed = make_detector("conjnorm", {{"p", 2.0}, {"partition", std::string("none")}});
  const auto text =
      make_detector("conjnorm", {{"p", std::string("2")}, {"partition", std::string("none")}});
  CHECK(to_text(typed->options()[0].value) == "2");
  CHECK(to_text(text->options()[0].value) == "2");
  CHECK(to_text(text->options()[3].value) == "none");
  CHECK(std::get<Index>(make_detector("knn", {{"k", 200.0}})->options()[0].value) == 200);
}

TEST_CASE("make_detector: a list of numbers, typed or as text") {
  const auto priors = [](const OptionValue& value) {
    const auto detector = make_detector("conjnorm", {{"priors", value}});
    const auto options = detector->options();
    return std::ranges::find(options, "priors", &OptionInfo::name)->value;
  };
  const OptionValue expected = std::vector<double>{0.25, 0.75};
  CHECK((priors(expected) == expected));
  CHECK((priors(std::string("0.25,0.75")) == expected));
  CHECK(to_text(expected) == "0.25,0.75");
  CHECK((priors(std::string()) == OptionValue(std::vector<double>{})));
  for (const char* bad : {"0.25,", ",0.75", "0.25;0.75", "x", "0.25,1.5", "-0.1,1.1", "nan,1"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(priors(std::string(bad)), std::invalid_argument);
  }
}

TEST_CASE("make_detector: a preset, and an option given beside it") {
  const auto value = [](const OptionMap& options, const char* name) {
    const auto infos = make_detector("conjnorm", options)->options();
    return to_text(std::ranges::find(infos, name, &OptionInfo::name)->value);
  };
  const OptionMap resnet = {{"preset", std::string("imagenet-resnet50")}};
  CHECK(value(resnet, "p") == "1.5");
  CHECK(value(resnet, "temperature") == "0.0005");
  CHECK(value(resnet, "partition") == "per_class");
  const OptionMap warmer = {{"preset", std::string("imagenet-resnet50")}, {"temperature", 0.1}};
  CHECK(value(warmer, "p") == "1.5");
  CHECK(value(warmer, "temperature") == "0.1");
  CHECK(value(warmer, "partition") == "per_class");
}

TEST_CASE("make_detector: the preset paper is the defaults, whatever was set before") {
  const auto detector = make_detector("knn", {{"preset", std::string("pytorch_ood")}});
  detector->set_options({{"preset", std::string("paper")}, {"k", Index{7}}});
  const auto expected = make_detector("knn", {{"k", Index{7}}})->options();
  const auto options = detector->options();
  for (std::size_t i = 0; i < options.size(); ++i)
    CHECK(to_text(options[i].value) == to_text(expected[i].value));
}

TEST_CASE("make_detector: wrong options are errors that say what is expected") {
  const auto message = [](const char* name, const OptionMap& options) {
    try {
      make_detector(name, options);
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(message("knn", {{"kk", Index{1}}}) ==
        "knn: unknown option kk, expected one of k, normalize, aggregate, bank_share, seed");
  CHECK(message("max_logit", {{"k", Index{1}}}) == "max_logit: unknown option k, expected none");
  CHECK(message("knn", {{"k", Index{0}}}) ==
        "knn: option k has 0, expected a whole number, 1 or more");
  CHECK(message("knn", {{"k", 1.5}}) ==
        "knn: option k has 1.5, expected a whole number, 1 or more");
  CHECK(message("knn", {{"k", std::string("5x")}}) ==
        "knn: option k has 5x, expected a whole number, 1 or more");
  CHECK(message("knn", {{"normalize", std::string("yes")}}) ==
        "knn: option normalize has yes, expected true or false");
  CHECK(message("conjnorm", {{"p", 1.0}}) ==
        "conjnorm: option p has 1, expected a number, above 1, 1000000 or less");
  CHECK(message("conjnorm", {{"partition", std::string("all")}}) ==
        "conjnorm: option partition has all, expected one of pooled, per_class, importance, none");
  CHECK(message("conjnorm", {{"preset", std::string("svhn")}}) ==
        "conjnorm: preset has svhn, expected one of cifar10, cifar100, imagenet-resnet50, "
        "imagenet-mobilenetv2, paper");
  CHECK(message("knn", {{"preset", std::string("novel")}}) ==
        "knn: preset has novel, expected one of pytorch_ood, paper");
  CHECK(message("ssd", {{"preset", std::string("paper")}}) ==
        "ssd: unknown option preset, expected one of ridge, precision");
  CHECK(message("conjnorm", {{"priors", std::string("0.5,2")}}) ==
        "conjnorm: option priors has 2, expected numbers, each 0 or more, 1 or less");
  CHECK(message("energy", {{"temperature", std::string("nan")}}) ==
        "energy: option temperature has nan, expected a number, 1e-06 or more, 1000000 or less");
}

TEST_CASE("options in C++: a wrong value in a constructor is the same error") {
  CHECK_THROWS_WITH_AS(Knn({.k = 0}), "knn: option k has 0, expected a whole number, 1 or more",
                       std::invalid_argument);
  CHECK_THROWS_AS(Energy({.temperature = -1}), std::invalid_argument);
}

TEST_CASE("set_options: all or nothing") {
  const auto detector = make_detector("gen", {{"gamma", 0.5}});
  CHECK_THROWS(detector->set_options({{"gamma", 0.25}, {"top_m", Index{0}}}));
  CHECK(std::get<double>(detector->options()[0].value) == 0.5);
}

TEST_CASE("bytes: an unfitted detector, a cut or a foreign string are errors") {
  CHECK_THROWS_AS(to_bytes(*make_detector("knn")), std::logic_error);
  const auto bytes = to_bytes(*make_detector("energy"));
  CHECK_THROWS_AS(detector_from_bytes(std::span(bytes).first(bytes.size() - 1)),
                  std::invalid_argument);
  CHECK_THROWS_AS(detector_from_bytes({}), std::invalid_argument);
}

TEST_CASE("fit: more classes than rows is an error, and takes no memory for them") {
  const std::vector<std::int64_t> labels = {0, 1, 1'000'000};
  const Matrix features = Matrix::Random(3, 2);
  Batch batch;
  batch.features = features;
  batch.labels = labels;
  MemorySource source(batch);
  CHECK_THROWS_WITH_AS(make_detector("conjnorm")->fit(source),
                       "conjnorm.fit: memory has 1000001 classes but 3 rows, expected 1 row or "
                       "more of each",
                       std::domain_error);
}

TEST_CASE("knn: more neighbours than training rows is an error that says both") {
  const auto data = test::make_synthetic(20, 3, 2, 1);
  MemorySource source(data.batch());
  Knn knn;
  CHECK_THROWS_WITH_AS(knn.fit(source), "knn.fit: memory has 20 rows, expected k = 50 or more",
                       std::domain_error);
}

TEST_CASE("knn: a training row is its own first neighbour, at distance 0 exactly") {
  const auto data = test::make_synthetic(500, 30, 2, 1);
  MemorySource source(data.batch());
  for (const bool normalize : {true, false}) {
    Knn knn({.k = 1, .normalize = normalize});
    knn.fit(source);
    for (const float score : knn.score(data.batch())) CHECK(score == 0.0f);
  }
}

TEST_CASE("mahalanobis: features that do not vary within the classes are an error") {
  auto data = test::make_synthetic(100, 3, 2, 1);
  data.features.setConstant(2);
  MemorySource source(data.batch());
  for (const char* name : {"mahalanobis", "relative_mahalanobis"}) {
    CAPTURE(name);
    CHECK_THROWS_WITH_AS(
        make_detector(name)->fit(source),
        (std::string(name) + ".fit: the covariance is 0, expected features that vary").c_str(),
        std::domain_error);
  }
}

TEST_CASE("conjnorm at p = 2 without a partition is a Gaussian mixture on the unit sphere") {
  // q = 2, g(mu) = mu: d = |z - mu|^2 / 2, so S = log (1/C) sum_k exp(-|z' - mu'_k|^2 / 2t)
  const auto data = test::make_synthetic(600, 12, 4, 5);
  MemorySource source(data.batch());
  const double t = 0.1;
  ConjNorm conjnorm({.p = 2, .temperature = t, .partition = ConjNorm::Partition::none});
  conjnorm.fit(source);
  const auto scores = conjnorm.score(data.batch());

  MatrixD means = MatrixD::Zero(4, 12);
  for (Index i = 0; i < 600; ++i) means.row(i % 4) += data.features.row(i).cast<double>() / 150.0;
  means.rowwise().normalize();
  for (Index i = 0; i < 600; ++i) {
    const VectorD z = data.features.row(i).cast<double>().transpose().normalized();
    double sum = 0;
    for (Index k = 0; k < 4; ++k)
      sum += std::exp(-(z - means.row(k).transpose()).squaredNorm() / (2 * t)) / 4;
    CHECK(scores[static_cast<std::size_t>(i)] == doctest::Approx(std::log(sum)).epsilon(1e-5));
  }
}

TEST_CASE("mahalanobis, knn: nothing cancels where classes are tight against their separation") {
  // Clusters of width 1e-3 at distances of about 10: |m|^2 is 1e8 times the distances asked for
  auto data = test::make_synthetic(400, 16, 4, 21);
  const Matrix centers = test::normal_matrix(4, 16, 1, 3.0);
  for (Index i = 0; i < 400; ++i)
    data.features.row(i) = centers.row(i % 4) + 1e-3f * (data.features.row(i) - centers.row(i % 4));
  MemorySource source(data.batch());
  const MatrixD z = data.features.cast<double>();

  MatrixD means = MatrixD::Zero(4, 16), s = MatrixD::Zero(16, 16);
  for (Index i = 0; i < 400; ++i) means.row(i % 4) += z.row(i) / 100.0;
  for (Index i = 0; i < 400; ++i) {
    const VectorD delta = (z.row(i) - means.row(i % 4)).transpose();
    s += delta * delta.transpose() / 400.0;
  }
  const MatrixD precision = s.inverse();
  const auto mahalanobis = make_detector("mahalanobis");
  mahalanobis->fit(source);
  const auto scores = mahalanobis->score(data.batch());
  Knn knn({.k = 20, .normalize = false});
  knn.fit(source);
  const auto distances = knn.score(data.batch());
  for (Index i = 0; i < 400; ++i) {
    CAPTURE(i);
    double nearest = HUGE_VAL;
    for (Index c = 0; c < 4; ++c) {
      const VectorD delta = (z.row(i) - means.row(c)).transpose();
      nearest = std::min(nearest, delta.dot(precision * delta));
    }
    CHECK(scores[static_cast<std::size_t>(i)] == doctest::Approx(-nearest).epsilon(5e-3));

    std::vector<double> squared;
    for (Index j = 0; j < 400; ++j) squared.push_back((z.row(i) - z.row(j)).squaredNorm());
    std::ranges::sort(squared);
    CHECK(distances[static_cast<std::size_t>(i)] ==
          doctest::Approx(-std::sqrt(squared[19])).epsilon(1e-5));
  }
}

TEST_CASE("knn: NaN where the square of the k-th distance overflows, and there alone") {
  Matrix features = Matrix::Constant(60, 4, 1.2e19f);
  features.bottomRows(30) *= -1;
  Batch batch;
  batch.features = features;
  MemorySource source(batch);
  for (const Index k : {1, 30, 31, 60}) {
    Knn knn({.k = k, .normalize = false});
    knn.fit(source);
    for (const float score : knn.score(batch))
      CHECK((k > 30 ? std::isnan(score) : score == 0.0f));  // |1.2e19 - -1.2e19|^2 4 = 2.3e39
  }
}

TEST_CASE("bytes: state whose shapes disagree is an error") {
  const auto data = test::make_synthetic(100, 6, 3, 1);
  MemorySource source(data.batch());
  /// Makes one named matrix or vector of the state one row longer.
  struct Grow : FieldVisitor {
    std::string which;
    void state(std::string_view name, Matrix& m) override {
      if (name == which) m.conservativeResize(m.rows() + 1, m.cols());
    }
    void state(std::string_view name, VectorD& v) override {
      if (name == which) v.conservativeResize(v.size() + 1);
    }
    void state(std::string_view name, Vector& v) override {
      if (name == which) v.conservativeResize(v.size() + 1);
    }
  };
  const std::vector<std::pair<const char*, std::string>> cases = {
      {"conjnorm", "log_partition"},
      {"conjnorm", "gradients"},
      {"mahalanobis", "center"},
      {"relative_mahalanobis", "background_transform"}};
  for (const auto& item : cases) {
    const std::string& field = item.second;
    CAPTURE(field);
    const auto detector = make_detector(item.first);
    detector->fit(source);
    Grow grow;
    grow.which = field;
    detector->visit(grow);
    CHECK_THROWS_AS(detector_from_bytes(to_bytes(*detector)), std::invalid_argument);
  }
}
