#pragma once

#include <stdexcept>
#include <string>

#include "ood/batch.h"
#include "ood/fields.h"
#include "ood/kernels.h"
#include "ood/kernels/elements.h"
#include "ood/matrix.h"

namespace ood {

/// The last layer, f = W z + b, as a piece of fitted state: for detectors that change the features
/// or the weights before the logits.
class LinearHead {
 public:
  LinearHead() = default;
  explicit LinearHead(const Head& head) { fit(head); }

  void fit(const Head& head) {
    weight_ = head.weight;
    bias_ = head.bias;
  }
  /// After fit, or after the fields were loaded.
  void prepare(kernels::Precision precision = kernels::Precision::float32) {
    if (bias_.size() != weight_.rows())
      throw std::invalid_argument("head_bias has " + std::to_string(bias_.size()) +
                                  " entries, expected " + std::to_string(weight_.rows()) +
                                  " as head_weight has rows");
    packed_weight_ = kernels::PackedMatrix(MatrixView(weight_), precision);
  }
  /// out = z W^T + b, [n, C], on the calling thread. Error of kernels::matmul_nt, and one rounding.
  void logits(const MatrixView& z, MatrixMap out) const {
    kernels::matmul_nt(z, packed_weight_, out);
    kernels::add_row(out, std::span(bias_.data(), static_cast<std::size_t>(bias_.size())), out);
  }
  void logits(const MatrixView& z, Matrix& out) const {  // which is resized
    out.resize(z.rows(), classes());
    logits(z, MatrixMap(out.data(), out.rows(), out.cols()));
  }

  const Matrix& weight() const { return weight_; }  ///< W [C, D]
  const Vector& bias() const { return bias_; }      ///< b [C]
  Index classes() const { return weight_.rows(); }

  void visit(FieldVisitor& v) {
    v.state("head_weight", weight_);
    v.state("head_bias", bias_);
  }

 private:
  Matrix weight_;
  Vector bias_;
  // derived
  kernels::PackedMatrix packed_weight_;
};

}  // namespace ood
