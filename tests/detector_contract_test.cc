// What every detector of the type list must keep, checked without naming any.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <numeric>
#include <random>
#include <thread>

#include "ood/detectors.h"
#include "ood/reduce.h"
#include "ood/registry.h"
#include "partitioned.h"
#include "quick_options.h"
#include "synthetic.h"

using namespace ood;

namespace {

constexpr Index kDim = 21, kClasses = 5;

/// More rows than two blocks of a reduction, and not a whole number of them.
const test::Everything& train() {
  static const auto data = test::make_everything(9'001, kDim, kClasses, 7);
  return data;
}
const test::Everything& queries() {
  static const auto data = test::make_everything(301, kDim, kClasses, 8);
  return data;
}
/// Noise around no cluster, wider than that of the clusters, whose copies agree less.
const test::Everything& outliers() {
  static const auto data = test::make_everything(200, kDim, kClasses, 11, 0.01, 1.3f, 1.0);
  return data;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void fit(Detector& detector, const Batch& rows = train().batch(), Index batch_rows = 16'384,
         const Exec& exec = {}) {
  MemorySource source(rows, &train().head, batch_rows);
  MemorySource other(outliers().batch(), &train().head, batch_rows);
  detector.fit({.train = &source, .ood_val = {{"noise", &other}}}, exec);
}

std::unique_ptr<Detector> fitted(const std::string& name, const Batch& rows = train().batch(),
                                 Index batch_rows = 16'384, const Exec& exec = {}) {
  auto detector = make_detector(name, test::quick_options(name));
  fit(*detector, rows, batch_rows, exec);
  return detector;
}

/// True if a fit reads rows: the head alone has none.
bool reads_rows(const Detector& detector) {
  return detector.needs().fit.without({.head = true}).any();
}

/// What a call throws says, or "".
template <class Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// The field that is checked first of those that are read, as errors call it, and its width.
std::pair<std::string, Index> first_field(const Inputs& read) {
  if (read.features) return {"features", kDim};
  if (read.logits) return {"logits", kClasses};
  if (read.layers) return {"layers/a", kDim};
  if (read.copy_features) return {"copies/features", kDim};
  return {"copies/logits", kClasses};
}

}  // namespace

TEST_CASE("contract: the run-time table and the type list name the same detectors") {
  std::vector<std::string> names;
  for_each_type(Detectors{}, [&]<class T>() {
    names.emplace_back(T::kName);
    CHECK(T().name() == T::kName);
    CHECK(make_detector(T::kName)->name() == T::kName);
  });
  CHECK(names == detector_names());
  CHECK(names.size() >= 57);
}

TEST_CASE("contract: score before fit is an error") {
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    const auto detector = make_detector(name);
    CHECK(detector->fitted() == !detector->needs().fit.any());
    if (detector->fitted()) continue;
    CHECK_THROWS_AS(detector->score(queries().batch()), std::logic_error);
    CHECK(contains(message_of([&] { detector->score(queries().batch()); }), name + ".score"));
  }
}

TEST_CASE("contract: a wrong width is an error that says both widths") {
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    const auto detector = fitted(name);
    const Matrix narrow = Matrix::Zero(3, 4);
    Batch batch;
    batch.features = narrow;
    batch.logits = narrow;
    batch.layers = {{"a", narrow}, {"b", narrow}};
    const Tensor3 copies = Tensor3::from_shape({2, 3, 4});
    batch.copy_features.emplace(test::Everything::view_of(copies));
    batch.copy_logits.emplace(test::Everything::view_of(copies));
    const auto [field, width] = first_field(detector->needs().score);
    CHECK(message_of([&] { detector->score(batch); }) ==
          fmt::format("{}.score: {} has 4 columns, expected {}", name, field, width));
  }
}

TEST_CASE("contract: arrays without columns are refused") {
  const Matrix none(3, 0);
  const Tensor3 copies = Tensor3::from_shape({2, 3, 0});
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    const auto detector = fitted(name);
    Batch batch;
    batch.features = none;
    batch.logits = none;
    batch.layers = {{"a", none}, {"b", none}};
    batch.copy_features.emplace(test::Everything::view_of(copies));
    batch.copy_logits.emplace(test::Everything::view_of(copies));
    CHECK(message_of([&] { detector->score(batch); }) ==
          fmt::format("{}.score: {} has 0 columns, expected 1 or more", name,
                      first_field(detector->needs().score).first));
  }
}

TEST_CASE("contract: missing inputs are named") {
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    const auto detector = fitted(name);
    Batch labels_only;
    labels_only.labels = queries().labels;
    const std::string message = message_of([&] { detector->score(labels_only); });
    std::string expected = name + ".score: batch has";
    for (const auto& field : detector->needs().score.names())
      expected += (expected.ends_with("has") ? " no " : ", no ") + field;
    CHECK(message == expected);

    if (!detector->needs().fit.without({.labels = true}).any()) continue;
    MemorySource source(labels_only);
    const std::string refused = message_of([&] { detector->fit(source); });
    CHECK(refused.starts_with(name + ".fit: "));
    CHECK(contains(refused, ": memory has no "));
  }
}

TEST_CASE("contract: out must have an entry for each row") {
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    std::vector<float> out(300);
    CHECK(message_of([&] { fitted(name)->score(queries().batch(), out); }) ==
          name + ".score: out has 300 entries, expected 301 as the batch has rows");
  }
}

TEST_CASE("contract: an empty batch works") {
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    CHECK(fitted(name)->score(queries().batch().slice(0, 0)).empty());
  }
}

TEST_CASE("contract: any cut into batches and any number of threads give the same bits") {
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    const auto detector = fitted(name);
    const Batch all = queries().batch();
    const auto expected = detector->score(all, Exec{.threads = 1});
    for (const int threads : {2, 7})
      CHECK(same_bits(detector->score(all, Exec{threads}), expected));
    for (const Index size : {1, 2, 3, 5, 16, 17, 127, 128, 129, 300}) {
      CAPTURE(size);
      std::vector<float> parts;
      for (Index begin = 0; begin < all.rows(); begin += size) {
        const auto part = detector->score(all.slice(begin, std::min(size, all.rows() - begin)));
        parts.insert(parts.end(), part.begin(), part.end());
      }
      CHECK(same_bits(parts, expected));
    }
  }
}

TEST_CASE("contract: rows may be strided") {
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    const auto detector = fitted(name);
    Matrix wide_features = Matrix::Constant(301, kDim + 3, std::nanf(""));
    Matrix wide_logits = Matrix::Constant(301, kClasses + 3, std::nanf(""));
    wide_features.leftCols(kDim) = queries().features;
    wide_logits.leftCols(kClasses) = queries().logits;
    Batch strided = queries().batch();
    strided.features = MatrixView(wide_features.data(), 301, kDim, kDim + 3);
    strided.logits = MatrixView(wide_logits.data(), 301, kClasses, kClasses + 3);
    CHECK(same_bits(detector->score(strided), detector->score(queries().batch())));
  }
}

TEST_CASE("contract: a permutation of rows permutes scores") {
  std::vector<Index> order(301);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937(3));
  const auto permuted = queries().permuted(order);
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    const auto detector = fitted(name);
    const auto scores = detector->score(queries().batch());
    std::vector<float> expected;
    for (const Index i : order) expected.push_back(scores[static_cast<std::size_t>(i)]);
    CHECK(same_bits(detector->score(permuted.batch()), expected));
  }
}

TEST_CASE("contract: the fit is the same for any number of threads and any size of batches") {
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    const auto expected = to_bytes(*fitted(name, train().batch(), 16'384, Exec{1}));
    struct Run {
      int threads;
      Index batch_rows;
    };
    for (const Run& run :
         std::vector<Run>{{1, 100}, {1, 5'000}, {2, 4'096}, {2, 9'001}, {7, 100}, {7, 5'000}}) {
      CAPTURE(run.threads);
      CAPTURE(run.batch_rows);
      CHECK((to_bytes(*fitted(name, train().batch(), run.batch_rows, Exec{run.threads})) ==
             expected));
    }
  }
}

TEST_CASE("contract: the fit is the same in partitions, by way of bytes") {
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    const auto whole = fitted(name);
    const auto want = to_bytes(*whole);
    const auto scores = whole->score(queries().batch());
    for (const std::vector<Index>& cuts :
         {std::vector<Index>{kBlockRows}, {kBlockRows, 2 * kBlockRows}}) {
      const auto rows = test::partitioned(train().batch(), &train().head, cuts);
      const auto noise = test::partitioned(outliers().batch(), &train().head, {});
      const auto detector = make_detector(name, test::quick_options(name));
      detector->fit({.train = rows.get(), .ood_val = {{"noise", noise.get()}}});
      CHECK(detector->score(queries().batch()) == scores);
      // Members say where they were calibrated, by the name of the source
      if (name != "fusion" && name != "layers") CHECK((to_bytes(*detector) == want));
    }
  }
}

TEST_CASE("contract: fit twice is fit once, and forgets what was fitted before") {
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    const auto once = fitted(name);
    const auto other = test::make_everything(400, kDim, kClasses, 99);
    const auto twice = fitted(name, other.batch());
    fit(*twice);
    CHECK((to_bytes(*twice) == to_bytes(*once)));
  }
}

TEST_CASE("contract: what was saved scores the same bits after loading, and so does a clone") {
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    const auto detector = fitted(name);
    const auto scores = detector->score(queries().batch());
    const auto bytes = to_bytes(*detector);
    const auto loaded = detector_from_bytes(bytes);
    CHECK(loaded->name() == name);
    CHECK(same_bits(loaded->score(queries().batch()), scores));
    CHECK((to_bytes(*loaded) == bytes));
    CHECK(same_bits(detector->clone()->score(queries().batch()), scores));
  }
}

namespace {

/// Takes the last row, or column, off one of the arrays that it is shown, or adds one.
class SpoilShape final : public FieldVisitor {
 public:
  SpoilShape(Index field, Index rows, Index cols) : field_(field), rows_(rows), cols_(cols) {}
  bool done() const { return done_; }

  void state(std::string_view, Matrix& value) override { spoil(value, value.cols() + cols_); }
  void state(std::string_view, MatrixD& value) override { spoil(value, value.cols() + cols_); }
  void state(std::string_view, Vector& value) override { spoil(value, 1); }
  void state(std::string_view, VectorD& value) override { spoil(value, 1); }
  void state(std::string_view, std::vector<Index>& value) override {
    if (next_++ != field_ || rows_ < -std::ssize(value)) return;
    value.resize(static_cast<std::size_t>(std::ssize(value) + rows_));
    done_ = true;
  }

 private:
  template <class T>
  void spoil(T& value, Index cols) {
    if (next_++ != field_ || value.rows() + rows_ < 0 || cols < 0) return;
    const T before = value;
    value.setZero(before.rows() + rows_, cols);
    const Index rows = std::min(value.rows(), before.rows());
    cols = std::min(value.cols(), before.cols());
    value.topLeftCorner(rows, cols) = before.topLeftCorner(rows, cols);
    done_ = true;
  }
  Index field_, rows_, cols_, next_ = 0;
  bool done_ = false;
};

}  // namespace

TEST_CASE("contract: state of another shape is refused, or does no harm") {
  const auto few = test::make_everything(400, kDim, kClasses, 7);
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    const auto detector = fitted(name, few.batch());
    for (const auto& [rows, cols] : {std::pair<Index, Index>{-1, 0}, {1, 0}, {0, -1}, {0, 1}})
      for (Index field = 0;; ++field) {
        CAPTURE(field);
        const auto spoilt = detector->clone();
        SpoilShape spoil(field, rows, cols);
        spoilt->visit_all(spoil);
        if (!spoil.done() && field > 20) break;
        if (!spoil.done()) continue;
        try {
          const auto loaded = detector_from_bytes(to_bytes(*spoilt));
          const auto scores = loaded->score(queries().batch());  // an error, or numbers
          CHECK(scores.size() == 301);
        } catch (const std::invalid_argument&) {
        } catch (const std::domain_error&) {
        }
      }
  }
}

TEST_CASE("contract: NaN and infinity in fit are an error that says where") {
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    const auto detector = make_detector(name);
    if (!reads_rows(*detector)) continue;
    auto data = test::make_everything(5'000, kDim, kClasses, 7);
    const auto [field, width] = first_field(detector->needs().fit);
    for (const auto& [bad, spelled] :
         {std::pair{std::nanf(""), "NaN"}, {std::numeric_limits<float>::infinity(), "infinity"}}) {
      data.spoil(4'321, bad);
      const std::string message = message_of([&] { fit(*detector, data.batch(), 1'000); });
      CHECK(message.starts_with(name + ".fit: "));  // then those that it is made of, if it is
      CHECK(contains(message, "memory/" + field));
      CHECK(contains(message, fmt::format(" has {} at row 4321, column {}, expected finite numbers",
                                          spelled, 4'321 % width)));
      CHECK_FALSE(detector->fitted());
    }
  }
}

TEST_CASE("contract: a row with NaN or infinity scores NaN, and no other row does") {
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    const auto detector = fitted(name);
    const auto clean = detector->score(queries().batch());
    for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()}) {
      auto data = queries();
      for (const Index row : {0, 130, 300}) data.spoil(row, bad);
      const auto scores = detector->score(data.batch());
      for (std::size_t i = 0; i < scores.size(); ++i) {
        CAPTURE(i);
        if (i == 0 || i == 130 || i == 300)
          CHECK(std::isnan(scores[i]));
        else
          CHECK(scores[i] == clean[i]);
      }
    }
  }
}

TEST_CASE("contract: extreme but finite rows do not give NaN by way of overflowing norms") {
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    const auto detector = fitted(name);
    auto data = queries();
    constexpr float kScales[] = {0, 1e6f, 1e-6f};
    for (Index row = 0; row < 3; ++row) {
      data.features.row(row) *= kScales[row];
      data.logits.row(row) *= kScales[row];
      for (auto& layer : data.layers) layer.second.row(row) *= kScales[row];
      xt::view(data.copy_features, xt::all(), row) *= kScales[row];
      xt::view(data.copy_logits, xt::all(), row) *= kScales[row];
    }
    for (const float score : detector->score(data.batch().slice(0, 3)))
      CHECK_FALSE(std::isnan(score));
  }
}

TEST_CASE("contract: higher means more in-distribution") {
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    const auto detector = fitted(name);
    const auto id = detector->score(queries().batch()), ood = detector->score(outliers().batch());
    double right = 0;
    for (const float a : id)
      for (const float b : ood) right += a > b ? 1.0 : a == b ? 0.5 : 0.0;
    // of the sign alone: how well they tell these apart is not what is tested
    CHECK(right / static_cast<double>(id.size() * ood.size()) > 0.55);
  }
}

TEST_CASE("contract: one fitted detector serves several threads") {
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    const auto detector = fitted(name);
    const auto expected = detector->score(queries().batch());
    std::vector<std::vector<float>> scores(4);
    std::vector<std::thread> threads;
    for (auto& own : scores)
      threads.emplace_back([&] { own = detector->score(queries().batch(), Exec{2}); });
    for (auto& thread : threads) thread.join();
    for (const auto& own : scores) CHECK(same_bits(own, expected));
  }
}

TEST_CASE("contract: options can be read, set, and are refused by name or range") {
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    const auto detector = make_detector(name);
    CHECK(contains(message_of([&] {
                     detector->set_options({{"nonsense", Index{1}}});
                   }),
                   name + ": unknown option nonsense, expected "));
    OptionMap as_they_are;
    for (const OptionInfo& option : detector->options()) {
      CAPTURE(option.name);
      CHECK_FALSE(option.help.empty());
      as_they_are[option.name] = to_text(option.value);
      const std::string message = message_of([&] {
        detector->set_options({{option.name, std::string("!")}});
      });
      if (option.expected == "text" && message.empty()) continue;  // any text will do
      CHECK(contains(message, name + ": option " + option.name + " has !, expected "));
    }
    detector->set_options(as_they_are);  // text reads back as the option's own type
    for (const OptionInfo& option : detector->options())
      CHECK(to_text(option.value) == std::get<std::string>(as_they_are[option.name]));
  }
}

TEST_CASE("contract: every preset can be set, sets its options alone, and gives way to others") {
  const auto values = [](const Detector& detector) {
    OptionMap map;
    for (const OptionInfo& option : detector.options()) map[option.name] = to_text(option.value);
    return map;
  };
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    const auto presets = make_detector(name)->presets();
    for (const Preset& preset : presets) {
      CAPTURE(preset.name);
      CHECK_FALSE(preset.help.empty());
      CHECK_FALSE(preset.options.empty());
      OptionMap expected = values(*make_detector(name));
      for (const auto& option : preset.options) expected[option.first] = to_text(option.second);
      CHECK((values(*make_detector(name, {{"preset", preset.name}})) == expected));
      // beside its own default, an option of the preset stays at that default
      for (const auto& option : preset.options) {
        const auto one = values(*make_detector(name)).at(option.first);
        OptionMap changed = expected;
        changed[option.first] = one;
        CHECK((values(*make_detector(name, {{"preset", preset.name}, {option.first, one}})) ==
               changed));
      }
    }
    CHECK(contains(message_of([&] {
                     make_detector(name)->set_options({{"preset", std::string("nonsense")}});
                   }),
                   presets.empty()
                       ? name + ": unknown option preset, expected "
                       : name + ": preset has nonsense, expected one of " + presets.front().name));
  }
}

TEST_CASE("contract: a fit's diagnostics are those of that fit") {
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    CHECK_FALSE(make_detector(name)->diagnostics().any());
    const auto detector = fitted(name);
    const Diagnostics found = detector->diagnostics();
    for (const auto& column : found.per_class) {
      CHECK_FALSE(column.name.empty());
      CHECK(std::ssize(column.values) == kClasses);
    }
    const auto same = [&](const Diagnostics& other) {
      return std::ranges::equal(found.per_class, other.per_class,
                                [](const auto& a, const auto& b) {
                                  return a.name == b.name && a.values == b.values;
                                }) &&
             found.values == other.values && found.warnings == other.warnings;
    };
    CHECK(same(detector->clone()->diagnostics()));
    CHECK(same(detector_from_bytes(to_bytes(*detector))->diagnostics()));
    if (!reads_rows(*detector)) continue;
    auto bad = train();
    bad.spoil(0, std::nanf(""));
    CHECK_FALSE(message_of([&] { fit(*detector, bad.batch()); }).empty());
    CHECK_FALSE(detector->diagnostics().any());  // a fit that throws
    const auto changed = fitted(name);
    changed->set_options({});
    CHECK_FALSE(changed->diagnostics().any());
  }
}

TEST_CASE("contract: candidates of the settings as they are score as the detector does") {
  auto few = test::make_everything(32 * kClasses, kDim, kClasses, 7);  // no estimate cuts it
  for (Index i = 0; i < few.logits.rows(); ++i)  // predicted right: there may be need of 20 a class
    few.logits(i, few.labels[static_cast<std::size_t>(i)]) += 9;
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    if (make_detector(name)->needs().outliers.any()) continue;  // no search takes these
    const auto detector = fitted(name, few.batch());
    const auto expected = detector->score(queries().batch());
    OptionMap all;
    for (const OptionInfo& option : detector->options()) all[option.name] = option.value;
    const std::vector<OptionMap> settings = {{}, all};
    const auto candidates = detector->candidates(settings, Quantity::score);
    MemorySource source(few.batch(), &few.head, 50);
    candidates->fit(source);
    MatrixD scores;
    candidates->score(queries().batch(), scores);
    REQUIRE(scores.rows() == std::ssize(expected));
    REQUIRE(scores.cols() == 2);
    for (Index i = 0; i < scores.rows(); ++i)
      for (Index s = 0; s < 2; ++s)
        CHECK(scores(i, s) == doctest::Approx(expected[static_cast<std::size_t>(i)]).epsilon(1e-4));
    CHECK(candidates->diagnostics(1).any() == detector->diagnostics().any());
    candidates->score(queries().batch().slice(0, 0), scores);
    CHECK(scores.rows() == 0);
    CHECK(scores.cols() == 2);

    const std::vector<OptionMap> wrong = {{}, {{"nonsense", true}}};
    for (const Quantity quantity : {Quantity::score, Quantity::log_likelihood})
      CHECK_THROWS_AS(detector->candidates(wrong, quantity), std::invalid_argument);
  }
}

TEST_CASE("contract: setting options forgets what was fitted") {
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    const auto detector = fitted(name);
    detector->set_options({});
    CHECK(detector->fitted() == !detector->needs().fit.any());
  }
}

TEST_CASE("contract: the documentation has a section for each detector, and the README names it") {
  const auto read = [](const char* name) {
    std::ifstream file(std::string(OOD_SOURCE_DIR "/") + name);
    return std::string{std::istreambuf_iterator<char>(file), {}};
  };
  const std::string page = read("docs/detectors.md"), readme = read("README.md");
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    CHECK(contains(page, "\n## `" + name + "`\n"));
    CHECK(contains(readme, "`" + name + "`"));
  }
}
