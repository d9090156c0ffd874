/// Detectors by name, at run time.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ood/detector.h"

namespace ood {

/// The names of all detectors, in the order of the list in ood/detectors.h.
std::vector<std::string> detector_names();

/// A new detector with these options. Throws std::invalid_argument for an unknown name, with the
/// names that there are, and for unknown or wrong options.
std::unique_ptr<Detector> make_detector(std::string_view name, const OptionMap& options = {});

/// A fitted detector as bytes, and back with the same bits. std::logic_error if it is not fitted;
/// std::invalid_argument for bytes that hold no detector.
std::vector<std::byte> to_bytes(const Detector& detector);
std::unique_ptr<Detector> detector_from_bytes(std::span<const std::byte> bytes);

}  // namespace ood
