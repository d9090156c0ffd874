#include <doctest/doctest.h>

#include <limits>

#include "ood/stream.h"
#include "synthetic.h"

using namespace ood;

namespace {

void read(BatchSource& source, const Inputs& wanted) {
  stream(source, wanted, {}, [](const Batch&) {});
}

/// Declares more rows than it has.
class ShortSource final : public BatchSource {
 public:
  explicit ShortSource(const Batch& batch) : inner_(batch), info_(inner_.info()) { ++info_.rows; }
  const SourceInfo& info() const override { return info_; }
  const Head* head() const override { return nullptr; }
  void read(const Inputs& wanted, const std::function<void(const Batch&)>& visit) override {
    inner_.read(wanted, visit);
  }

 private:
  MemorySource inner_;
  SourceInfo info_;
};

}  // namespace

TEST_CASE("stream: missing logits are features * weight^T + bias") {
  const auto data = test::make_synthetic(1'000, 9, 4, 1);
  Batch batch;
  batch.features = data.features;
  MemorySource source(batch, &data.head, 333);
  const MatrixD want =
      (data.features.cast<double>() * data.head.weight.cast<double>().transpose()).rowwise() +
      data.head.bias.cast<double>().transpose();
  Index rows = 0;
  stream(source, {.logits = true}, Exec{2}, [&](const Batch& part) {
    const MatrixD got = part.logits->cast<double>();
    CHECK((got - want.middleRows(part.first_row, part.rows())).cwiseAbs().maxCoeff() < 2e-5);
    rows += part.rows();
  });
  CHECK(rows == 1'000);
}

TEST_CASE("stream: stored logits are taken as they are") {
  auto data = test::make_synthetic(10, 3, 2, 1);
  data.logits.setConstant(7);
  MemorySource source(data.batch(), &data.head);
  stream(source, {.logits = true}, {},
         [&](const Batch& part) { CHECK(*part.logits == Matrix::Constant(10, 2, 7)); });
}

TEST_CASE("stream: each wrong value is one clear line") {
  auto data = test::make_synthetic(100, 3, 4, 1);
  SUBCASE("what the source does not have") {
    Batch batch;
    batch.features = data.features;
    MemorySource source(batch);
    CHECK_THROWS_WITH_AS(read(source, {.features = true, .logits = true, .labels = true}),
                         "memory has no logits, no labels", std::invalid_argument);
  }
  SUBCASE("NaN in logits") {
    data.logits(42, 3) = std::numeric_limits<float>::quiet_NaN();
    MemorySource source(data.batch(), nullptr, 10);
    CHECK_THROWS_WITH_AS(read(source, {.logits = true}),
                         "memory/logits has NaN at row 42, column 3, expected finite numbers",
                         std::invalid_argument);
    CHECK_NOTHROW(read(source, {.features = true}));  // only what is read is looked at
  }
  SUBCASE("infinity in a layer") {
    Matrix layer = Matrix::Zero(100, 2);
    layer(99, 1) = -std::numeric_limits<float>::infinity();
    Batch batch;
    batch.layers["conv"] = layer;
    MemorySource source(batch);
    CHECK_THROWS_WITH_AS(
        read(source, {.layers = true}),
        "memory/layers/conv has infinity at row 99, column 1, expected finite numbers",
        std::invalid_argument);
  }
  SUBCASE("a label that is too large") {
    data.labels[7] = 4;
    MemorySource source(data.batch(), &data.head);
    CHECK_THROWS_WITH_AS(read(source, {.labels = true}),
                         "memory/labels has 4 at row 7, expected [0, 4)", std::invalid_argument);
  }
  SUBCASE("a negative label") {
    data.labels[8] = -1;
    MemorySource source(data.batch());
    CHECK_THROWS_WITH_AS(read(source, {.labels = true}),
                         "memory/labels has -1 at row 8, expected [0, 4)", std::invalid_argument);
  }
  SUBCASE("a source that ends too early") {
    ShortSource source(data.batch());
    CHECK_THROWS_WITH_AS(read(source, {.labels = true}), "memory yielded 100 rows, expected 101",
                         std::invalid_argument);
  }
}

TEST_CASE("stream: logits that features and head make too large are an error that says where") {
  Matrix features = Matrix::Ones(5, 2);
  features.row(3).setConstant(1e20f);
  const Head head{.weight = Matrix::Constant(3, 2, 1e20f), .bias = Vector::Zero(3)};
  Batch batch;
  batch.features = features;
  MemorySource source(batch, &head);
  CHECK_THROWS_WITH_AS(stream(source, {.logits = true}, {}, [](const Batch&) {}),
                       "memory/logits (of features and head) has infinity at row 3, column 0, "
                       "expected finite numbers",
                       std::invalid_argument);
}

namespace {

/// Declares fewer rows than it yields.
class TooManyRows final : public BatchSource {
 public:
  explicit TooManyRows(const Batch& batch) : batch_(batch) {
    info_.name = "liar";
    info_.rows = batch.rows() - 1;
    info_.dim = batch.features->cols();
    info_.has.features = true;
  }
  const SourceInfo& info() const override { return info_; }
  const Head* head() const override { return nullptr; }
  void read(const Inputs&, const std::function<void(const Batch&)>& visit) override {
    visit(batch_);
  }

 private:
  Batch batch_;
  SourceInfo info_;
};

}  // namespace

TEST_CASE("stream: more rows than declared are an error before anybody sees them") {
  const Matrix features = Matrix::Ones(5, 2);
  Batch batch;
  batch.features = features;
  TooManyRows source(batch);
  bool seen = false;
  CHECK_THROWS_WITH_AS(stream(source, {.features = true}, {}, [&](const Batch&) { seen = true; }),
                       "liar yielded 5 rows or more, expected 4", std::invalid_argument);
  CHECK_FALSE(seen);
}
