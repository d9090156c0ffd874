#include "ood/members.h"

#include <algorithm>

#include "errors.h"
#include "ood/kernels.h"
#include "ood/reduce.h"
#include "ood/scratch.h"
#include "ood/stream.h"

namespace ood {

namespace {

/// Cuts text at a character that stands outside of parentheses.
std::vector<std::string_view> split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  std::size_t begin = 0, depth = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '(') ++depth;
    if (text[i] == ')' && depth > 0) --depth;
    if (text[i] != at || depth > 0) continue;
    parts.push_back(text.substr(begin, i - begin));
    begin = i + 1;
  }
  parts.push_back(text.substr(begin));
  return parts;
}

/// Text may come out of a file. What is nested is made several times at each level.
void require_modest(std::string_view text) {
  constexpr Index kMostLevels = 4, kMostMembers = 256;
  Index depth = 0, deepest = 0;
  for (const char c : text) {
    depth += c == '(' ? 1 : c == ')' ? -1 : 0;
    deepest = std::max(deepest, depth);
  }
  if (deepest > kMostLevels)
    throw_invalid("{}... has {} nested parentheses, expected at most {}", text.substr(0, 40),
                  deepest, kMostLevels);
  if (const auto members = 1 + std::ranges::count(text, '+'); members > kMostMembers)
    throw_invalid("{}... has {} detectors, expected at most {}", text.substr(0, 40), members,
                  kMostMembers);
}

std::unique_ptr<Detector> from_text(std::string_view text) {
  require_modest(text);
  const std::size_t open = text.find('(');
  if (open == std::string_view::npos) return make_detector(text);
  const auto bad = [&] {
    throw_invalid("{} is no detector, expected name or name(option=value,...)", text);
  };
  if (!text.ends_with(')')) bad();
  OptionMap options;
  const std::string_view inside = text.substr(open + 1, text.size() - open - 2);
  for (const std::string_view pair : split(inside, ',')) {
    const std::size_t equals = pair.find('=');
    if (equals == std::string_view::npos) bad();
    options.emplace(pair.substr(0, equals), std::string(pair.substr(equals + 1)));
  }
  return make_detector(text.substr(0, open), options);
}

/// Passes state on under longer names, and keeps options to itself.
class PrefixedState final : public FieldVisitor {
 public:
  PrefixedState(FieldVisitor& visitor, const std::string& prefix)
      : visitor_(visitor), prefix_(prefix) {}

  void state(std::string_view name, Index& value) override { show(name, value); }
  void state(std::string_view name, double& value) override { show(name, value); }
  void state(std::string_view name, std::string& value) override { show(name, value); }
  void state(std::string_view name, Matrix& value) override { show(name, value); }
  void state(std::string_view name, MatrixD& value) override { show(name, value); }
  void state(std::string_view name, Vector& value) override { show(name, value); }
  void state(std::string_view name, VectorD& value) override { show(name, value); }
  void state(std::string_view name, std::vector<Index>& value) override { show(name, value); }

 private:
  template <class T>
  void show(std::string_view name, T& value) {
    visitor_.state(fmt::format("{}{}", prefix_, name), value);
  }
  FieldVisitor& visitor_;
  const std::string& prefix_;
};

}  // namespace

Member::Member(std::string_view text) : text_(text), detector_(from_text(text)) {}

void Member::visit(FieldVisitor& v, const std::string& prefix) {
  PrefixedState prefixed(v, prefix);
  detector_->visit_all(prefixed);
}

std::vector<Member> members_of(std::string_view text) {
  require_modest(text);
  std::vector<Member> members;
  for (const std::string_view part : split(text, '+')) members.emplace_back(part);
  return members;
}

namespace {

/// The scores [n, m] that each member gives to the rows of a tile, on the calling thread.
void score_members(const std::vector<Member>& members, const MemberView& view, const Batch& tile,
                   MatrixDMap scores) {
  Scratch scratch;
  std::pmr::vector<float> column(static_cast<std::size_t>(tile.rows()), &scratch);
  for (std::size_t m = 0; m < members.size(); ++m) {
    members[m]->score(view(tile, m), column, {.threads = 1});
    for (std::size_t i = 0; i < column.size(); ++i)
      scores(static_cast<Index>(i), static_cast<Index>(m)) = static_cast<double>(column[i]);
  }
}

/// The same of all rows of a source.
class MemberScores {
 public:
  MemberScores(const std::vector<Member>& members, const MemberView& view, const Inputs& wanted)
      : members_(&members), view_(&view), wanted_(wanted), scores_(0, std::ssize(members)) {}

  Inputs inputs() const { return wanted_; }

  void add(const Batch& batch) {
    const Index before = scores_.rows();
    scores_.conservativeResize(before + batch.rows(), Eigen::NoChange);
    for (Index begin = 0; begin < batch.rows(); begin += kernels::kTileRows) {
      const Index count = std::min(kernels::kTileRows, batch.rows() - begin);
      score_members(*members_, *view_, batch.slice(begin, count),
                    {scores_.row(before + begin).data(), count, scores_.cols()});
    }
  }

  void merge(const MemberScores& other) {
    scores_.conservativeResize(scores_.rows() + other.scores_.rows(), Eigen::NoChange);
    scores_.bottomRows(other.scores_.rows()) = other.scores_;
  }

  void visit(FieldVisitor& v) { v.state("scores", scores_); }

  MatrixD take() && { return std::move(scores_); }

 private:
  const std::vector<Member>* members_;
  const MemberView* view_;
  Inputs wanted_;
  MatrixD scores_;
};

MatrixD score_members(const std::vector<Member>& members, const MemberView& view,
                      BatchSource& source, const Inputs& wanted, const Exec& exec) {
  return reduce(source, MemberScores(members, view, wanted), exec).take();
}

}  // namespace

void CombinedMembers::calibrate(CombinationRule rule, const std::vector<std::string>& names,
                                const MemberView& view, const FitData& data, const Inputs& wanted,
                                const Exec& exec) {
  const bool on_id_val =
      data.id_val != nullptr && !wanted.without(available(data.id_val->info())).any();
  BatchSource& calibration = on_id_val ? *data.id_val : data.in_distribution(Split::train);
  MatrixD outliers;
  if (rule == CombinationRule::learned)
    for (const auto& [name, source] : data.ood_val) {
      const MatrixD scores = score_members(members, view, *source, wanted, exec);
      outliers.conservativeResize(outliers.rows() + scores.rows(), scores.cols());
      outliers.bottomRows(scores.rows()) = scores;
    }
  combination_.fit(rule, score_members(members, view, calibration, wanted, exec), outliers, names);
  calibrated_on_ = calibration.info().name;
  calibrated_on_train_ = on_id_val ? 0 : 1;
}

void CombinedMembers::prepare() {
  combination_.require_members(std::ssize(members));
  for (const Member& member : members)
    if (!member->fitted()) member->finish_loading();  // not after a fit
}

void CombinedMembers::score(const MemberView& view, const Batch& tile, std::span<float> out) const {
  Scratch scratch;
  const MatrixDMap scores = scratch.matrix_d(tile.rows(), std::ssize(members));
  score_members(members, view, tile, scores);
  for (Index i = 0; i < scores.rows(); ++i)
    out[static_cast<std::size_t>(i)] = static_cast<float>(
        combination_.combine({scores.row(i).data(), static_cast<std::size_t>(scores.cols())}));
}

void CombinedMembers::visit(FieldVisitor& v) {
  for (std::size_t m = 0; m < members.size(); ++m) members[m].visit(v, fmt::format("{}.", m));
  combination_.visit(v);
  v.state("calibrated_on", calibrated_on_);
  v.state("calibrated_on_train", calibrated_on_train_);
}

Diagnostics CombinedMembers::found(const std::vector<std::string>& names) const {
  Diagnostics found;
  found.values.emplace_back("calibrated_on", calibrated_on_);
  combination_.add_found(found);
  if (calibrated_on_train_ != 0)
    found.warnings.push_back(fmt::format(
        "calibrated on {}, as there is no id_val: detectors that remember training rows score "
        "them too high",
        calibrated_on_));
  for (std::size_t m = 0; m < members.size(); ++m) {
    const Needs needs = members[m]->needs();  // rows that were fitted on score too high
    if (calibrated_on_train_ == 0 && needs.split == Split::id_val && needs.fit.any())
      found.warnings.push_back(
          fmt::format("{} is fitted on the rows that its scores are calibrated on, {}", names[m],
                      calibrated_on_));
    const Diagnostics own = members[m]->diagnostics();
    for (const auto& [name, value] : own.values)
      found.values.emplace_back(fmt::format("{}.{}", names[m], name), value);
    for (const auto& warning : own.warnings)
      found.warnings.push_back(fmt::format("{}: {}", names[m], warning));
  }
  return found;
}

}  // namespace ood
