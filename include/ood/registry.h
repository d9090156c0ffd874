/// Detectors by name, at run time; make_detector() is in ood/detector.h.
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

/// A fitted detector as bytes, and back with the same bits. std::logic_error if it is not fitted;
/// std::invalid_argument for bytes that hold no detector.
std::vector<std::byte> to_bytes(const Detector& detector);
std::unique_ptr<Detector> detector_from_bytes(std::span<const std::byte> bytes);

}  // namespace ood
