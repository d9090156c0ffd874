/// Detectors and accumulators to bytes and back, in memory: for workers, pickles, copies.
/// Little-endian; each field with its name, type and shape, so that a mix-up is an error.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "ood/fields.h"

namespace ood {

/// Appends every field that it is shown, options and state.
class ByteWriter final : public FieldVisitor {
 public:
  std::vector<std::byte> bytes;

  void option(std::string_view name, bool& value, std::string_view) override;
  void option(std::string_view name, Index& value, const Range&, std::string_view) override;
  void option(std::string_view name, double& value, const Range&, std::string_view) override;
  void option(std::string_view name, std::vector<double>& value, const Range&,
              std::string_view) override;
  void option(std::string_view name, std::string& value, std::string_view) override;
  void option_choice(std::string_view name, Index& chosen, std::span<const std::string_view>,
                     std::string_view) override;
  void state(std::string_view name, Index& value) override;
  void state(std::string_view name, double& value) override;
  void state(std::string_view name, std::string& value) override;
  void state(std::string_view name, Matrix& value) override;
  void state(std::string_view name, MatrixD& value) override;
  void state(std::string_view name, Vector& value) override;
  void state(std::string_view name, VectorD& value) override;
  void state(std::string_view name, std::vector<Index>& value) override;

  void string(std::string_view text);

 private:
  template <class T>
  void scalar(const T& value);
  template <class T>
  void array(std::string_view name, const T* data, Index rows, Index cols);
};

/// Reads back what a ByteWriter wrote, field by field. Throws std::invalid_argument if the bytes
/// end too early or hold another field than expected; allocates nothing before the size was
/// checked.
class ByteReader final : public FieldVisitor {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  void option(std::string_view name, bool& value, std::string_view) override;
  void option(std::string_view name, Index& value, const Range&, std::string_view) override;
  void option(std::string_view name, double& value, const Range&, std::string_view) override;
  void option(std::string_view name, std::vector<double>& value, const Range&,
              std::string_view) override;
  void option(std::string_view name, std::string& value, std::string_view) override;
  void option_choice(std::string_view name, Index& chosen, std::span<const std::string_view>,
                     std::string_view) override;
  void state(std::string_view name, Index& value) override;
  void state(std::string_view name, double& value) override;
  void state(std::string_view name, std::string& value) override;
  void state(std::string_view name, Matrix& value) override;
  void state(std::string_view name, MatrixD& value) override;
  void state(std::string_view name, Vector& value) override;
  void state(std::string_view name, VectorD& value) override;
  void state(std::string_view name, std::vector<Index>& value) override;

  std::string string();
  /// Throws std::invalid_argument if bytes are left over.
  void finish() const;

 private:
  std::span<const std::byte> take(std::size_t count);
  template <class T>
  T scalar();
  template <class T, class Resize>
  void array(std::string_view name, const Resize& resize);
  std::span<const std::byte> bytes_;
};

/// For anything with visit(FieldVisitor&), such as an accumulator. Detectors: see ood/registry.h.
template <class T>
std::vector<std::byte> fields_to_bytes(const T& value) {
  ByteWriter writer;
  const_cast<T&>(value).visit(writer);  // the writer changes nothing
  return std::move(writer.bytes);
}

template <class T>
T fields_from_bytes(std::span<const std::byte> bytes) {
  T value;
  ByteReader reader(bytes);
  value.visit(reader);
  reader.finish();
  return value;
}

}  // namespace ood
