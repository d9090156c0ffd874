/// What `ood gate` is told, by flags and by a file of the same names.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ood/exec.h"

namespace ood::cli {

struct GateSettings {
  std::vector<std::string> requirements;  // --require
  std::vector<std::string> detectors;     // --detector
  std::vector<std::string> options;       // --param
  std::string baseline, junit, summary;   // "" where there is none
  std::optional<double> max_drop;
  bool same_rows = false;
  std::optional<int> threads;
  std::optional<Device> device;
};

/// Of a TOML or JSON file, told by its ending. Relative paths in it are relative to it. Throws
/// std::runtime_error for a file that cannot be read; std::invalid_argument for one of another form, and
/// for keys and values that no flag has.
GateSettings read_gate_settings(const std::string& path);

/// Lists one after the other, the file's first, so that a flag adds to them; of the rest, the flags win.
GateSettings merged(GateSettings file, const GateSettings& flags);

}  // namespace ood::cli
