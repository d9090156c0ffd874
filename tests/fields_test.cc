#include <doctest/doctest.h>

#include <limits>

#include "ood/fields.h"
#include "ood/serialize.h"

using namespace ood;

namespace {

/// One field of each type.
struct Everything {
  bool flag = true;
  Index count = 7;
  double number = 2.5;
  enum class Kind { first, second } kind = Kind::second;
  Index state_count = 3;
  double state_number = -1;
  Matrix matrix = Matrix::Random(2, 3);
  MatrixD matrix_d = MatrixD::Random(3, 2);
  Vector vector = Vector::Random(4);
  VectorD vector_d = VectorD::Random(5);
  std::vector<Index> indices = {4, 5};

  void visit(FieldVisitor& v) {
    static constexpr std::array<std::string_view, 2> kNames = {"first", "second"};
    v.option("flag", flag, "");
    v.option("count", count, Range::at_least(0), "");
    v.option("number", number, Range::above(0), "");
    v.option("kind", kind, kNames, "");
    v.state("state_count", state_count);
    v.state("state_number", state_number);
    v.state("matrix", matrix);
    v.state("matrix_d", matrix_d);
    v.state("vector", vector);
    v.state("vector_d", vector_d);
    v.state("indices", indices);
  }
};

}  // namespace

TEST_CASE("range: what it holds and how it is said") {
  CHECK(Range::above(1).contains(1.0001));
  CHECK_FALSE(Range::above(1).contains(1));
  CHECK(Range::at_least(1).contains(1));
  CHECK_FALSE(Range::at_least(1).contains(std::numeric_limits<double>::quiet_NaN()));
  CHECK_FALSE(Range::at_least(1).contains(std::numeric_limits<double>::infinity()));
  CHECK(Range::above(0).text() == "above 0");
  CHECK(Range{.min = 1, .max = 3, .open_min = true}.text() == "above 1, 3 or less");
}

TEST_CASE("bytes: every type of field comes back") {
  const Everything before;
  const auto bytes = fields_to_bytes(before);
  const auto after = fields_from_bytes<Everything>(bytes);
  CHECK(after.flag == before.flag);
  CHECK(after.count == before.count);
  CHECK(after.number == before.number);
  CHECK(after.kind == before.kind);
  CHECK(after.state_count == before.state_count);
  CHECK(after.state_number == before.state_number);
  CHECK(after.matrix == before.matrix);
  CHECK(after.matrix_d == before.matrix_d);
  CHECK(after.vector == before.vector);
  CHECK(after.vector_d == before.vector_d);
  CHECK(after.indices == before.indices);
}

TEST_CASE("bytes: cut off at any place, or with more behind, is an error and never a crash") {
  auto bytes = fields_to_bytes(Everything{});
  for (std::size_t size = 0; size < bytes.size(); ++size)
    CHECK_THROWS_AS(fields_from_bytes<Everything>(std::span(bytes).first(size)),
                    std::invalid_argument);
  bytes.push_back({});
  CHECK_THROWS_WITH_AS(fields_from_bytes<Everything>(bytes),
                       "serialized bytes: 1 left over, expected 0", std::invalid_argument);
}

TEST_CASE("bytes: any single wrong byte is an error or another value, never a crash") {
  const auto good = fields_to_bytes(Everything{});
  for (std::size_t i = 0; i < good.size(); ++i)
    for (const int flip : {0x01, 0x80, 0xff}) {
      auto bytes = good;
      bytes[i] ^= static_cast<std::byte>(flip);
      try {
        fields_from_bytes<Everything>(bytes);
      } catch (const std::invalid_argument&) {
      }
    }
}
