/// Detectors that another one is made of.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ood/detector.h"
#include "ood/score_combination.h"

namespace ood {

/// A detector that is copied with what holds it, and named by text: `knn`, `knn(k=10,normalize=true)`.
class Member {
 public:
  /// Throws std::invalid_argument for text that names no detector, and as set_options() does.
  explicit Member(std::string_view text);
  Member(const Member& other) : text_(other.text_), detector_(other->clone()) {}
  Member& operator=(const Member& other) {
    text_ = other.text_;
    detector_ = other->clone();
    return *this;
  }
  Member(Member&&) noexcept = default;
  Member& operator=(Member&&) noexcept = default;

  Detector& operator*() const { return *detector_; }
  Detector* operator->() const { return detector_.get(); }
  const std::string& text() const { return text_; }

  /// Shows the state, each name after `prefix`; options are in the text.
  void visit(FieldVisitor& v, const std::string& prefix);

 private:
  std::string text_;
  std::unique_ptr<Detector> detector_;
};

/// `energy+knn(k=10)`: one detector or more.
std::vector<Member> members_of(std::string_view text);

/// The batch as the member of this place is to see it.
using MemberView = std::function<Batch(const Batch& batch, std::size_t member)>;

/// Fitted members and the rule that makes one score of theirs.
class CombinedMembers {
 public:
  std::vector<Member> members;

  /// Fits the rule on the members' scores of id_val, or of train where id_val is not there or lacks
  /// what is `wanted`; of validation outliers too for CombinationRule::learned. names [m], for
  /// errors. One pass over each.
  void calibrate(CombinationRule rule, const std::vector<std::string>& names,
                 const MemberView& view, const FitData& data, const Inputs& wanted,
                 const Exec& exec);
  /// After the members and the rule were loaded.
  void prepare();
  /// out_i = the combined score of row i, on the calling thread.
  void score(const MemberView& view, const Batch& tile, std::span<float> out) const;
  /// The members must be there, as their text made them.
  void visit(FieldVisitor& v);
  /// What the rule and the members found out.
  Diagnostics found(const std::vector<std::string>& names) const;

 private:
  ScoreCombination combination_;
  std::string calibrated_on_;      // a source
  Index calibrated_on_train_ = 0;  // 1 where there was no id_val
};

}  // namespace ood
