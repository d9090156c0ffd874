/// Scores of rows as an HDF5 file: what `ood score --out scores.h5` writes.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace ood {

/// Arrays `score` float32, and, of a calibrated model, `p_value` float64 and `accepted` uint8 (1 or 0),
/// an entry for each row, and attributes of the file. Rows come in pieces; memory is a chunk of them. It
/// is written under a temporary name until close().
///
/// errors std::runtime_error: the file cannot be written; nothing is left of it.
class ScoreArrays {
 public:
  ScoreArrays(const std::filesystem::path& path, bool calibrated);
  ScoreArrays(const ScoreArrays&) = delete;
  ScoreArrays& operator=(const ScoreArrays&) = delete;
  ~ScoreArrays();

  void set_attribute(const std::string& name, const std::string& value);
  void set_attribute(const std::string& name, double value);
  /// As many of each, but of p_values and accepted none if the model is not calibrated.
  void append(std::span<const float> scores, std::span<const double> p_values,
              std::span<const unsigned char> accepted);
  void close();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ood
