#pragma once

#include <utility>

#include "ood/batch.h"
#include "ood/exec.h"
#include "ood/fields.h"
#include "ood/kernels.h"

namespace ood {

/// Hands rows on to another accumulator at unit l2 norm, z / |z|_2 in float32, or as they are. A
/// row of zeros stays zero.
template <class A>
class Normalized {
 public:
  Normalized() = default;
  explicit Normalized(A empty, bool normalize = true)
      : inner_(std::move(empty)), normalize_(normalize) {}

  Inputs inputs() const { return inner_.inputs(); }

  void add(const Batch& batch) {
    if (normalize_ == 0) return inner_.add(batch);
    Matrix unit;
    kernels::normalize_rows(*batch.features, unit);
    Batch scaled = batch;
    scaled.features = unit;
    inner_.add(scaled);
  }

  void merge(const Normalized& other) { inner_.merge(other.inner_); }
  void merge(const Normalized& other, const Exec& exec) requires requires(A inner) {
    inner.merge(inner, exec);
  }
  { inner_.merge(other.inner_, exec); }

  /// Hands the other accumulator over.
  A take() && { return std::move(inner_); }

  void visit(FieldVisitor& v) {
    v.state("normalize", normalize_);
    inner_.visit(v);
  }

 private:
  A inner_;
  Index normalize_ = 1;  // 0 or 1; there is no state of bool
};

}  // namespace ood
