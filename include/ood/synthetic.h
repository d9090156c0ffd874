/// Made-up feature files, of any size, for runs at scale, benchmarks and tests. They say nothing about how well a
/// detector works: see docs/synthetic.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ood/batch.h"
#include "ood/exec.h"

namespace ood {

/// What made-up rows are like. A row of class y is, feature by feature,
///
///   z_j = g_j max(a_j, 0)^2,   a = m + V h + s e,   h = q c_y + w * u,
///
/// where u [r] and e [D] are random numbers of mean 0 and variance 1 (u normal; e the sum of the four bytes of a random
/// word), and q, the strength of the row, is uniform in [strength_low, strength_high): weak rows are those that are taken
/// for another class. The head is logits_c = t (M_c - M_0)^T G (z - M_0), where M_c is the mean of class c at q = 1, M_0
/// that of a class whose code is 0, G the diagonal of 1 / g_j, and t such that the mean logit of the right class is
/// `logit` at q = 1.
struct SyntheticModel {
  std::string name;   ///< of the preset
  Index dim = 0;      ///< D
  Index classes = 0;  ///< C
  double offset = 0;  ///< m
  double noise = 0;   ///< s
  double strength_low = 0, strength_high = 0;
  double logit = 0;
  Matrix loadings;  ///< V [D, r]
  Matrix codes;     ///< c_y [C + unseen classes, r]: outliers are of classes behind the first C
  Vector within;    ///< w [r], decaying
  Vector scale;     ///< g [D]

  /// The mean features of rows of a code [r] at strength q, in closed form, with the largest code at hand: [D].
  Eigen::VectorXd mean(const Eigen::VectorXd& code) const;
};

/// The names of the presets: what `ood synth --preset` takes.
std::vector<std::string> synthetic_presets();

/// A made-up network: its head, and rows of every split. Everything depends on preset and seed alone: row i of a split
/// is the same however many rows there are, and whatever the threads and batches, to the bit. (Between instruction
/// sets and C libraries the last digits differ.)
class SyntheticData {
 public:
  /// Throws std::invalid_argument for a preset that there is not.
  explicit SyntheticData(std::string_view preset, std::uint64_t seed = 0);

  const SyntheticModel& model() const { return model_; }
  const Head& head() const { return head_; }
  std::uint64_t seed() const { return seed_; }
  /// The splits in the order of a file: train, id_val, id_test, ood_val/unseen, ood/unseen (near), ood/spectrum and
  /// ood/noise (far).
  static std::vector<std::string> splits();
  /// "near", "far" or "".
  static std::string kind(std::string_view split);
  /// The first `rows` rows of a split: features, labels where it is in-distribution (row i is of class i mod C), and logits
  /// where they are asked for. Rows are made when they are read, 1,024 at a time, so memory does not grow with them. Valid as long as
  /// this is. Throws std::invalid_argument for a split that there is not and rows below 1.
  std::unique_ptr<BatchSource> source(std::string_view split, Index rows, bool logits = false,
                                      const Exec& exec = {}) const;

 private:
  SyntheticModel model_;
  Head head_;
  std::uint64_t seed_;
};

struct SyntheticFileOptions {
  Index rows = 0;          ///< of train, at least C
  Index test_rows = 5000;  ///< of every other split
  bool logits = false;     ///< store them; else a reader computes them from features and head
  int gzip_level = 0;      ///< as DatasetWriter::Options has it
  Exec exec{};
  std::function<void(std::string_view split, double done)> progress{};  ///< done: of the whole file
};

/// Writes a whole feature file of made-up rows. It says that it is made up: the attribute model begins with "synthetic".
/// errors std::invalid_argument: rows < C, test_rows < 1. std::runtime_error: the file cannot be
/// written; it is what it was before.
void write_synthetic(const std::filesystem::path& path, const SyntheticData& data,
                     const SyntheticFileOptions& options);

}  // namespace ood
