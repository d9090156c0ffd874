/// The part of the command line that says which detectors, with which options, and how to choose
/// those that are not given.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ood/dataset.h"
#include "ood/detector.h"
#include "ood/search.h"

namespace ood::cli {

struct DetectorArguments {
  std::vector<std::string> detectors = {"all"};
  std::vector<std::string> options;   // "knn.k=200", or "k=200" where there is one detector
  std::vector<std::string> searches;  // "conjnorm.p=1.1:3:0.1", and as above
  std::string criterion;              // "" = ood_val_auroc with ood_val, else pseudo_ood
  std::vector<std::string> ood_val;
  std::optional<Index> search_rows;
  Exec exec;

  bool all() const { return detectors == std::vector<std::string>{"all"}; }
};

/// Adds the flags. one: the command takes one detector, by name.
void add_detector_arguments(CLI::App& command, DetectorArguments& arguments, bool one);

/// The detectors that -p sets an option of.
std::vector<std::string> detectors_with_options(const DetectorArguments& arguments);

/// The detectors that were asked for, with the options that were given.
std::vector<std::unique_ptr<Detector>> make_detectors(const DetectorArguments& arguments);

/// Sets of /ood that options are chosen on: they are no part of a result.
std::vector<std::string> used_for_choosing(const Dataset& dataset,
                                           const DetectorArguments& arguments);

/// Runs the searches that were asked for, and sets the options that they found.
std::vector<SearchResult> choose_options(
    const Dataset& dataset, const std::vector<std::unique_ptr<Detector>>& detectors,
    const DetectorArguments& arguments,
    const std::function<void(std::string_view step, double done)>& progress);

}  // namespace ood::cli
