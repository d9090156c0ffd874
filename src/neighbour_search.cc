// Why no neighbour is missed. With u = 2^-24, c the centre of the bank, a that of the queries (a = c for
// distances) and b' = b - c, z' = z - a, the value of a pair, by its key, is
//
//   distance  -|z - b|^2 / 2 = <z', b'> + o_b + q_z    o_b = -|b'|^2 / 2   q_z = -|z'|^2 / 2
//   product         <z, b>   = <z', b'> + o_b + q_z    o_b = <a, b'>       q_z = <z, c>
//
// q_z orders nothing and is left out. The product is made of operands x near z' and y near b', whatever
// the rounding that made them: with r = |z' - x| and R = |b' - y|, which are measured,
//
//   <z', b'> - <x, y> = <z' - x, b'> + <x, b' - y>, at most r |b'| + |x| R     (Cauchy-Schwarz)
//   |<x, y> as computed - <x, y>| <= g |x| |y| <= g |x| (|b'| + R)             g = D u (ood/kernels.h)
//
// The value is what a kernel computes, whose relative error is e = u (D / L + 8): of the distance, that
// is e |z - b|^2 / 2 <= e (|z'|^2 / 2 + |z'| |b'| + |o_b|) of the key; of the product, e |z| |b| <= e |z|
// (|b'| + |c|). Rounding o_b, adding it, and forming key -+ error costs u each, of |x| |y|, |o_b| and the
// error itself. So the key of what the kernel computes is off the computed key by at most
//
//   A |b'| + B R + C |o_b| + E
//   A = r + (g + 4 u) |x| + e |z'| or e |z|     B = (1 + g + 4 u) |x|     C = 4 u + e or 4 u
//   E = e |z'|^2 / 2 or e |z| |c|, and what underflows
//
// where norms are rounded up, and all is enlarged by 0.1 %, for what is of second order here. With k
// keys that are T or more at least, a row whose key is less than T at most is not among the k nearest.
//
// On a device x and y are rounded to tf32, which makes products of factors as they are; its sums may cut off
// where others round, g = 2 D u, and L = 32.
#include "ood/neighbour_search.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <numeric>
#include <utility>

#include "errors.h"
#include "kernels/bodies/nearest.h"
#include "kernels/cpu/shapes.h"
#include "kernels/device.h"
#include "kernels/nearest.h"
#include "ood/scratch.h"

namespace ood {

namespace {

using kernels::bodies::kLargestNorm;
using kernels::bodies::kSecondOrder;
using kernels::bodies::kUnit;
using kernels::bodies::round_up;

constexpr Index kBlockRows = 1024;  // of the bank, in one product with a tile
constexpr std::size_t kFoundAtOnce = 512;
/// Rows beyond k that may wait for their value, for each query.
constexpr std::size_t kMostWaiting = 2048;
// On a device: bank rows of one product, and bytes of the largest arrays for the queries of one.
constexpr Index kDeviceBlockRows = 16'384, kDeviceWorkBytes = Index{256} << 20;

float round_down(double value) { return -round_up(-value); }

/// To 8 significant bits, ties to even; 0 for what is smaller than a normal number, as products take it.
float to_bfloat16(float x) {
  auto bits = std::bit_cast<std::uint32_t>(x);
  bits = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
  const auto rounded = std::bit_cast<float>(bits);
  return std::abs(rounded) < std::numeric_limits<float>::min() ? 0.0f : rounded;
}

/// row - center, as the product takes it; exactly, in float64, in `exact`.
void center_row(const float* row, const Vector& center, NeighbourSearch::Filter filter,
                float* operand, VectorDMap exact) {
  for (Index d = 0; d < center.size(); ++d) operand[d] = row[d] - center[d];
  if (filter == NeighbourSearch::Filter::bfloat16)
    for (Index d = 0; d < center.size(); ++d) operand[d] = to_bfloat16(operand[d]);
  exact = Eigen::Map<const Vector>(row, center.size()).cast<double>() - center.cast<double>();
}

NeighbourSearch::Filter fastest() {
  const bool fast =
      kernels::available(kernels::Precision::bfloat16) == kernels::Precision::bfloat16;
  return fast ? NeighbourSearch::Filter::bfloat16 : NeighbourSearch::Filter::float32;
}

auto in_double(const float* row, Index size) {
  return Eigen::Map<const Vector>(row, size).cast<double>();
}

}  // namespace

/// What is known of a query so far.
struct NeighbourSearch::Query {
  Query(std::size_t k, std::pmr::memory_resource* memory)
      : full(k + room(k)),
        lower(k + kMostWaiting + room(k), memory),
        upper(lower.size(), memory),
        rows(lower.size(), memory),
        best(memory) {
    best.reserve(k);
  }
  /// For rows between two cuts.
  static std::size_t room(std::size_t k) { return std::max(k, kFoundAtOnce); }

  enum class Kind { filtered, compared_to_all, invalid } kind = Kind::invalid;
  double shift = 0;  // q_z
  kernels::KeyError error;
  /// The key of the k-th best is not below. Rises.
  float limit = -std::numeric_limits<float>::infinity();
  // The first `waiting` entries: rows that may be among the k nearest, and bounds of their keys. They
  // are cut when there are `full`.
  std::size_t waiting = 0, full = 0;
  std::pmr::vector<float> lower, upper;
  std::pmr::vector<std::uint32_t> rows;
  std::pmr::vector<Neighbour> best;  // a heap, the worst first

  kernels::Reaching from(std::size_t begin) {
    return {lower.data() + begin, upper.data() + begin, rows.data() + begin};
  }
  /// Drops rows that k others rule out.
  void cut(std::size_t k) {
    if (waiting < k) return;
    limit = std::max(limit, kernels::kth_largest(std::span(lower).first(waiting), k));
    waiting = kernels::keep_reaching(from(0), waiting, limit);
  }
};

NeighbourSearch::NeighbourSearch(const MatrixView& bank, Likeness likeness, Filter filter)
    : likeness_(likeness), filter_(filter == Filter::fastest ? fastest() : filter) {
  const Index rows = bank.rows(), dim = bank.cols();
  VectorD mean = VectorD::Zero(dim);
  for (Index j = 0; j < rows; ++j) mean += in_double(bank.row_data(j), dim);
  center_ = (mean / static_cast<double>(std::max<Index>(rows, 1))).cast<float>();
  query_center_ = likeness == Likeness::distance ? center_ : Vector::Zero(dim);
  center_norm_ = center_.cast<double>().norm();

  Scratch scratch;
  const VectorDMap exact = scratch.vector_d(dim);
  for (Index first = 0; first < rows; first += kBlockRows) {
    Matrix operands(std::min(kBlockRows, rows - first), dim);
    for (Index i = 0; i < operands.rows(); ++i) {
      float* const operand = operands.row(i).data();
      center_row(bank.row_data(first + i), center_, filter_, operand, exact);
      const double square = exact.squaredNorm();
      norms_.push_back(round_up(kSecondOrder * std::sqrt(square)));
      residuals_.push_back(round_up(kSecondOrder * (exact - in_double(operand, dim)).norm()));
      offsets_.push_back(static_cast<float>(likeness == Likeness::distance
                                                ? -0.5 * square
                                                : exact.dot(query_center_.cast<double>())));
      const float size = norms_.back() + residuals_.back();
      largest_norm_ =
          std::max(largest_norm_, std::isnan(size) ? std::numeric_limits<float>::infinity() : size);
    }
    blocks_.emplace_back(
        operands,
        filter_ == Filter::bfloat16 ? kernels::Precision::bfloat16 : kernels::Precision::float32,
        kernels::PackedMatrix::For::processor);
  }
}

void NeighbourSearch::begin(Query& query, const float* z, float* operand) const {
  Scratch scratch;
  const auto dim = static_cast<double>(center_.size());
  const bool distance = likeness_ == Likeness::distance;
  const VectorDMap exact = scratch.vector_d(center_.size());
  center_row(z, query_center_, filter_, operand, exact);
  const double own = in_double(z, center_.size()).norm(), centered = exact.norm();
  const double norm = in_double(operand, center_.size()).norm();
  const double residual = (exact - in_double(operand, center_.size())).norm();
  if (!std::isfinite(own)) return;
  const double reach = (distance ? centered : own) + norm;
  const bool safe = reach < kLargestNorm && static_cast<double>(largest_norm_) < kLargestNorm &&
                    center_norm_ < kLargestNorm;
  query.kind = safe ? Query::Kind::filtered : Query::Kind::compared_to_all;
  if (!safe) return;

  const double product = dim * kUnit;
  const double kernel = kUnit * (dim / static_cast<double>(kernels::vector_lanes()) + 8);
  const double rounding = 4 * kUnit;
  const double of_value = distance ? centered : own;
  // of q_z in float64, and of products and sums smaller than normal numbers
  const double rest = (dim + 4) * (0x1p-52 * of_value * (centered + center_norm_) + 0x1p-124);
  query.shift = distance ? -0.5 * exact.squaredNorm()
                         : in_double(z, center_.size()).dot(center_.cast<double>());
  query.error.scale_norm =
      round_up(kSecondOrder * (residual + (product + rounding) * norm + kernel * of_value));
  query.error.scale_residual = round_up(kSecondOrder * (1 + product + rounding) * norm);
  query.error.scale_offset = round_up(kSecondOrder * (rounding + (distance ? kernel : 0)));
  query.error.constant = round_up(
      kSecondOrder * (kernel * of_value * (distance ? 0.5 * centered : center_norm_) + rest));
}

/// Adds the rows of a block that may be among the k nearest. Returns how many were compared.
Index NeighbourSearch::collect(Query& query, const float* z, const MatrixView& bank,
                               std::span<const float> dots, Index first, std::size_t k) const {
  const auto part = [&](const std::vector<float>& all) {
    return std::span(all).subspan(static_cast<std::size_t>(first), dots.size());
  };
  const kernels::BankRows rows{part(offsets_), part(norms_), part(residuals_)};
  Index compared = 0;
  for (std::size_t begin = 0; begin < dots.size();) {
    query.waiting += kernels::find_reaching(dots, rows, query.error, query.limit,
                                            static_cast<std::uint32_t>(first), begin,
                                            query.full - query.waiting, query.from(query.waiting));
    if (begin >= dots.size()) break;  // there is room for the next block's
    query.cut(k);
    if (query.waiting > k + kMostWaiting) compared += settle(query, z, bank, k);
    query.full = std::max(k, query.waiting) + Query::room(k);
  }
  return compared;
}

bool NeighbourSearch::better(const Neighbour& a, const Neighbour& b) const {
  if (a.value != b.value)
    return likeness_ == Likeness::distance ? a.value < b.value : a.value > b.value;
  return a.row < b.row;
}

/// Takes the values of some rows, and keeps the k best.
void NeighbourSearch::compare(Query& query, const float* z, const MatrixView& bank,
                              std::span<const Index> rows, std::size_t k) const {
  Scratch scratch;
  std::pmr::vector<float> values(rows.size(), &scratch);
  const MatrixView repeated(z, std::ssize(rows), bank.cols(), 0);  // the same row for each
  if (likeness_ == Likeness::distance)
    kernels::row_squared_distance_selected(repeated, bank, rows, values);
  else
    kernels::row_dot_selected(repeated, bank, rows, values);
  const auto nearer = [&](const Neighbour& a, const Neighbour& b) { return better(a, b); };
  auto& best = query.best;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Neighbour neighbour{values[i], rows[i]};
    if (std::isnan(neighbour.value)) query.kind = Query::Kind::invalid;
    if (best.size() == k) {
      if (!better(neighbour, best.front())) continue;
      std::ranges::pop_heap(best, nearer);
      best.pop_back();
    }
    best.push_back(neighbour);
    std::ranges::push_heap(best, nearer);
  }
}

/// Compares the rows that wait, the most promising first, as long as they may be among the k nearest.
Index NeighbourSearch::settle(Query& query, const float* z, const MatrixView& bank,
                              std::size_t k) const {
  constexpr std::size_t kAtOnce = 8;
  query.cut(k);
  Scratch scratch;
  std::pmr::vector<std::pair<float, Index>> order(&scratch);
  std::pmr::vector<Index> rows(&scratch);
  order.reserve(query.waiting);
  rows.reserve(query.waiting);
  for (std::size_t i = 0; i < query.waiting; ++i)
    order.emplace_back(query.upper[i], static_cast<Index>(query.rows[i]));
  query.waiting = 0;
  std::ranges::sort(order, std::greater<>());
  for (const auto& [upper, row] : order) rows.push_back(row);
  std::size_t next = 0;
  while (next < rows.size()) {
    const std::size_t at_once = std::max(kAtOnce, k - query.best.size());
    std::size_t end = next;
    while (end < rows.size() && end < next + at_once && order[end].first >= query.limit) ++end;
    if (end == next) break;
    compare(query, z, bank, std::span(rows).subspan(next, end - next), k);
    next = end;
    if (query.best.size() < k) continue;
    const auto kth = static_cast<double>(query.best.front().value);
    const double key = (likeness_ == Likeness::distance ? -0.5 * kth : kth) - query.shift;
    query.limit = std::max(query.limit, round_down(key));
  }
  return static_cast<Index>(next);
}

Index NeighbourSearch::compare_to_all(Query& query, const float* z, const MatrixView& bank,
                                      std::size_t k) const {
  for (Index first = 0; first < bank.rows(); first += kBlockRows) {
    std::array<Index, kBlockRows> rows;
    std::iota(rows.begin(), rows.end(), first);
    const auto count = static_cast<std::size_t>(std::min(kBlockRows, bank.rows() - first));
    compare(query, z, bank, std::span(rows).first(count), k);
  }
  return bank.rows();
}

Index NeighbourSearch::find_in_tile(const MatrixView& queries, const MatrixView& bank, Index k,
                                    std::span<Neighbour> found) const {
  Scratch scratch;
  const auto wanted = static_cast<std::size_t>(k);
  const MatrixMap operands = scratch.matrix(queries.rows(), queries.cols());
  float* const products = scratch.matrix(queries.rows(), blocks_.front().rows()).data();
  std::pmr::vector<Query> tile(&scratch);
  tile.reserve(static_cast<std::size_t>(queries.rows()));
  for (Index i = 0; i < queries.rows(); ++i) tile.emplace_back(wanted, &scratch);
  bool filtered = false;
  for (Index i = 0; i < queries.rows(); ++i) {
    Query& query = tile[static_cast<std::size_t>(i)];
    begin(query, queries.row_data(i), MatrixMap(operands).row(i).data());
    filtered |= query.kind == Query::Kind::filtered;
  }

  Index compared = 0;
  for (Index b = 0; filtered && b < std::ssize(blocks_); ++b) {
    const kernels::PackedMatrix& block = blocks_[static_cast<std::size_t>(b)];
    const MatrixMap dots(products, queries.rows(), block.rows());
    kernels::matmul_nt(operands, block, dots);
    for (Index i = 0; i < queries.rows(); ++i) {
      Query& query = tile[static_cast<std::size_t>(i)];
      if (query.kind != Query::Kind::filtered) continue;
      compared += collect(query, queries.row_data(i), bank,
                          {dots.row(i).data(), static_cast<std::size_t>(block.rows())},
                          b * kBlockRows, wanted);
    }
  }
  for (Index i = 0; i < queries.rows(); ++i) {
    Query& query = tile[static_cast<std::size_t>(i)];
    const float* const z = queries.row_data(i);
    if (query.kind == Query::Kind::filtered) compared += settle(query, z, bank, wanted);
    if (query.kind == Query::Kind::compared_to_all)
      compared += compare_to_all(query, z, bank, wanted);
    const auto own = found.subspan(static_cast<std::size_t>(i * k), wanted);
    if (query.kind == Query::Kind::invalid) {
      std::ranges::fill(own, Neighbour{std::numeric_limits<float>::quiet_NaN(), -1});
      continue;
    }
    std::ranges::copy(query.best, own.begin());
    std::ranges::sort(own, [&](const Neighbour& a, const Neighbour& b) { return better(a, b); });
  }
  return compared;
}

/// Every query has lists of its own, which bodies fill, cut and settle as Query does.
void NeighbourSearch::find_on_device(const MatrixView& queries, const MatrixView& bank, Index k,
                                     std::span<Neighbour> found, Index* compared) const {
  namespace bodies = kernels::bodies;
  using bodies::NeighbourLists;
  const Index dim = bank.cols(), block = std::min(kDeviceBlockRows, bank.rows());
  // as many rows wait in all as on the processor, and as many again as are wanted
  const Index capacity = static_cast<Index>(kMostWaiting) / NeighbourLists::kLists +
                         (2 * k + NeighbourLists::kLists - 1) / NeighbourLists::kLists;
  const Index slots = NeighbourLists::kLists * capacity;
  const Index of_query = std::max(block * static_cast<Index>(sizeof(float)),
                                  slots * static_cast<Index>(sizeof(std::uint64_t)));
  const Index tile =
      std::clamp<Index>(kDeviceWorkBytes / of_query, 1, std::max<Index>(queries.rows(), 1));

  Scratch scratch;
  const Index distance = likeness_ == Likeness::distance ? 1 : 0;
  NeighbourLists lists{.x = {},
                       .bank = kernels::placed(bank),
                       .distance = distance,
                       .k = k,
                       .capacity = capacity,
                       .queries = scratch.span<bodies::NeighbourQuery>(tile).data(),
                       .lower = scratch.span<float>(tile * slots).data(),
                       .upper = scratch.span<float>(tile * slots).data(),
                       .rows = scratch.span<std::uint32_t>(tile * slots).data(),
                       .codes = scratch.span<std::uint64_t>(tile * slots).data(),
                       .counts = scratch.span<std::uint32_t>(tile * NeighbourLists::kLists).data(),
                       .next = scratch.span<std::uint32_t>(tile * NeighbourLists::kLists).data(),
                       .best = scratch.span<std::uint64_t>(tile * k).data()};
  float* const operands = scratch.matrix(tile, dim).data();
  float* const bank_operands = scratch.matrix(block, dim).data();
  float* const dots = scratch.matrix(tile, block).data();
  float* const norms = scratch.span<float>(block).data();
  float* const residuals = scratch.span<float>(block).data();
  float* const offsets = scratch.span<float>(block).data();
  const auto whole = [](const Vector& x) {
    return kernels::placed(std::span<const float>(x.data(), static_cast<std::size_t>(x.size())));
  };
  const float *const center = whole(center_), *const query_center = whole(query_center_);
  const bool safe =
      static_cast<double>(largest_norm_) < kLargestNorm && center_norm_ < kLargestNorm;

  kernels::DeviceQueue& queue = *kernels::device_queue();
  for (Index first = 0; first < queries.rows(); first += tile) {
    const Index rows = std::min(tile, queries.rows() - first);
    lists.x = kernels::rows_in(queries.middle_rows(first, rows));
    const kernels::FloatRowsOut x{operands, dim, rows, dim};
    queue.run(bodies::BeginNeighbours{lists, center, query_center, center_norm_, safe ? 1 : 0, x},
              rows);
    for (Index begin = 0; begin < bank.rows(); begin += block) {
      const Index count = std::min(block, bank.rows() - begin);
      kernels::FloatRows part = lists.bank;
      part.data = part.row(begin);
      part.rows = count;
      const kernels::FloatRowsOut y{bank_operands, dim, count, dim};
      queue.run(bodies::CenterBank{part, center, distance, y, norms, residuals, offsets}, count);
      queue.multiply({.x = {x.data, dim, rows, dim},
                      .b = {y.data, dim, count, dim},
                      .out = {dots, count, rows, count},
                      .precision = kernels::available_on_gpus(kernels::Precision::tf32)});
      queue.run(
          bodies::CollectNeighbours{
              lists, {dots, count, rows, count}, norms, residuals, offsets, begin},
          rows);
    }
    queue.run(bodies::FinishNeighbours{lists, found.data() + first * k}, rows);
    if (compared == nullptr) continue;
    std::vector<bodies::NeighbourQuery> done(static_cast<std::size_t>(rows));
    kernels::read_back(lists.queries, done.size(), done.data());
    for (const auto& query : done) *compared += query.compared;
  }
}

void NeighbourSearch::find(const MatrixView& queries, const MatrixView& bank, Index k,
                           std::span<Neighbour> found, Index* compared) const {
  if (bank.rows() != std::ssize(norms_) || bank.cols() != center_.size())
    throw_invalid("NeighbourSearch.find: bank has shape [{}, {}], expected [{}, {}]", bank.rows(),
                  bank.cols(), norms_.size(), center_.size());
  if (queries.cols() != bank.cols())
    throw_invalid("NeighbourSearch.find: queries has {} columns, expected {} as bank has",
                  queries.cols(), bank.cols());
  if (k < 1 || k > bank.rows())
    throw_invalid("NeighbourSearch.find: k has {}, expected 1 to {}, the rows of bank", k,
                  bank.rows());
  if (std::ssize(found) != queries.rows() * k)
    throw_invalid("NeighbourSearch.find: found has {} entries, expected {}", found.size(),
                  queries.rows() * k);
  if (compared != nullptr) *compared = 0;
  if (kernels::device_queue() != nullptr) return find_on_device(queries, bank, k, found, compared);
  for (Index first = 0; first < queries.rows(); first += kernels::kTileRows) {
    const Index rows = std::min(kernels::kTileRows, queries.rows() - first);
    const Index taken = find_in_tile(
        queries.middle_rows(first, rows), bank, k,
        found.subspan(static_cast<std::size_t>(first * k), static_cast<std::size_t>(rows * k)));
    if (compared != nullptr) *compared += taken;
  }
}

namespace {

using Found = std::span<const NeighbourSearch::Neighbour>;

void require_found(const char* kernel, Found found, Index k, std::span<const float> out) {
  kernels::require_size(kernel, "found", found.size(), std::ssize(out) * k);
}

}  // namespace

void kth_distances(Found found, Index k, std::span<float> out) {
  require_found("kth_distances", found, k, out);
  kernels::run(kernels::bodies::KthDistance{found.data(), k, out.data()}, std::ssize(out));
}

void mean_distances(Found found, Index k, std::span<float> out) {
  require_found("mean_distances", found, k, out);
  kernels::run(kernels::bodies::MeanDistance{found.data(), k, out.data()}, std::ssize(out));
}

void mean_values(Found found, Index k, std::span<float> out) {
  require_found("mean_values", found, k, out);
  kernels::run(kernels::bodies::MeanValue{found.data(), k, out.data()}, std::ssize(out));
}

}  // namespace ood
