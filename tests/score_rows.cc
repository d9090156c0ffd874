// ood_score_rows FILE SPLIT[,SPLIT...] DETECTOR [--model=MODEL] [option=value ...]
//
// Fits on the splits of a feature file that the detector asks for, and writes the scores of one split
// after the other to standard output, as little-endian float32: what the Python tests compare row by
// row. --model=MODEL saves what was fitted, without a calibration, which `ood fit` does not do.
#include <bit>
#include <cstdio>
#include <exception>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "ood/dataset.h"
#include "ood/model_file.h"
#include "ood/registry.h"
#include "ood/stream.h"

namespace {

ood::OptionMap options_of(std::span<char*> texts) {
  ood::OptionMap options;
  for (const std::string text : texts) {
    const auto equals = text.find('=');
    if (equals == std::string::npos) throw std::invalid_argument(text + ": expected option=value");
    options[text.substr(0, equals)] = text.substr(equals + 1);
  }
  return options;
}

void write_scores(const ood::Detector& detector, ood::BatchSource& source) {
  static_assert(std::endian::native == std::endian::little);
  ood::stream(source, detector.needs().score, {}, [&](const ood::Batch& batch) {
    const auto scores = detector.score(batch);
    if (std::fwrite(scores.data(), sizeof(float), scores.size(), stdout) != scores.size())
      throw std::runtime_error("standard output cannot be written");
  });
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fputs(
        "usage: ood_score_rows FILE SPLIT[,SPLIT...] DETECTOR [--model=MODEL] [option=value ...]\n",
        stderr);
    return 2;
  }
  try {
    const ood::Dataset file(argv[1]);
    std::span<char*> options(argv + 4, static_cast<std::size_t>(argc - 4));
    std::string model;
    constexpr std::string_view flag = "--model=";
    if (!options.empty() && std::string_view(options.front()).starts_with(flag)) {
      model = options.front() + flag.size();
      options = options.subspan(1);
    }
    auto detector = ood::make_detector(argv[3], options_of(options));
    const ood::FitSources sources(file);
    if (detector->needs().fit.any() || detector->needs().outliers.any())
      detector->fit(sources.data());
    std::istringstream splits(argv[2]);
    for (std::string split; std::getline(splits, split, ',');)
      write_scores(*detector, *file.source(split));
    if (!model.empty()) ood::save_model({.detector = std::move(detector)}, model);
    return std::fflush(stdout) == 0 ? 0 : 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
