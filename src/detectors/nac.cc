#include "ood/detectors/nac.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <vector>

#include "errors.h"
#include "ood/kernels/margins.h"
#include "ood/random.h"
#include "ood/reduce.h"
#include "ood/scratch.h"

namespace ood {

namespace {

constexpr std::uint32_t kRowStream = 0x420;

/// Where `bins` bins meet, as arguments of the sigmoid: log(t / (1 - t)).
std::vector<float> bin_edges(Index bins) {
  const Index half = bins / 2;
  const double step = (std::sqrt(1000.0) - 1) / static_cast<double>(half - 1);
  std::vector<float> edges = {0.0f};
  for (Index k = 1; k < half - 1; ++k) {
    const double t = std::log(1 + static_cast<double>(k) * step) / std::log(1000.0);
    const auto edge = static_cast<float>(std::log(t / (1 - t)));
    edges.push_back(edge);
    edges.push_back(-edge);
  }
  std::ranges::sort(edges);
  return edges;
}

/// The numbers of `wanted` of n rows, in order, all sets of rows alike; nothing for all rows: with wanted = 0 or from n on.
std::optional<std::vector<Index>> choose_rows(Index n, Index wanted, std::uint64_t seed) {
  if (wanted == 0 || wanted >= n) return std::nullopt;
  std::vector<Index> chosen;
  for (Index i = 0; std::ssize(chosen) < wanted; ++i) {
    const Index left = wanted - std::ssize(chosen);
    if (uniform(seed, kRowStream, static_cast<std::uint64_t>(i)) * static_cast<double>(n - i) <
        static_cast<double>(left))
      chosen.push_back(i);
  }
  return chosen;
}

}  // namespace

/// Chosen rows by neuron and bin.
class Nac::Counts {
 public:
  Counts() = default;
  Counts(const Nac* nac, const std::optional<std::vector<Index>>* chosen)
      : sums(MatrixD::Zero(nac->weight_.cols(), std::ssize(nac->edges_) + 1)),
        nac_(nac),
        chosen_(chosen) {}
  Inputs inputs() const { return {.features = true, .logits = true}; }

  void add(const Batch& batch) {
    for (Index begin = 0; begin < batch.rows(); begin += kernels::kTileRows) {
      const Batch tile = batch.slice(begin, std::min(kernels::kTileRows, batch.rows() - begin));
      std::vector<Index> chosen(static_cast<std::size_t>(tile.rows()));
      std::iota(chosen.begin(), chosen.end(), Index{0});
      if (*chosen_) {
        const auto first = std::ranges::lower_bound(**chosen_, tile.first_row);
        const auto last = std::lower_bound(first, (*chosen_)->end(), tile.first_row + tile.rows());
        chosen.assign(first, last);
        for (Index& row : chosen) row -= tile.first_row;
      }
      if (chosen.empty()) continue;
      Scratch scratch;
      const MatrixMap x = scratch.matrix(tile.rows(), nac_->weight_.cols());
      nac_->states(tile, x);
      for (const Index i : chosen)
        for (Index j = 0; j < x.cols(); ++j) ++sums(j, nac_->bin_of(x(i, j)));
    }
  }
  void merge(const Counts& other) { sums += other.sums; }
  void visit(FieldVisitor& v) { v.state("sums", sums); }

  MatrixD sums;  // [D, bins]

 private:
  const Nac* nac_ = nullptr;
  const std::optional<std::vector<Index>>* chosen_ = nullptr;
};

void Nac::fit_state(BatchSource& source, const Exec& exec) {
  weight_ = source.head()->weight;
  set_up();
  const auto chosen =
      choose_rows(source.info().rows, options_.rows, static_cast<std::uint64_t>(options_.seed));
  rows_used_ = chosen ? std::ssize(*chosen) : source.info().rows;
  const Counts counts = reduce(source, Counts(this, &chosen), exec);
  covered_ = counts.sums.cwiseMin(static_cast<double>(options_.saturation)).cast<float>();
}

void Nac::prepare() {
  require_size("weight, in columns", weight_.cols(), fitted_dim());
  if (options_.bins / 2 - 1 != covered_.cols() / 2)  // before anything is made of that size
    throw_invalid("covered has {} columns, expected {} as bins says", covered_.cols(),
                  options_.bins / 2 * 2 - 2);
  set_up();
  if (weight_.rows() < 1 || covered_.rows() != weight_.cols() ||
      covered_.cols() != std::ssize(edges_) + 1)
    throw_invalid("covered has shape [{}, {}], expected [{}, {}] by weight and bins",
                  covered_.rows(), covered_.cols(), weight_.cols(), edges_.size() + 1);
}

void Nac::set_up() {
  edges_ = bin_edges(options_.bins);
  packed_weight_ = kernels::PackedMatrix(Matrix(weight_.transpose()));
}

void Nac::states(const Batch& tile, MatrixMap x) const {
  Scratch scratch;
  const MatrixMap p = scratch.matrix(tile.rows(), tile.logits->cols());
  // from float64: what p loses may carry states over an edge
  kernels::row_excess_probabilities(*tile.logits, p);
  kernels::matmul_nt(p, packed_weight_, x);
  kernels::scale_by(x, static_cast<float>(options_.alpha), *tile.features);
}

Index Nac::bin_of(float x) const {
  return std::upper_bound(edges_.begin(), edges_.end(), x) - edges_.begin();
}

void Nac::score_tile(const Batch& tile, std::span<float> out) const {
  Scratch scratch;
  const MatrixMap x = scratch.matrix(tile.rows(), weight_.cols());
  states(tile, x);
  // whole numbers, so that states that are covered alike score alike, to the bit
  const double most = static_cast<double>(options_.saturation) * static_cast<double>(x.cols());
  kernels::row_binned_share(x, edges_, covered_, most, out);
}

}  // namespace ood
