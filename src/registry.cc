#include "ood/registry.h"

#include <fmt/ranges.h>

#include "errors.h"
#include "ood/detectors.h"
#include "ood/serialize.h"

namespace ood {

std::vector<std::string> detector_names() {
  std::vector<std::string> names;
  for_each_type(Detectors{}, [&]<class T>() { names.emplace_back(T::kName); });
  return names;
}

std::unique_ptr<Detector> make_detector(std::string_view name, const OptionMap& options) {
  std::unique_ptr<Detector> detector;
  for_each_type(Detectors{}, [&]<class T>() {
    if (name == T::kName) detector = std::make_unique<T>();
  });
  if (!detector)
    throw_invalid("unknown detector {}, expected one of {}", name,
                  fmt::join(detector_names(), ", "));
  detector->set_options(options);
  return detector;
}

std::vector<std::byte> to_bytes(const Detector& detector) {
  if (!detector.fitted())
    throw std::logic_error(
        fmt::format("{}: not fitted, expected fit before saving", detector.name()));
  ByteWriter writer;
  writer.string(detector.name());
  const_cast<Detector&>(detector).visit_all(writer);  // the writer changes nothing
  return std::move(writer.bytes);
}

std::unique_ptr<Detector> detector_from_bytes(std::span<const std::byte> bytes) {
  ByteReader reader(bytes);
  auto detector = make_detector(reader.string());
  detector->visit_all(reader);
  reader.finish();
  detector->finish_loading();
  return detector;
}

}  // namespace ood
