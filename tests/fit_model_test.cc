#include "ood/fit_model.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "dataset_files.h"
#include "ood/registry.h"
#include "ood/row_sample.h"
#include "synthetic.h"

using namespace ood;

namespace {

constexpr Index kDim = 9, kClasses = 3;

const test::Everything& train() {
  static const auto data = test::make_everything(400, kDim, kClasses, 3);
  return data;
}
const test::Everything& id_val() {
  static const auto data = test::make_everything(150, kDim, kClasses, 4);
  return data;
}

/// A file with these splits.
std::filesystem::path write(const test::TemporaryFolder& folder,
                            const std::vector<std::string>& splits) {
  const auto path = folder / "features.h5";
  DatasetWriter writer(path, {});
  writer.write_head(train().head);
  for (const std::string& split : splits)
    writer.append(split, split == "train" ? train().batch() : id_val().batch());
  writer.close();
  return path;
}

Model fit_on(const std::vector<std::string>& splits, const std::string& detector,
             const FitModelOptions& options = {}, const OptionMap& detector_options = {}) {
  const test::TemporaryFolder folder;
  return fit_model(make_detector(detector, detector_options), Dataset(write(folder, splits)),
                   options);
}

std::vector<double> as_doubles(const std::vector<float>& scores) {
  return {scores.begin(), scores.end()};
}

std::vector<double> sorted(std::vector<double> scores) {
  std::ranges::sort(scores);
  return scores;
}

std::vector<double> kept(const Model& model) {
  const Scores scores = model.calibration.all().kept();
  return {scores.begin(), scores.end()};
}

}  // namespace

TEST_CASE("fit_model: calibrated on id_val, which the detector was not fitted on") {
  const test::TemporaryFolder folder;
  const auto path = write(folder, {"train", "id_val"});
  const Dataset dataset(path);
  const Model model = fit_model(make_detector("mahalanobis"), dataset, {.alpha = 0.1});
  auto reference = make_detector("mahalanobis");
  MemorySource source(train().batch(), &train().head);
  reference->fit(source);
  CHECK(to_bytes(*model.detector) == to_bytes(*reference));
  CHECK(kept(model) == sorted(as_doubles(reference->score(id_val().batch()))));
  CHECK(model.alpha == 0.1);
  CHECK(model.fitted_on.file == path.string());
  CHECK(model.fitted_on.fingerprint == fingerprint(path));
  CHECK(model.fitted_on.split == "train");
  CHECK(model.fitted_on.rows == 400);
  CHECK(model.fitted_on.dim == kDim);
  CHECK(model.fitted_on.classes == kClasses);
  CHECK_FALSE(model.fitted_on.part);
  CHECK(model.calibrated_on.split == "id_val");
  CHECK(model.calibrated_on.rows == 150);
  CHECK_FALSE(model.calibrated_on.part);
  CHECK(calibration_warnings(model).empty());
}

TEST_CASE("fit_model: without id_val some rows of train are held out of the fit") {
  // one neighbour, not normalised: a row that is its own neighbour would score 0
  const Model model = fit_on({"train"}, "knn", {}, {{"k", Index{1}}, {"normalize", false}});
  CHECK(model.fitted_on.rows == 360);
  CHECK(model.fitted_on.part);
  CHECK(model.calibrated_on.split == "train");
  CHECK(model.calibrated_on.rows == 40);
  CHECK(model.calibrated_on.part);
  for (const double score : kept(model)) CHECK(score < -0.1);

  // by hand: the rows that the sample names, and a fit on the others
  const RowSample sample(400, 0.1, 0);
  std::map<bool, std::vector<Index>> rows;
  for (Index i = 0; i < 400; ++i) rows[sample.contains(i)].push_back(i);
  const auto& fitted_on = rows[false];
  const auto& held_out = rows[true];
  std::vector<double> nearest;
  for (const Index i : held_out) {
    double least = 1e30;
    for (const Index j : fitted_on)
      least = std::min(
          least,
          (train().features.row(i).cast<double>() - train().features.row(j).cast<double>()).norm());
    nearest.push_back(-least);
  }
  std::ranges::sort(nearest);
  const auto got = kept(model);
  REQUIRE(got.size() == nearest.size());
  for (std::size_t i = 0; i < got.size(); ++i)
    CHECK(got[i] == doctest::Approx(nearest[i]).epsilon(1e-4));
  CHECK(calibration_warnings(model).size() == 1);  // the network was trained on these rows
}

TEST_CASE("fit_model: share and choice of the rows that are held out") {
  CHECK(fit_on({"train"}, "mahalanobis", {.held_out = 0.25}).calibrated_on.rows == 100);
  const auto a = kept(fit_on({"train"}, "mahalanobis", {.seed = 1}));
  CHECK(a == kept(fit_on({"train"}, "mahalanobis", {.seed = 1, .exec = {.threads = 1}})));
  CHECK(a != kept(fit_on({"train"}, "mahalanobis", {.seed = 2})));
}

TEST_CASE("fit_model: a detector that is fitted on id_val keeps some of its rows") {
  const Model model = fit_on({"train", "id_val"}, "temperature_scaling");
  CHECK(model.fitted_on.split == "id_val");
  CHECK(model.fitted_on.rows == 135);
  CHECK(model.calibrated_on.split == "id_val");
  CHECK(model.calibrated_on.rows == 15);
  CHECK(model.calibrated_on.part);
  // members on train, their combination on id_val
  const Model fusion = fit_on({"train", "id_val"}, "fusion");
  CHECK(fusion.fitted_on.split == "id_val, train");
  CHECK(fusion.fitted_on.rows == 535);
  CHECK(fusion.calibrated_on.split == "id_val");
  CHECK(fusion.calibrated_on.rows == 15);
}

TEST_CASE("fit_model: what has no fit holds nothing out") {
  const Model model = fit_on({"train"}, "energy");
  CHECK(model.fitted_on.split.empty());
  CHECK(model.fitted_on.rows == 0);
  CHECK(model.calibrated_on.rows == 400);
  CHECK_FALSE(model.calibrated_on.part);
  CHECK(kept(model) == sorted(as_doubles(model.detector->score(train().batch()))));
  const Model head_alone = fit_on({"train", "id_val"}, "ash");  // its fit reads the head
  CHECK(head_alone.fitted_on.rows == 0);
  CHECK(head_alone.calibrated_on.split == "id_val");
}

TEST_CASE("fit_model: by class") {
  const Model model = fit_on({"train", "id_val"}, "knn", {.by_class = true});
  REQUIRE(model.calibration.by_class());
  CHECK(model.calibration.classes() == kClasses);
  const auto scores = model.detector->score(id_val().batch());
  for (Index i = 0; i < 150; ++i) {
    Index predicted = 0, at_most = 0, rows = 0;
    id_val().logits.row(i).maxCoeff(&predicted);
    const float score = scores[static_cast<std::size_t>(i)];
    for (Index j = 0; j < 150; ++j) {
      Index other = 0;
      id_val().logits.row(j).maxCoeff(&other);
      if (other != predicted) continue;
      ++rows;
      at_most += scores[static_cast<std::size_t>(j)] <= score ? 1 : 0;
    }
    CHECK(model.calibration.p_value(static_cast<double>(score), predicted) ==
          static_cast<double>(1 + at_most) / static_cast<double>(1 + rows));
  }
}

TEST_CASE("fit_model: warnings") {
  const auto few = calibration_warnings(fit_on({"train", "id_val"}, "energy", {.alpha = 0.001}));
  REQUIRE(few.size() == 1);
  CHECK(few[0] == "has fewer than 999 calibration rows: nothing is rejected at alpha 0.001");
  const auto classes = calibration_warnings(
      fit_on({"train", "id_val"}, "energy", {.alpha = 0.01, .by_class = true}));
  REQUIRE(classes.size() == 1);
  CHECK(classes[0] ==
        "3 of 3 classes have fewer than 99 calibration rows: nothing is rejected there at alpha "
        "0.01");
}

TEST_CASE("fit_model: errors") {
  for (const double alpha : {-0.1, 1.0, std::nan("")})
    CHECK_THROWS_WITH(fit_on({"train"}, "energy", {.alpha = alpha}),
                      doctest::Contains("alpha has"));
  for (const double share : {0.0, 0.6, std::nan("")})
    CHECK_THROWS_WITH(fit_on({"train"}, "energy", {.held_out = share}),
                      doctest::Contains("held_out has"));
  CHECK_THROWS_WITH(fit_on({"id_test"}, "knn"), doctest::Contains("no /train"));
  CHECK_THROWS_WITH(fit_on({"id_test"}, "energy"),
                    doctest::Contains("neither /id_val nor /train with logits"));
}

TEST_CASE("calibrate: a score that is NaN is an error that says which row") {
  auto data = test::make_everything(30, kDim, kClasses, 4);
  const auto detector = make_detector("energy");
  MemorySource source(data.batch(), &data.head);
  CHECK_NOTHROW(calibrate(*detector, source));
  data.logits(20, 1) = std::nanf("");
  MemorySource bad(data.batch(), &data.head);
  CHECK_THROWS_WITH(calibrate(*detector, bad), doctest::Contains("calibrate: "));
}
