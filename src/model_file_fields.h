/// The fields of a model file: an array for each, by name, in an HDF5 group. What is read was checked against
/// the size of the file before memory was taken for it.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "hdf5_object.h"
#include "ood/fields.h"

namespace ood {

/// The two groups that a visitor of a detector writes to or reads from: options go to the one, state to
/// the other. Call within a hdf5::Section.
struct FieldGroups {
  hdf5::Object options;  ///< no group, for what has none
  hdf5::Object state;
};

/// Writes every field that it is shown. errors std::runtime_error
class FieldFileWriter final : public FieldVisitor {
 public:
  explicit FieldFileWriter(const FieldGroups& groups) : groups_(groups) {}

  void option(std::string_view name, bool& value, std::string_view) override;
  void option(std::string_view name, Index& value, const Range&, std::string_view) override;
  void option(std::string_view name, double& value, const Range&, std::string_view) override;
  void option(std::string_view name, std::vector<double>& value, const Range&,
              std::string_view) override;
  void option(std::string_view name, std::string& value, std::string_view) override;
  void option_choice(std::string_view name, Index& chosen, std::span<const std::string_view> names,
                     std::string_view) override;
  void state(std::string_view name, Index& value) override;
  void state(std::string_view name, double& value) override;
  void state(std::string_view name, std::string& value) override;
  void state(std::string_view name, Matrix& value) override;
  void state(std::string_view name, MatrixD& value) override;
  void state(std::string_view name, Vector& value) override;
  void state(std::string_view name, VectorD& value) override;
  void state(std::string_view name, std::vector<Index>& value) override;

 private:
  const FieldGroups& groups_;
};

/// Reads every field that it is shown. errors std::invalid_argument: a field that is not there, or of another
/// type or shape, or not stored plainly in this file. std::runtime_error: HDF5 cannot read it.
class FieldFileReader final : public FieldVisitor {
 public:
  /// budget: the bytes that all fields together may have.
  FieldFileReader(const FieldGroups& groups, std::int64_t& budget)
      : groups_(groups), budget_(budget) {}

  bool has_option(std::string_view name) const override;
  void option(std::string_view name, bool& value, std::string_view) override;
  void option(std::string_view name, Index& value, const Range&, std::string_view) override;
  void option(std::string_view name, double& value, const Range&, std::string_view) override;
  void option(std::string_view name, std::vector<double>& value, const Range&,
              std::string_view) override;
  void option(std::string_view name, std::string& value, std::string_view) override;
  void option_choice(std::string_view name, Index& chosen, std::span<const std::string_view> names,
                     std::string_view) override;
  void state(std::string_view name, Index& value) override;
  void state(std::string_view name, double& value) override;
  void state(std::string_view name, std::string& value) override;
  void state(std::string_view name, Matrix& value) override;
  void state(std::string_view name, MatrixD& value) override;
  void state(std::string_view name, Vector& value) override;
  void state(std::string_view name, VectorD& value) override;
  void state(std::string_view name, std::vector<Index>& value) override;

  /// Throws std::invalid_argument if the groups hold what nobody asked for.
  void finish() const;

 private:
  hdf5::Object open(const hdf5::Object& group, std::set<std::string>& seen, std::string_view name);
  const FieldGroups& groups_;
  std::int64_t& budget_;
  std::set<std::string> seen_options_, seen_state_;
};

}  // namespace ood
