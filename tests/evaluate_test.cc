#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "device/emulated_queue.h"
#include "ood/dataset.h"
#include "ood/evaluate.h"
#include "ood/kernels/elements.h"
#include "ood/registry.h"
#include "ood/stream.h"
#include "quick_options.h"
#include "synthetic.h"

using namespace ood;

namespace {

/// A feature file in the temporary folder that goes with the object.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& name)
      : path_(std::filesystem::temp_directory_path() /
              (name + std::to_string(std::hash<std::string>{}(OOD_SOURCE_DIR)) + ".h5")) {}
  ~TemporaryFile() { std::filesystem::remove(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

std::vector<std::unique_ptr<Detector>> all_detectors() {
  std::vector<std::unique_ptr<Detector>> detectors;
  for (const auto& name : detector_names())
    detectors.push_back(make_detector(name, test::quick_options(name)));
  return detectors;
}

void write(const std::filesystem::path& path, const Batch& train, const Batch& id_test,
           const Batch& near, const Batch& far, const Head* head = nullptr) {
  DatasetWriter writer(path, {.model = "m", .id_dataset = "d"});
  if (train.rows() > 0) writer.append("train", train);
  writer.append("id_test", id_test);
  writer.append("ood/near", near, "near");
  writer.append("ood/far", far, "far");
  if (head != nullptr) writer.write_head(*head);
  writer.close();
}

const test::Synthetic kTrain = test::make_synthetic(600, 8, 4, 1);
const test::Synthetic kId = test::make_synthetic(200, 8, 4, 2);
const test::Synthetic kOod = test::make_synthetic(150, 8, 4, 3, 0.01);

}  // namespace

TEST_CASE("evaluate: rows, means and metrics are what the detectors and metrics give by hand") {
  const TemporaryFile file("evaluate_whole");
  write(file.path(), kTrain.batch(), kId.batch(), kOod.batch(), kOod.batch().slice(0, 70),
        &kTrain.head);
  const Dataset dataset(file.path());
  const auto detectors = all_detectors();
  std::vector<std::string> steps;
  double last = 0;
  const auto report = evaluate(dataset, detectors,
                               {.exec = {}, .progress = [&](std::string_view step, double done) {
                                  steps.emplace_back(step);
                                  CHECK(done >= last);
                                  last = done;
                                }});
  // what the file has nothing for, and what has no use for features below zero
  for (const LeftOut& left : report.left_out) {
    CAPTURE(left.detector);
    CHECK((left.reason.starts_with("no layers in /") || left.reason.starts_with("no copies/") ||
           left.reason == "no /ood_val set" ||
           left.reason.find("expected 0 or more") != std::string::npos));
  }
  CHECK(report.timings.size() + report.left_out.size() == detectors.size());
  CHECK(report.rows.size() == 2 * report.timings.size());
  CHECK(steps.front() == "fit msp");
  CHECK(last == 1.0);

  Index right = 0;  // accuracy, counted by hand
  for (Index i = 0; i < 200; ++i) {
    Index best = 0;
    kId.logits.row(i).maxCoeff(&best);
    right += best == kId.labels[static_cast<std::size_t>(i)];
  }
  REQUIRE(report.id_accuracy.has_value());
  CHECK(*report.id_accuracy == doctest::Approx(static_cast<double>(right) / 200.0));

  for (const ReportRow& row : report.rows) {
    CAPTURE(row.detector);
    CAPTURE(row.dataset);
    const Index n_ood = row.dataset == "near" ? 150 : 70;
    CHECK(row.kind == row.dataset);
    CHECK(row.n_id == 200);
    CHECK(row.n_ood == n_ood);
    const auto detector = make_detector(row.detector, row.options);
    MemorySource train(kTrain.batch(), &kTrain.head);
    detector->fit(train);
    const auto id = detector->score(kId.batch()),
               ood = detector->score(kOod.batch().slice(0, n_ood));
    double pairs = 0;
    for (const float a : id)
      for (const float b : ood) pairs += a > b ? 1.0 : a == b ? 0.5 : 0.0;
    CHECK(row.metrics.auroc ==
          doctest::Approx(pairs / (200.0 * static_cast<double>(n_ood))).epsilon(1e-12));
  }
}

TEST_CASE("evaluate: means are over the sets of a kind, sets without one are in none") {
  const TemporaryFile file("evaluate_means");
  {
    DatasetWriter writer(file.path(), {});
    writer.append("id_test", kId.batch());
    writer.append("ood/a", kOod.batch(), "far");
    writer.append("ood/b", kOod.batch().slice(0, 70), "far");
    writer.append("ood/c", kOod.batch().slice(10, 40), "near");
    writer.append("ood/d", kOod.batch().slice(90, 60));
    writer.append("ood/e", kOod.batch().slice(90, 60), "near");
    writer.close();
  }
  std::vector<std::unique_ptr<Detector>> detectors;
  detectors.push_back(make_detector("msp"));
  detectors.push_back(make_detector("energy"));
  const auto report = evaluate(Dataset(file.path()), detectors);
  REQUIRE(report.rows.size() == 10);
  REQUIRE(report.means.size() == 4);
  for (std::size_t e = 0; e < 2; ++e) {
    const auto id = detectors[e]->score(kId.batch()), ood = detectors[e]->score(kOod.batch());
    const std::vector<double> ids(id.begin(), id.end()), oods(ood.begin(), ood.end());
    const auto rows = [&](Index begin, Index count) {
      return Scores(oods).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count));
    };
    const ReportMean &near = report.means[2 * e], &far = report.means[2 * e + 1];
    CHECK(near.detector == detectors[e]->name());
    CHECK(near.kind == "near");
    CHECK(near.datasets == 2);
    CHECK(far.kind == "far");
    CHECK(far.datasets == 2);
    const Metrics a = compute_metrics(ids, rows(0, 150)), b = compute_metrics(ids, rows(0, 70));
    CHECK(far.metrics.auroc == doctest::Approx((a.auroc + b.auroc) / 2).epsilon(1e-14));
    CHECK(far.metrics.fpr95 == doctest::Approx((a.fpr95 + b.fpr95) / 2).epsilon(1e-14));
    CHECK(far.metrics.aupr_out_trapezoid ==
          doctest::Approx((a.aupr_out_trapezoid + b.aupr_out_trapezoid) / 2).epsilon(1e-14));
    MeanAuroc mean;
    mean.add(ids, rows(10, 40));
    mean.add(ids, rows(90, 60));
    const Interval want = mean.interval(), want_row = auroc_interval(ids, rows(0, 70));
    REQUIRE(near.auroc_interval.has_value());
    CHECK(near.auroc_interval->low == want.low);
    CHECK(near.auroc_interval->high == want.high);
    const ReportRow& row = report.rows[5 * e + 1];
    CHECK(row.dataset == "b");
    REQUIRE(row.auroc_interval.has_value());
    CHECK(row.auroc_interval->low == want_row.low);
    CHECK(row.auroc_interval->high == want_row.high);
    CHECK(row.auroc_interval->low < row.metrics.auroc);
    CHECK(row.auroc_interval->high > row.metrics.auroc);
  }
}

TEST_CASE("evaluate: a set of one row has no interval, nor has a mean that it is in") {
  const TemporaryFile file("evaluate_one_row");
  {
    DatasetWriter writer(file.path(), {});
    writer.append("id_test", kId.batch());
    writer.append("ood/a", kOod.batch(), "far");
    writer.append("ood/b", kOod.batch().slice(3, 1), "far");
    writer.append("ood/c", kOod.batch(), "near");
    writer.close();
  }
  std::vector<std::unique_ptr<Detector>> detectors;
  detectors.push_back(make_detector("msp"));
  const auto report = evaluate(Dataset(file.path()), detectors);
  REQUIRE(report.rows.size() == 3);
  CHECK(report.rows[0].auroc_interval.has_value());
  CHECK_FALSE(report.rows[1].auroc_interval.has_value());
  REQUIRE(report.means.size() == 2);
  CHECK(report.means[0].auroc_interval.has_value());
  CHECK_FALSE(report.means[1].auroc_interval.has_value());
  CHECK(report.means[1].datasets == 2);
}

TEST_CASE("evaluate: curves, agreement and fingerprint are those of the scores, if asked for") {
  const TemporaryFile file("evaluate_curves");
  write(file.path(), kTrain.batch(), kId.batch(), kOod.batch(), kOod.batch().slice(0, 70),
        &kTrain.head);
  std::vector<std::unique_ptr<Detector>> detectors;
  for (const char* name : {"msp", "mahalanobis", "energy"})
    detectors.push_back(make_detector(name));
  const Dataset dataset(file.path());
  const auto plain = evaluate(dataset, detectors);
  CHECK(plain.curves.empty());
  CHECK(plain.agreement.size() == 0);
  CHECK(plain.fingerprint.empty());

  double last = 0;
  const auto report = evaluate(
      dataset, detectors,
      {.exec = {}, .without = {}, .curves = true, .progress = [&](std::string_view, double done) {
         CHECK(done >= last);
         CHECK(done <= 1);
         last = done;
       }});
  CHECK(report.fingerprint == fingerprint(file.path()));
  REQUIRE(report.curves.size() == report.rows.size());
  std::vector<std::vector<double>> all;
  for (std::size_t k = 0; k < report.rows.size(); ++k) {
    const ReportCurve& curve = report.curves[k];
    const ReportRow& row = report.rows[k];
    CHECK(curve.detector == row.detector);
    CHECK(curve.options == row.options);
    CHECK(curve.dataset == row.dataset);
    CHECK(std::reduce(curve.histogram.id.begin(), curve.histogram.id.end()) == row.n_id);
    CHECK(std::reduce(curve.histogram.ood.begin(), curve.histogram.ood.end()) == row.n_ood);
    double area = 0;
    for (std::size_t i = 1; i < curve.roc.size(); ++i)
      area +=
          (curve.roc[i].fpr - curve.roc[i - 1].fpr) * (curve.roc[i].tpr + curve.roc[i - 1].tpr) / 2;
    CHECK(std::abs(area - row.metrics.auroc) <= 1e-3);
  }
  for (const auto& detector : detectors) {  // id_test, then the sets by name: far, near
    auto& scores = all.emplace_back();
    for (const Batch& batch : {kId.batch(), kOod.batch().slice(0, 70), kOod.batch()})
      for (const float score : detector->score(batch)) scores.push_back(score);
  }
  CHECK(report.agreement == rank_correlation(all));
  CHECK(report.agreement(0, 2) > 0.3);
  CHECK(report.agreement(0, 2) < 1);
}

TEST_CASE("evaluate: scores are kept if asked for, as the metrics saw them") {
  const TemporaryFile file("evaluate_scores");
  write(file.path(), kTrain.batch(), kId.batch(), kOod.batch(), kOod.batch().slice(0, 70),
        &kTrain.head);
  const Dataset dataset(file.path());
  std::vector<std::unique_ptr<Detector>> detectors;
  for (const char* name : {"energy", "knn"}) detectors.push_back(make_detector(name));
  CHECK(evaluate(dataset, detectors).scores.empty());
  const Report report = evaluate(dataset, detectors, {.keep_scores = true});
  CHECK(report.fingerprint == fingerprint(file.path()));
  REQUIRE(report.scores.size() == 2);
  for (std::size_t d = 0; d < 2; ++d) {
    const ReportScores& scores = report.scores[d];
    CHECK(scores.detector == detectors[d]->name());
    CHECK(scores.options == report.timings[d].options);
    std::vector<float> own(static_cast<std::size_t>(kId.batch().rows()));
    detectors[d]->score(kId.batch(), own, {});
    CHECK(std::ranges::equal(scores.id_test, own));
    REQUIRE(scores.sets.size() == 2);
    for (std::size_t s = 0; s < 2; ++s) {
      const ReportRow& row = report.rows[2 * d + s];
      CHECK(scores.sets[s].dataset == row.dataset);
      CHECK(std::ssize(scores.sets[s].scores) == row.n_ood);
      CHECK(auroc(scores.id_test, scores.sets[s].scores) == row.metrics.auroc);
    }
  }
}

TEST_CASE("evaluate: detectors that the file does not allow are left out, with the reason") {
  const TemporaryFile file("evaluate_partial");
  const auto logits_only = [](const test::Synthetic& data) {
    Batch batch;
    batch.logits = data.logits;
    return batch;
  };
  write(file.path(), {}, logits_only(kId), logits_only(kOod), logits_only(kOod));
  const Dataset dataset(file.path());
  const auto detectors = all_detectors();
  const auto report = evaluate(dataset, detectors);
  std::vector<std::string> expected, run;
  for (const auto& detector : detectors)
    if (!detector->needs().fit.any() && !detector->needs().score.without({.logits = true}).any())
      expected.emplace_back(detector->name());
  for (const ReportTiming& timing : report.timings) run.push_back(timing.detector);
  CHECK(run == expected);
  CHECK(expected.size() >= 7);
  REQUIRE(report.left_out.size() == detectors.size() - expected.size());
  const auto left = std::ranges::find(report.left_out, "mahalanobis", &LeftOut::detector);
  REQUIRE(left != report.left_out.end());
  CHECK(left->reason == "no /train");
  CHECK_FALSE(report.id_accuracy.has_value());
}

TEST_CASE("evaluate: missing inputs are named split by split") {
  const TemporaryFile file("evaluate_missing");
  Batch train, id;
  train.features = kTrain.features;
  id.features = kId.features;
  write(file.path(), train, id, id, id);
  const Dataset dataset(file.path());
  CHECK(missing_inputs(dataset.info(), *make_detector("mahalanobis")) == "no labels in /train");
  CHECK(missing_inputs(dataset.info(), *make_detector("energy")) == "no logits in /id_test");
  CHECK(missing_inputs(dataset.info(), *make_detector("knn")).empty());
}

TEST_CASE("evaluate: logits come from features and head where they are not stored") {
  const TemporaryFile file("evaluate_head");
  Batch id, ood;
  id.features = kId.features;
  ood.features = kOod.features;
  write(file.path(), {}, id, ood, ood, &kTrain.head);
  std::vector<std::unique_ptr<Detector>> detectors;
  detectors.push_back(make_detector("energy"));
  const auto report = evaluate(Dataset(file.path()), detectors);
  CHECK(report.timings.size() == 1);
}

TEST_CASE(
    "evaluate: data that a method is not defined for leaves it out; bad values are an error") {
  SUBCASE("a class without rows, fewer rows than k") {
    const TemporaryFile file("evaluate_undefined");
    auto few = kTrain;
    std::ranges::replace(few.labels, 3, 2);
    write(file.path(), few.batch().slice(0, 40), kId.batch(), kOod.batch(), kOod.batch(),
          &kTrain.head);
    const auto report = evaluate(Dataset(file.path()), all_detectors());
    const auto reason = [&](const char* detector) {
      const auto left = std::ranges::find(report.left_out, detector, &LeftOut::detector);
      return left == report.left_out.end() ? std::string() : left->reason;
    };
    CHECK(reason("mahalanobis") == "mahalanobis.fit: class 3 has 0 rows, expected 1 or more");
    CHECK(reason("knn").ends_with("/train has 40 rows, expected k = 50 or more"));
    CHECK(reason("vim").empty());
  }
  SUBCASE("finite rows whose scores are beyond float32") {
    const TemporaryFile file("evaluate_huge");
    auto huge = kOod;
    huge.features.row(3).setConstant(3e38f);
    write(file.path(), kTrain.batch(), kId.batch(), huge.batch(), kOod.batch(), &kTrain.head);
    const auto report = evaluate(Dataset(file.path()), all_detectors());
    const auto left = std::ranges::find(report.left_out, "mahalanobis", &LeftOut::detector);
    REQUIRE(left != report.left_out.end());
    CHECK(left->reason.starts_with("on near: "));
    CHECK(report.rows.size() == 2 * report.timings.size());
    CHECK(report.timings[0].detector == "msp");
  }
  SUBCASE("NaN in a scored split") {
    const TemporaryFile file("evaluate_nan");
    auto bad = kOod;
    bad.features(17, 3) = std::nanf("");
    write(file.path(), kTrain.batch(), kId.batch(), bad.batch(), kOod.batch(), &kTrain.head);
    try {
      evaluate(Dataset(file.path()), all_detectors());
      FAIL("no error");
    } catch (const std::invalid_argument& error) {
      const std::string message = error.what();
      CHECK(
          message.find("/ood/near/features has NaN at row 17, column 3, expected finite numbers") !=
          std::string::npos);
    }
  }
}

namespace {

/// Asks for id_val; its score is the mean of the first feature there.
class MeanOfSplit final : public Detector {
 public:
  std::string_view name() const override { return "mean_of_split"; }
  Needs needs() const override {
    return {.fit = {.features = true}, .score = {.features = true}, .split = Split::id_val};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<MeanOfSplit>(*this); }
  void visit(FieldVisitor& v) override { v.state("mean", mean_); }

 private:
  void fit_state(BatchSource& source, const Exec& exec) override {
    mean_ = 0;
    stream(source, needs().fit, exec, [&](const Batch& batch) {
      for (Index i = 0; i < batch.rows(); ++i)
        mean_ +=
            static_cast<double>((*batch.features)(i, 0)) / static_cast<double>(source.info().rows);
    });
  }
  void score_tile(const Batch& tile, std::span<float> out) const override {
    for (std::size_t i = 0; i < out.size(); ++i) {
      if ((*tile.features)(static_cast<Index>(i), 0) < -100)
        throw std::domain_error("features has a number below -100");
      out[i] = static_cast<float>(mean_);
    }
  }
  double mean_ = 0;
};

}  // namespace

TEST_CASE(
    "evaluate: a detector that asks for id_val gets it, or train, and the report says which") {
  for (const bool with_id_val : {true, false}) {
    CAPTURE(with_id_val);
    const TemporaryFile file("evaluate_id_val");
    {
      DatasetWriter writer(file.path(), {});
      writer.append("train", kTrain.batch());
      if (with_id_val) writer.append("id_val", kId.batch().slice(0, 50));
      writer.append("id_test", kId.batch());
      writer.append("ood/near", kOod.batch(), "near");
      writer.close();
    }
    const Dataset dataset(file.path());
    std::vector<std::unique_ptr<Detector>> detectors;
    detectors.push_back(std::make_unique<MeanOfSplit>());
    detectors.push_back(make_detector("knn"));
    detectors.push_back(make_detector("energy"));
    const auto report = evaluate(dataset, detectors);
    REQUIRE(report.timings.size() == 3);
    CHECK(report.timings[0].fitted_on == (with_id_val ? "id_val" : "train"));
    CHECK(report.timings[0].fell_back == !with_id_val);
    CHECK(report.timings[1].fitted_on == "train");
    CHECK_FALSE(report.timings[1].fell_back);
    CHECK(report.timings[2].fitted_on.empty());
    const auto rows = with_id_val ? kId.features.topRows(50).eval() : kTrain.features;
    CHECK(detectors[0]->score(kId.batch())[0] ==
          doctest::Approx(rows.col(0).cast<double>().mean()).epsilon(1e-5));
    const std::string table = to_table(report);
    CHECK((table.find("Fitted on /train, as there is no /id_val: mean_of_split\n") !=
           std::string::npos) == !with_id_val);
  }
}

TEST_CASE(
    "evaluate: detectors made of others are fitted and calibrated where their members ask for") {
  const TemporaryFile file("evaluate_fusion");
  for (const bool with_id_val : {true, false}) {
    CAPTURE(with_id_val);
    DatasetWriter writer(file.path(), {});
    writer.append("train", kTrain.batch());
    if (with_id_val) writer.append("id_val", kId.batch().slice(0, 100));
    writer.append("id_test", kId.batch());
    writer.append("ood/near", kOod.batch(), "near");
    writer.close();
    std::vector<std::unique_ptr<Detector>> detectors;
    detectors.push_back(make_detector("fusion"));
    detectors.push_back(
        make_detector("fusion", {{"detectors", std::string("temperature_scaling+max_logit")}}));
    const auto report = evaluate(Dataset(file.path()), detectors);
    REQUIRE(report.timings.size() == 2);
    CHECK(report.timings[0].fitted_on == (with_id_val ? "id_val, train" : "train"));
    CHECK(report.timings[1].fitted_on == (with_id_val ? "id_val" : "train"));
    for (const ReportTiming& timing : report.timings) CHECK(timing.fell_back == !with_id_val);
    REQUIRE(report.fits.size() == 2);
    const auto& warnings = report.fits[1].found.warnings;
    REQUIRE_FALSE(warnings.empty());
    CHECK(warnings[0].find(with_id_val ? "temperature_scaling is fitted on the rows that"
                                       : "as there is no id_val") != std::string::npos);
  }
}

TEST_CASE("evaluate: what a member lacks is known before the fit") {
  const TemporaryFile file("evaluate_member");
  Batch unlabelled = kId.batch().slice(0, 100);
  unlabelled.labels.reset();
  DatasetWriter writer(file.path(), {});
  writer.append("train", kTrain.batch());
  writer.append("id_val", unlabelled);
  writer.append("id_test", kId.batch());
  writer.append("ood/near", kOod.batch(), "near");
  writer.close();
  const Dataset dataset(file.path());
  CHECK(missing_inputs(dataset.info(), *make_detector("temperature_scaling")) ==
        "no labels in /id_val");
  CHECK(missing_inputs(
            dataset.info(),
            *make_detector("fusion", {{"detectors", std::string("energy+temperature_scaling")}})) ==
        "no labels in /id_val");
}

TEST_CASE("evaluate: one copy is too few for some detectors, which are left out") {
  const TemporaryFile file("evaluate_one_copy");
  const auto one_copy = [](const test::Synthetic& data) {
    Batch batch = data.batch();
    static std::vector<Tensor3> copies;  // must outlive the batch
    copies.reserve(4);
    const auto rows = static_cast<std::size_t>(data.features.rows()),
               width = static_cast<std::size_t>(data.features.cols());
    copies.push_back(Tensor3::from_shape({1, rows, width}));
    std::copy(data.features.data(), data.features.data() + data.features.size(),
              copies.back().data());
    batch.copy_features.emplace(test::Everything::view_of(copies.back()));
    return batch;
  };
  write(file.path(), {}, one_copy(kId), one_copy(kOod), one_copy(kOod));
  std::vector<std::unique_ptr<Detector>> detectors;
  detectors.push_back(make_detector("cosine_variance"));
  detectors.push_back(make_detector("min_cosine"));
  const auto report = evaluate(Dataset(file.path()), detectors);
  REQUIRE(report.left_out.size() == 1);
  CHECK(report.left_out[0].reason ==
        "on id_test: cosine_variance.score: copies/features has K = 1 copies, expected 2 or more");
  CHECK(report.timings.size() == 1);
}

TEST_CASE("evaluate: a detector that is not defined for rows to be scored is left out") {
  const TemporaryFile file("evaluate_score_domain");
  auto bad = kOod;
  bad.features(149, 0) = -101;
  write(file.path(), kTrain.batch(), kId.batch(), bad.batch(), kOod.batch());
  std::vector<std::unique_ptr<Detector>> detectors;
  detectors.push_back(std::make_unique<MeanOfSplit>());
  detectors.push_back(make_detector("energy"));
  const auto report = evaluate(Dataset(file.path()), detectors);
  REQUIRE(report.left_out.size() == 1);
  CHECK(report.left_out[0].detector == "mean_of_split");
  CHECK(report.left_out[0].reason ==
        "on ood/near: mean_of_split.score: features has a number below -100");
  REQUIRE(report.timings.size() == 1);
  CHECK(report.rows.size() == 2);
}

TEST_CASE("evaluate: sets that options were chosen on are left out; fits say what they found") {
  const TemporaryFile file("evaluate_without");
  write(file.path(), kTrain.batch(), kId.batch(), kOod.batch(), kOod.batch().slice(0, 70),
        &kTrain.head);
  const Dataset dataset(file.path());
  const auto detectors = all_detectors();
  const auto whole = evaluate(dataset, detectors);
  const auto part = evaluate(dataset, detectors, {.exec = {}, .without = {"near"}});
  CHECK(2 * part.rows.size() == whole.rows.size());
  for (const ReportRow& row : part.rows) {
    CHECK(row.dataset == "far");
    const auto same = std::ranges::find_if(whole.rows, [&](const ReportRow& other) {
      return other.detector == row.detector && other.dataset == "far";
    });
    REQUIRE(same != whole.rows.end());
    CHECK(row.metrics.auroc == same->metrics.auroc);
  }
  CHECK(part.timings[0].scored_rows == 270);
  CHECK(part.id_accuracy == whole.id_accuracy);
  CHECK(part.searches.empty());

  std::vector<std::string> expected, found;  // those whose diagnostics hold something
  for (const auto& detector : detectors)
    if (detector->diagnostics().any()) expected.emplace_back(detector->name());
  for (const ReportFit& fit : whole.fits) {
    found.push_back(fit.detector);
    CHECK(fit.found.any());
    for (const auto& column : fit.found.per_class) CHECK(column.values.size() == 4);
    if (fit.detector == "conjnorm") {
      CHECK(fit.found.per_class.front().values == std::vector<double>(4, 150.0));  // rows
      CHECK(std::get<std::string>(fit.options.at("partition")) == "pooled");
    }
  }
  CHECK(found == expected);
  CHECK(found.size() >= 3);
}

TEST_CASE("evaluate: a set to leave out must be there, and one must be left") {
  const TemporaryFile file("evaluate_without_errors");
  write(file.path(), kTrain.batch(), kId.batch(), kOod.batch(), kOod.batch(), &kTrain.head);
  const Dataset dataset(file.path());
  const auto message_of = [&](const std::vector<std::string>& without) {
    try {
      evaluate(dataset, all_detectors(), {.exec = {}, .without = without});
    } catch (const std::invalid_argument& error) {
      const std::string message = error.what();
      return message.substr(message.find(".h5: ") + 5);
    }
    return std::string("no error");
  };
  CHECK(message_of({"svhn"}) == "/ood has no set svhn");
  CHECK(message_of({"ood/near"}) == "/ood has no set ood/near");
  CHECK(message_of({"near", "far"}) ==
        "/ood has no set but those that options are chosen on, expected 1 or more");
  CHECK(message_of({}) == "no error");
}

TEST_CASE("evaluate: a detector is known by its name and options, and is there once") {
  const TemporaryFile file("evaluate_twice");
  write(file.path(), kTrain.batch(), kId.batch(), kOod.batch(), kOod.batch(), &kTrain.head);
  const Dataset dataset(file.path());
  std::vector<std::unique_ptr<Detector>> detectors;
  for (const double temperature : {1.0, 2.0, 1.0})
    detectors.push_back(make_detector("energy", {{"temperature", temperature}}));
  CHECK_THROWS_WITH_AS(evaluate(dataset, detectors),
                       "evaluate: energy is there twice with the same options, expected each once",
                       std::invalid_argument);
  detectors.pop_back();
  CHECK(evaluate(dataset, detectors).timings.size() == 2);
}

namespace {

/// Its score is the first logit; `everywhere`: it has code for devices.
class FirstLogit final : public Detector {
 public:
  FirstLogit(std::string_view name, bool everywhere) : name_(name), everywhere_(everywhere) {}
  std::string_view name() const override { return name_; }
  Needs needs() const override { return {.fit = {}, .score = {.logits = true}}; }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<FirstLogit>(*this); }
  void visit(FieldVisitor&) override {}
  bool runs_on_devices() const override { return everywhere_; }

 private:
  void score_tile(const Batch& tile, std::span<float> out) const override {
    const MatrixView& logits = *tile.logits;
    kernels::copy({logits.data(), logits.rows(), 1, logits.outerStride()},
                  MatrixMap(out.data(), logits.rows(), 1));
  }
  std::string_view name_;
  bool everywhere_;
};

}  // namespace

TEST_CASE("evaluate: a device scores as the processor does; what has no code for it is left out") {
  const test::EmulatedDevice device;
  const TemporaryFile file("evaluate_device");
  write(file.path(), kTrain.batch(), kId.batch(), kOod.batch(), kOod.batch().slice(0, 70));
  const Dataset dataset(file.path());
  std::vector<std::unique_ptr<Detector>> detectors;
  detectors.push_back(std::make_unique<FirstLogit>("anywhere", true));
  detectors.push_back(std::make_unique<FirstLogit>("here", false));
  const Exec on_device = {.device = Device::parse("cuda")};
  const Report expected = evaluate(dataset, detectors, {.keep_scores = true}),
               report = evaluate(dataset, detectors, {.exec = on_device, .keep_scores = true});
  CHECK(expected.left_out.empty());
  REQUIRE(report.left_out.size() == 1);
  CHECK(report.left_out[0].detector == "here");
  CHECK(report.left_out[0].reason == "has no code for cuda:0");
  CHECK(missing_inputs(dataset.info(), *detectors[1], on_device.device) ==
        "has no code for cuda:0");
  CHECK(missing_inputs(dataset.info(), *detectors[1]).empty());
  REQUIRE(report.scores.size() == 1);
  CHECK(report.scores[0].id_test == expected.scores[0].id_test);
  for (std::size_t s = 0; s < 2; ++s)
    CHECK(report.scores[0].sets[s].scores == expected.scores[0].sets[s].scores);
}
