#include "ood/detectors/fusion.h"

#include <algorithm>

#include "errors.h"

namespace ood {

namespace {

Batch as_it_is(const Batch& batch, std::size_t) { return batch; }

}  // namespace

Needs Fusion::needs() const {
  Needs needs;
  for (const Member& member : combined_.members) {
    const Needs own = member->needs();
    needs.fit = needs.fit.with(own.fit).with(own.score);  // calibration scores rows
    needs.score = needs.score.with(own.score);
    needs.outliers = needs.outliers.with(own.outliers);
  }
  if (options_.rule == CombinationRule::learned) needs.outliers = needs.outliers.with(needs.score);
  needs.calibrates = true;
  return needs;
}

void Fusion::visit(FieldVisitor& v) {
  v.option("detectors", options_.detectors, "names joined by +, options in parentheses");
  v.option("rule", options_.rule, kCombinationRules, "how scores become one");
  if (made_of_ != options_.detectors) {
    try {
      combined_.members = members_of(options_.detectors);
    } catch (const std::invalid_argument& error) {
      throw_invalid("{}: option detectors has {}, expected detectors joined by +: {}", kName,
                    options_.detectors, error.what());
    }
    names_.clear();
    for (const Member& member : combined_.members) {  // two of one text are told apart by number
      const auto same = std::ranges::count_if(names_, [&](const std::string& name) {
        return name == member.text() || name.starts_with(member.text() + " #");
      });
      names_.push_back(same == 0 ? member.text() : fmt::format("{} #{}", member.text(), same + 1));
    }
    made_of_ = options_.detectors;
  }
  combined_.visit(v);
}

std::vector<Needs> Fusion::needs_of_members() const {
  std::vector<Needs> needs;
  for (const Member& member : combined_.members) needs.push_back(member->needs());
  return needs;
}

void Fusion::fit_data(const FitData& data, const Exec& exec) {
  for (const Member& member : combined_.members) member->fit(data, exec);
  combined_.calibrate(options_.rule, names_, as_it_is, data, needs().score, exec);
  set_fitted(data.in_distribution(Split::train).info());
}

void Fusion::prepare() { combined_.prepare(); }

void Fusion::score_tile(const Batch& tile, std::span<float> out) const {
  combined_.score(as_it_is, tile, out);
}

Diagnostics Fusion::found() const { return combined_.found(names_); }

}  // namespace ood
