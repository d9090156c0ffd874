/// What a network gave for a block of samples, and where such blocks come from.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ood/matrix.h"

namespace ood {

/// The last linear layer: logits = features * weight^T + bias.
struct Head {
  Matrix weight;  ///< [C, D]
  Vector bias;    ///< [C]
};

/// A set of arrays that a batch can hold, a source can have, or a detector can need.
struct Inputs {
  bool features = false;
  bool logits = false;
  bool labels = false;
  bool layers = false;
  bool copy_features = false;
  bool copy_logits = false;
  bool head = false;

  /// The names of the members that are set, in the order above.
  std::vector<std::string> names() const;
  /// The other way round. Throws std::invalid_argument for a name that is none of them.
  static Inputs named(const std::vector<std::string>& names);
  /// What is set here and not in `other`.
  Inputs without(const Inputs& other) const;
  /// What is set here or in `other`.
  Inputs with(const Inputs& other) const;
  bool any() const;
};

/// In-distribution rows that a detector may be fitted on.
enum class Split { train, id_val };
inline constexpr std::array<std::string_view, 2> kFitSplits = {"train", "id_val"};

/// What a detector needs to be fitted and to score.
struct Needs {
  Inputs fit;
  Inputs score;
  Split split = Split::train;  ///< what it is fitted on where both are there
  Inputs outliers{};           ///< of validation outliers that it is fitted on too
  /// Scores of id_val, or of train where that is not there, are what others are compared with.
  bool calibrates = false;
};

/// Views on one block of rows. All fields that are set have the same number of rows.
struct Batch {
  std::optional<MatrixView> features;        ///< [n, D] penultimate features
  std::optional<MatrixView> logits;          ///< [n, C]
  std::optional<Labels> labels;              ///< [n], in [0, C)
  std::map<std::string, MatrixView> layers;  ///< name -> [n, D_l]
  std::optional<Tensor3View> copy_features;  ///< [K, n, D]
  std::optional<Tensor3View> copy_logits;    ///< [K, n, C]
  Index first_row = 0;                       ///< of this block in its source

  /// The number of rows; 0 without any field. Throws std::invalid_argument if fields disagree.
  Index rows() const;
  /// Rows [begin, begin + count) of every field.
  Batch slice(Index begin, Index count) const;
};

/// What a source holds; every pass over it yields just that.
struct SourceInfo {
  std::string name;  ///< as error messages call it: "memory", "features.h5: /train"
  Index rows = 0;
  Index dim = 0;      ///< D; 0 without features and head
  Index classes = 0;  ///< C, from head, logits or labels, in this order; 0 if none is there
  Index copies = 0;   ///< K
  std::map<std::string, Index> layers;  ///< name -> D_l
  Inputs has;
};

class Partitions;

/// Yields the same batches again on every pass: arrays in memory, a file, partitions of a cluster.
class BatchSource {
 public:
  BatchSource() = default;
  BatchSource(const BatchSource&) = delete;
  BatchSource& operator=(const BatchSource&) = delete;
  virtual ~BatchSource() = default;

  virtual const SourceInfo& info() const = 0;
  /// The last layer, or nullptr.
  virtual const Head* head() const = 0;
  /// One pass in row order: calls visit with consecutive batches that hold the wanted fields, as
  /// far as the source has them. Views are valid until visit returns. Batches may be of any size.
  virtual void read(const Inputs& wanted, const std::function<void(const Batch&)>& visit) = 0;
  /// Of rows that lie in several places, of which a pass here yields some (ood/partitions.h); else nullptr. A source
  /// that is made of another one has those of that one.
  virtual Partitions* partitions() { return nullptr; }
};

/// What fitting may read. Sources must outlive the fit.
struct FitData {
  BatchSource* train = nullptr;
  BatchSource* id_val = nullptr;
  std::vector<std::pair<std::string, BatchSource*>> ood_val{};  ///< name, rows

  /// The rows of this split, or of the other one where it is not there. Throws
  /// std::invalid_argument if neither is.
  BatchSource& in_distribution(Split split) const;
};

/// A source over arrays in memory, which must outlive it. Nothing is copied.
class MemorySource final : public BatchSource {
 public:
  /// head may be nullptr. batch_rows is how many rows a batch has; results do not depend on it.
  /// Throws std::invalid_argument if the shapes of the arrays and of the head disagree.
  explicit MemorySource(const Batch& arrays, const Head* head = nullptr, Index batch_rows = 16384,
                        std::string name = "memory");

  const SourceInfo& info() const override { return info_; }
  const Head* head() const override { return head_; }
  void read(const Inputs& wanted, const std::function<void(const Batch&)>& visit) override;

 private:
  Batch arrays_;
  const Head* head_;
  Index batch_rows_;
  SourceInfo info_;
};

/// The rows of owned arrays, filled piece by piece: where batches are cut anew or read from a file.
class BatchBuffer {
 public:
  /// Room for `capacity` rows of the `wanted` fields that `info` has.
  BatchBuffer(const SourceInfo& info, const Inputs& wanted, Index capacity);

  Index capacity() const { return capacity_; }
  Index rows() const { return rows_; }
  /// Copies all rows of `batch` behind those that are here; they must fit.
  void append(const Batch& batch);
  /// Forgets the rows; the next ones begin at row `first_row` of the source.
  void clear(Index first_row);
  /// Declares that `rows` rows were written into the arrays below.
  void set_rows(Index rows) { rows_ = rows; }
  Batch view() const;

  Matrix features, logits;               ///< [capacity, D], [capacity, C]
  std::vector<std::int64_t> labels;      ///< [capacity]
  std::map<std::string, Matrix> layers;  ///< [capacity, D_l]
  Tensor3 copy_features, copy_logits;    ///< [K, capacity, D], [K, capacity, C]

 private:
  Inputs fields_;
  Index capacity_;
  Index rows_ = 0;
  Index first_row_ = 0;
};

}  // namespace ood
