/// Choosing the options of a detector: one search for all of them.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ood/detector.h"

namespace ood {

/// What makes one setting better than another.
enum class Criterion {
  ood_val_auroc,  ///< mean AUROC of in-distribution rows against sets of validation outliers
  ood_val_fpr95,  ///< mean FPR at 95 % TPR against them; less is better (the ConjNorm authors' way)
  id_likelihood,  ///< mean log-likelihood of in-distribution rows under a normalised density
  pseudo_ood      ///< mean AUROC against outliers made from training rows, see SearchSpec
};
inline constexpr std::array<std::string_view, 4> kCriteria = {"ood_val_auroc", "ood_val_fpr95",
                                                              "id_likelihood", "pseudo_ood"};

/// Values of one option to try.
struct SearchAxis {
  std::string option;
  std::vector<OptionValue> values;
};

/// The range of one real option in which to look for the best value by golden section, which finds
/// it if the criterion has one peak there.
struct SearchInterval {
  std::string option;
  double min = 0;
  double max = 1;
  double tolerance = 0.01;  ///< stop when the best value is known this well
};

/// How to search. Settings are fitted on training rows: a detector that asks for id_val, or is
/// calibrated on it, is refused, as settings are compared on rows of id_val. In-distribution rows that settings are compared on are rows of id_val, or, where
/// there is none and for pseudo_ood, training rows that are held out of the fit (never the first
/// row of a class). pseudo_ood makes outliers from held-out rows in two ways, and takes the mean of
/// the two: `mixed`, the means of two rows of different classes; and `classes_left_out`, rows of a
/// random half of the classes, against those of the other half, which the detector is fitted on.
/// The latter only for detectors that read nothing but features and labels: logits know all
/// classes.
struct SearchSpec {
  std::vector<SearchAxis> grid{};            ///< every combination of values
  std::optional<SearchInterval> interval{};  ///< instead of a grid
  Criterion criterion = Criterion::id_likelihood;
  double held_out = 0.1;   ///< largest share of the training rows that is held out, in (0, 0.5]
  Index rows = 1024;       ///< largest number of rows of each set that settings are compared on
  std::uint64_t seed = 0;  ///< of the choice of rows and classes
};

/// What to search on. Sources must outlive the search.
struct SearchData {
  BatchSource& train;
  BatchSource* id_val = nullptr;
  std::vector<std::pair<std::string, BatchSource*>> ood_val{};  ///< name, rows
};

/// The best point is the first of equals. Of likelihoods, one whose fit warns is only best where all
/// warn.
struct SearchPoint {
  OptionMap options;                                    ///< those that are searched
  double value = 0;                                     ///< of the criterion; NaN is never the best
  std::vector<std::pair<std::string, double>> parts{};  ///< that value is the mean of, if several
  std::vector<std::string> warnings{};                  ///< of the fit
};

struct SearchResult {
  /// Rows that were used, and of what: "features.h5: /train".
  struct Rows {
    std::string source;
    Index rows = 0;
  };
  std::string detector;
  Criterion criterion = Criterion::id_likelihood;
  SearchPoint best;                ///< the first of equals
  std::vector<SearchPoint> curve;  ///< in the order of the grid, or of the option's values
  Rows fit;                        ///< what settings were fitted on, before classes were left out
  Rows id;                         ///< in-distribution rows that they were compared on
  std::vector<Rows> outliers;
};

/// Tries settings of `detector`, which is left as it is, and returns the best one with all the
/// others. Settings that the detector can fit and score together cost little more than one, see
/// Detector::candidates().
///
/// errors std::invalid_argument: neither or both of grid and interval, an axis without values, a
///        wrong option, no outliers for ood_val_*, no density for id_likelihood, no labels for
///        pseudo_ood, bad values in the data; std::domain_error as in fit, or where too few rows or
///        classes are left to compare
SearchResult search(const Detector& detector, const SearchSpec& spec, const SearchData& data,
                    const Exec& exec = {},
                    const std::function<void(std::string_view step, double done)>& progress = {});

}  // namespace ood
