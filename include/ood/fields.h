/// The one piece of reflection: options and fitted state by name.
#pragma once

#include <cstddef>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "ood/matrix.h"

namespace ood {

/// The values that a numeric option may have.
struct Range {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool open_min = false;        ///< min itself is not allowed
  std::vector<double> sweep{};  ///< values worth trying, as published

  static Range at_least(double min) { return {.min = min}; }
  static Range above(double min) { return {.min = min, .open_min = true}; }

  /// The same range with values worth trying.
  Range swept(std::vector<double> values) const {
    Range range = *this;
    range.sweep = std::move(values);
    return range;
  }

  bool contains(double value) const;  ///< finite and within
  std::string text() const;           ///< "a number above 0", as error messages say it
};

/// A detector or accumulator shows each of its fields to a visitor; that replaces hand-kept lists
/// for command-line flags, keywords, saving and loading. A visitor may read or change what it is
/// shown.
class FieldVisitor {
 public:
  virtual ~FieldVisitor() = default;

  /// Asked before an option is shown that files of earlier versions lack. False: it keeps its default.
  virtual bool has_option(std::string_view /*name*/) const { return true; }

  // Options: what a user sets before fitting.
  virtual void option(std::string_view, bool&, std::string_view /*help*/) {}
  virtual void option(std::string_view, Index&, const Range&, std::string_view /*help*/) {}
  virtual void option(std::string_view, double&, const Range&, std::string_view /*help*/) {}
  /// A list of numbers, each in the range; may be empty.
  virtual void option(std::string_view, std::vector<double>&, const Range&,
                      std::string_view /*help*/) {}
  virtual void option(std::string_view, std::string&, std::string_view /*help*/) {}
  /// One of several names; `chosen` is an index into `names`.
  virtual void option_choice(std::string_view, Index& /*chosen*/,
                             std::span<const std::string_view> /*names*/,
                             std::string_view /*help*/) {}

  /// An enumeration whose values 0, 1, ... are called names[0], names[1], ...
  template <class Enum>
  requires std::is_enum_v<Enum>
  void option(std::string_view name, Enum& value, std::span<const std::string_view> names,
              std::string_view help) {
    auto chosen = static_cast<Index>(value);
    option_choice(name, chosen, names, help);
    value = static_cast<Enum>(chosen);
  }

  // State: what fitting found.
  virtual void state(std::string_view, Index&) {}
  virtual void state(std::string_view, double&) {}
  virtual void state(std::string_view, std::string&) {}
  virtual void state(std::string_view, Matrix&) {}
  virtual void state(std::string_view, MatrixD&) {}
  virtual void state(std::string_view, Vector&) {}
  virtual void state(std::string_view, VectorD&) {}
  virtual void state(std::string_view, std::vector<Index>&) {}
};

using OptionValue = std::variant<bool, Index, double, std::string, std::vector<double>>;
using OptionMap = std::map<std::string, OptionValue>;

/// One option as it stands.
struct OptionInfo {
  std::string name;
  OptionValue value;
  std::string expected;  ///< "a whole number, 1 or more"
  std::string help;
  std::vector<OptionValue> sweep{};  ///< values worth trying; every one of a choice
};

/// "0.5", "pooled"; a list as "0.2,0.8". Setting an option to this text gives the same value.
std::string to_text(const OptionValue& value);

}  // namespace ood
