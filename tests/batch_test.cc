#include <doctest/doctest.h>

#include <limits>

#include "ood/batch.h"
#include "synthetic.h"

using namespace ood;

namespace {

/// Every field that a batch can have.
struct Everything {
  test::Synthetic data = test::make_synthetic(50, 4, 3, 1);
  Matrix layer = test::normal_matrix(50, 2, 2);
  Tensor3 copy_features = Tensor3::from_shape({2, 50, 4});
  Tensor3 copy_logits = Tensor3::from_shape({2, 50, 3});

  Everything() {
    for (std::size_t i = 0; i < copy_features.size(); ++i)
      copy_features.flat(i) = static_cast<float>(i);
    for (std::size_t i = 0; i < copy_logits.size(); ++i)
      copy_logits.flat(i) = static_cast<float>(i);
  }

  static Tensor3View view(const Tensor3& t) {
    const float* data = t.data();
    const std::array<std::ptrdiff_t, 3> strides = {t.strides()[0], t.strides()[1], t.strides()[2]};
    return xt::adapt(std::move(data), t.size(), xt::no_ownership(), t.shape(), strides);
  }

  Batch batch() const {
    Batch all = data.batch();
    all.layers["conv"] = layer;
    all.copy_features.emplace(view(copy_features));
    all.copy_logits.emplace(view(copy_logits));
    return all;
  }
};

}  // namespace

TEST_CASE("batch: rows of all fields must agree") {
  Everything all;
  CHECK(all.batch().rows() == 50);
  CHECK(Batch{}.rows() == 0);
  Batch batch = all.batch();
  const Matrix short_logits = Matrix::Zero(49, 3);
  batch.logits = short_logits;
  CHECK_THROWS_WITH_AS(batch.rows(), "batch: logits has 49 rows, expected 50 as features has",
                       std::invalid_argument);
}

TEST_CASE("batch: a slice views the same memory") {
  Everything all;
  const Batch part = all.batch().slice(10, 5).slice(1, 3);
  CHECK(part.rows() == 3);
  CHECK(part.first_row == 11);
  CHECK(part.features->data() == all.data.features.row(11).data());
  CHECK(part.labels->data() == &all.data.labels[11]);
  CHECK(part.layers.at("conv")(2, 1) == all.layer(13, 1));
  CHECK((*part.copy_features)(1, 2, 3) == all.copy_features(1, 13, 3));
  CHECK((*part.copy_logits)(0, 0, 2) == all.copy_logits(0, 11, 2));
}

TEST_CASE("memory source: yields all rows in batches of the asked size, on every pass") {
  Everything all;
  MemorySource source(all.batch(), &all.data.head, 7);
  CHECK(source.info().rows == 50);
  CHECK(source.info().dim == 4);
  CHECK(source.info().classes == 3);
  CHECK(source.info().copies == 2);
  CHECK(source.info().layers.at("conv") == 2);
  for (int pass = 0; pass < 2; ++pass) {
    Index next = 0;
    source.read({.features = true, .copy_logits = true}, [&](const Batch& batch) {
      CHECK(batch.first_row == next);
      CHECK_FALSE(batch.logits.has_value());
      CHECK(batch.features->row(0) == all.data.features.row(next));
      next += batch.rows();
    });
    CHECK(next == 50);
  }
}

TEST_CASE("memory source: arrays that disagree are an error") {
  Everything all;
  Batch batch = all.batch();
  Head head = all.data.head;
  head.bias.conservativeResize(2);
  CHECK_THROWS_WITH_AS(MemorySource(batch, &head),
                       "memory: head bias has 2 entries, expected 3 as the weight has rows",
                       std::invalid_argument);
  const Matrix wide = Matrix::Zero(50, 5);
  batch.features = wide;
  CHECK_THROWS_WITH_AS(MemorySource(batch, &all.data.head),
                       "memory: features has 5 columns, expected 4", std::invalid_argument);
}

TEST_CASE("memory source: arrays without columns are an error") {
  const Matrix none(3, 0);
  const Tensor3 no_columns = Tensor3::from_shape({2, 3, 0}),
                no_copies = Tensor3::from_shape({0, 3, 2});
  const auto view = [](const Tensor3& copies) { return test::Everything::view_of(copies); };
  Batch features, layers, empty_copies, missing_copies;
  features.features = none;
  layers.layers["a"] = none;
  empty_copies.copy_logits.emplace(view(no_columns));
  missing_copies.copy_logits.emplace(view(no_copies));
  CHECK_THROWS_WITH_AS(MemorySource{features}, "memory: features has 0 columns, expected 1 or more",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(MemorySource{layers}, "memory: layers/a has 0 columns, expected 1 or more",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(MemorySource{empty_copies},
                       "memory: copies/logits has 0 columns, expected 1 or more",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(MemorySource{missing_copies},
                       "memory: copies/logits has 0 copies, expected 1 or more",
                       std::invalid_argument);
}

TEST_CASE("memory source: without logits and head the labels tell the number of classes") {
  const std::vector<std::int64_t> labels = {0, 4, 2};
  Batch batch;
  batch.labels = labels;
  CHECK(MemorySource(batch).info().classes == 5);
  const std::vector<std::int64_t> huge = {0, std::numeric_limits<std::int64_t>::max()};
  batch.labels = huge;
  CHECK_THROWS_WITH_AS(
      MemorySource{batch},
      "memory/labels has 9223372036854775807 as its largest, expected [0, 16777216)",
      std::invalid_argument);
  const std::vector<std::int64_t> negative = {-5, -5};
  batch.labels = negative;
  CHECK_THROWS_AS(MemorySource{batch}, std::invalid_argument);
}

TEST_CASE("memory source: a slice of other arrays has rows of its own, from 0") {
  Everything all;
  MemorySource source(all.batch().slice(7, 20), nullptr, 8);
  Index next = 0;
  source.read(source.info().has, [&](const Batch& batch) {
    CHECK(batch.first_row == next);
    next += batch.rows();
  });
  CHECK(next == 20);
}

TEST_CASE("batch buffer: what is appended piece by piece is what is viewed") {
  Everything all;
  MemorySource source(all.batch(), &all.data.head);
  BatchBuffer buffer(source.info(), source.info().has, 30);
  buffer.clear(5);
  buffer.append(all.batch().slice(5, 13));
  buffer.append(all.batch().slice(18, 17));
  const Batch view = buffer.view(), want = all.batch().slice(5, 30);
  CHECK(view.first_row == 5);
  CHECK(view.rows() == 30);
  CHECK(*view.features == *want.features);
  CHECK(*view.logits == *want.logits);
  CHECK(std::ranges::equal(*view.labels, *want.labels));
  CHECK(view.layers.at("conv") == want.layers.at("conv"));
  CHECK(*view.copy_features == *want.copy_features);
  CHECK(*view.copy_logits == *want.copy_logits);
}
