#include "cli/detector_arguments.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>

#include "cli/commands.h"
#include "errors.h"
#include "ood/registry.h"

namespace ood::cli {

namespace {

/// "knn.k=200": detector, option, value.
struct Assignment {
  std::string detector, option, value;
};

/// Names may be left out where there is one detector.
Assignment parse_assignment(const char* flag, const std::string& text,
                            const std::vector<std::string>& detectors) {
  const auto equals = text.find('='), dot = text.find('.');
  const bool named = dot < equals;
  if (equals == std::string::npos || (!named && detectors.size() != 1))
    throw_invalid("{} has {}, expected <detector>.<option>=<value>, such as knn.k=200", flag, text);
  Assignment parsed = {named ? text.substr(0, dot) : detectors.front(),
                       named ? text.substr(dot + 1, equals - dot - 1) : text.substr(0, equals),
                       text.substr(equals + 1)};
  if (std::ranges::find(detectors, parsed.detector) == detectors.end())
    throw_invalid("{} sets an option of {}, expected one of {}", flag, parsed.detector,
                  fmt::join(detectors, ", "));
  return parsed;
}

std::vector<std::string> names_of(const DetectorArguments& arguments) {
  return arguments.all() ? detector_names() : arguments.detectors;
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(separator, begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

std::optional<double> number(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return {};
  return value;
}

/// "1.1:3.0:0.1" is a grid, "1.1:3.0" an interval, "a,b,c" a list of values.
void add_search(SearchSpec& spec, const std::string& option, const std::string& text) {
  const auto parts = split(text, ':');
  if (parts.size() == 1) {
    SearchAxis axis{option, {}};
    for (const std::string& value : split(text, ',')) axis.values.emplace_back(value);
    spec.grid.push_back(std::move(axis));
    return;
  }
  std::vector<double> numbers;
  for (const std::string& part : parts)
    if (const auto value = number(part)) numbers.push_back(*value);
  const bool rising = numbers.size() == parts.size() && numbers[0] < numbers[1];
  if (!rising || parts.size() > 3 || (parts.size() == 3 && numbers[2] <= 0))
    throw_invalid("--search has {}, expected start:stop:step, start:stop or a,b,c", text);
  if (parts.size() == 2) {
    if (spec.interval) throw_invalid("--search has two ranges without a step, expected one");
    spec.interval = {option, numbers[0], numbers[1], (numbers[1] - numbers[0]) / 100};
    return;
  }
  constexpr double kMostSteps = 1e4;
  const double steps = std::floor((numbers[1] - numbers[0]) / numbers[2] + 1e-9);
  if (steps > kMostSteps)
    throw_invalid("--search has {} steps in {}, expected {} or fewer", steps, text, kMostSteps);
  SearchAxis axis{option, {}};
  for (double i = 0; i <= steps; ++i)  // 12 digits: 1.1 + 0.1 is 1.2
    axis.values.emplace_back(*number(fmt::format("{:.12g}", numbers[0] + i * numbers[2])));
  spec.grid.push_back(std::move(axis));
}

Criterion parse_criterion(const DetectorArguments& arguments) {
  if (arguments.criterion.empty())
    return arguments.ood_val.empty() ? Criterion::pseudo_ood : Criterion::ood_val_auroc;
  return static_cast<Criterion>(std::ranges::find(kCriteria, arguments.criterion) -
                                kCriteria.begin());
}

/// The split that --ood-val NAME stands for: of /ood_val, or else of /ood.
const SplitInfo& outlier_split(const Dataset& dataset, const std::string& name) {
  for (const char* folder : {"ood_val/", "ood/"})
    if (const SplitInfo* found = dataset.find(folder + name)) return *found;
  std::vector<std::string> names;
  for (const SplitInfo& known : dataset.info().splits)
    for (const std::string folder : {"ood_val/", "ood/"})
      if (known.name.starts_with(folder)) names.push_back(known.name.substr(folder.size()));
  throw_invalid("--ood-val has {}, expected one of {}", name, fmt::join(names, ", "));
}

}  // namespace

void add_detector_arguments(CLI::App& command, DetectorArguments& arguments, bool one) {
  auto* names = command.add_option("--detectors,--detector,-d", arguments.detectors,
                                   one ? "The detector"
                                       : "Detectors, separated by commas; 'all' takes every one "
                                         "that the file allows");
  if (one)
    names->required()->expected(1);
  else
    names->delimiter(',')->capture_default_str();
  command
      .add_option("--param,-p", arguments.options,
                  "Option of a detector, such as -p knn.k=200, or -p k=200 where there is one; may "
                  "be given several times. preset=NAME sets those of a publication")
      ->allow_extra_args(false);
  command
      .add_option("--search", arguments.searches,
                  "Choose an option: p=1.1:3.0:0.1 tries a grid, p=1.1:3.0 searches by golden "
                  "section, partition=pooled,per_class tries a list; several make a grid of all "
                  "combinations")
      ->allow_extra_args(false);
  command
      .add_option("--criterion", arguments.criterion,
                  "What to choose by; ood_val_auroc if --ood-val is given, else pseudo_ood")
      ->check(CLI::IsMember(std::vector<std::string>(kCriteria.begin(), kCriteria.end())));
  command
      .add_option("--ood-val", arguments.ood_val,
                  "Sets of outliers, by name, that options are chosen on: of /ood_val, or of /ood, "
                  "where they are then left out of the results")
      ->delimiter(',');
  command
      .add_option(
          "--search-rows", arguments.search_rows,
          fmt::format("Largest number of rows of each set that settings are compared on; {} "
                      "if not given",
                      SearchSpec().rows))
      ->check(CLI::Range(Index{1}, Index{1} << 40));
  command.add_option("--threads", arguments.exec.threads, "Threads; 0 = all")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  add_device_argument(command, arguments.exec.device);
}

std::vector<std::string> detectors_with_options(const DetectorArguments& arguments) {
  std::vector<std::string> detectors;
  for (const std::string& text : arguments.options)
    detectors.push_back(parse_assignment("-p", text, names_of(arguments)).detector);
  return detectors;
}

std::vector<std::unique_ptr<Detector>> make_detectors(const DetectorArguments& arguments) {
  const auto names = names_of(arguments);
  std::map<std::string, OptionMap> options;
  for (const std::string& text : arguments.options) {
    const Assignment set = parse_assignment("-p", text, names);
    options[set.detector][set.option] = set.value;
  }
  std::vector<std::unique_ptr<Detector>> detectors;
  for (const std::string& name : names) {
    if (std::ranges::count(names, name) > 1)
      throw_invalid("--detectors has {} twice, expected each once", name);
    detectors.push_back(make_detector(name, options[name]));
  }
  return detectors;
}

std::vector<std::string> used_for_choosing(const Dataset& dataset,
                                           const DetectorArguments& arguments) {
  std::vector<std::string> names;
  for (const std::string& name : arguments.ood_val)
    if (outlier_split(dataset, name).name == "ood/" + name) names.push_back(name);
  return names;
}

std::vector<SearchResult> choose_options(
    const Dataset& dataset, const std::vector<std::unique_ptr<Detector>>& detectors,
    const DetectorArguments& arguments,
    const std::function<void(std::string_view step, double done)>& progress) {
  if (arguments.searches.empty() && (!arguments.criterion.empty() || !arguments.ood_val.empty() ||
                                     arguments.search_rows.has_value()))
    throw_invalid(
        "--criterion, --ood-val and --search-rows are for a search, expected --search beside them");
  const Criterion criterion = parse_criterion(arguments);
  const bool outliers =
      criterion == Criterion::ood_val_auroc || criterion == Criterion::ood_val_fpr95;
  if (!outliers && !arguments.ood_val.empty())
    throw_invalid(
        "--criterion has {}, which takes no --ood-val, expected ood_val_auroc or "
        "ood_val_fpr95 beside it",
        arguments.criterion);

  std::map<std::string, SearchSpec> specs;
  for (const std::string& text : arguments.searches) {
    const Assignment set = parse_assignment("--search", text, names_of(arguments));
    SearchSpec& spec = specs[set.detector];
    spec.criterion = criterion;
    if (arguments.search_rows) spec.rows = *arguments.search_rows;
    add_search(spec, set.option, set.value);
  }
  if (specs.empty()) return {};

  const auto train = dataset.source("train");
  const auto id_val = dataset.find("id_val") != nullptr ? dataset.source("id_val") : nullptr;
  SearchData data{.train = *train, .id_val = id_val.get()};
  std::vector<std::unique_ptr<BatchSource>> sets;
  const auto add_set = [&](const std::string& split) {
    sets.push_back(dataset.source(split));
    data.ood_val.emplace_back(split, sets.back().get());
  };
  for (const std::string& name : arguments.ood_val) {
    if (std::ranges::count(arguments.ood_val, name) > 1)
      throw_invalid("--ood-val has {} twice, expected each once", name);
    add_set(outlier_split(dataset, name).name);
  }
  if (outliers && arguments.ood_val.empty())
    for (const SplitInfo& known : dataset.info().splits)
      if (known.name.starts_with("ood_val/")) add_set(known.name);
  if (outliers && sets.empty())
    throw_invalid("{}: no /ood_val, expected --ood-val NAME with a set to choose on",
                  dataset.info().path.string());

  std::vector<SearchResult> results;
  for (const auto& detector : detectors) {
    const auto spec = specs.find(std::string(detector->name()));
    if (spec == specs.end()) continue;
    results.push_back(search(*detector, spec->second, data, arguments.exec, progress));
    detector->set_options(results.back().best.options);
  }
  return results;
}

}  // namespace ood::cli
