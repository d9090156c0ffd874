#include "ood/serialize.h"

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>

#include "errors.h"

namespace ood {

static_assert(std::endian::native == std::endian::little,
              "bytes are written as they lie in memory");

namespace {

template <class T>
constexpr std::uint8_t kType = 0;
template <>
constexpr std::uint8_t kType<float> = 1;
template <>
constexpr std::uint8_t kType<double> = 2;
template <>
constexpr std::uint8_t kType<Index> = 3;
template <>
constexpr std::uint8_t kType<std::uint8_t> = 4;

}  // namespace

template <class T>
void ByteWriter::scalar(const T& value) {
  const auto* data = reinterpret_cast<const std::byte*>(&value);
  bytes.insert(bytes.end(), data, data + sizeof(T));
}

void ByteWriter::string(std::string_view text) {
  scalar(static_cast<std::uint32_t>(text.size()));
  const auto* data = reinterpret_cast<const std::byte*>(text.data());
  bytes.insert(bytes.end(), data, data + text.size());
}

template <class T>
void ByteWriter::array(std::string_view name, const T* values, Index rows, Index cols) {
  string(name);
  scalar(kType<T>);
  scalar(rows);
  scalar(cols);
  const auto* data = reinterpret_cast<const std::byte*>(values);
  bytes.insert(bytes.end(), data, data + static_cast<std::size_t>(rows * cols) * sizeof(T));
}

void ByteWriter::option(std::string_view name, bool& value, std::string_view) {
  const auto byte = static_cast<std::uint8_t>(value);
  array(name, &byte, 1, 1);
}
void ByteWriter::option(std::string_view name, Index& value, const Range&, std::string_view) {
  array(name, &value, 1, 1);
}
void ByteWriter::option(std::string_view name, double& value, const Range&, std::string_view) {
  array(name, &value, 1, 1);
}
void ByteWriter::option(std::string_view name, std::vector<double>& value, const Range&,
                        std::string_view) {
  array(name, value.data(), std::ssize(value), 1);
}
void ByteWriter::option(std::string_view name, std::string& value, std::string_view) {
  state(name, value);
}
void ByteWriter::option_choice(std::string_view name, Index& chosen,
                               std::span<const std::string_view>, std::string_view) {
  array(name, &chosen, 1, 1);
}
void ByteWriter::state(std::string_view name, Index& value) { array(name, &value, 1, 1); }
void ByteWriter::state(std::string_view name, double& value) { array(name, &value, 1, 1); }
void ByteWriter::state(std::string_view name, std::string& value) {
  array(name, reinterpret_cast<const std::uint8_t*>(value.data()), std::ssize(value), 1);
}
void ByteWriter::state(std::string_view name, Matrix& value) {
  array(name, value.data(), value.rows(), value.cols());
}
void ByteWriter::state(std::string_view name, MatrixD& value) {
  array(name, value.data(), value.rows(), value.cols());
}
void ByteWriter::state(std::string_view name, Vector& value) {
  array(name, value.data(), value.size(), 1);
}
void ByteWriter::state(std::string_view name, VectorD& value) {
  array(name, value.data(), value.size(), 1);
}
void ByteWriter::state(std::string_view name, std::vector<Index>& value) {
  array(name, value.data(), std::ssize(value), 1);
}

std::span<const std::byte> ByteReader::take(std::size_t count) {
  if (count > bytes_.size())
    throw_invalid("serialized bytes: {} left, expected {} or more", bytes_.size(), count);
  const auto taken = bytes_.first(count);
  bytes_ = bytes_.subspan(count);
  return taken;
}

template <class T>
T ByteReader::scalar() {
  T value;
  std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
  return value;
}

std::string ByteReader::string() {
  const auto text = take(scalar<std::uint32_t>());
  return {reinterpret_cast<const char*>(text.data()), text.size()};
}

template <class T, class Resize>
void ByteReader::array(std::string_view name, const Resize& resize) {
  if (const std::string got = string(); got != name)
    throw_invalid("serialized bytes: field is {}, expected {}", got, name);
  if (const auto type = scalar<std::uint8_t>(); type != kType<T>)
    throw_invalid("serialized bytes: {} has type {}, expected {}", name, type, kType<T>);
  const auto rows = scalar<Index>(), cols = scalar<Index>();
  const auto limit = static_cast<Index>(bytes_.size() / sizeof(T));
  if (rows < 0 || cols < 0 || (rows > 0 && cols > limit / rows))
    throw_invalid("serialized bytes: {} has shape {} x {}, more than the bytes hold", name, rows,
                  cols);
  const auto data = take(static_cast<std::size_t>(rows * cols) * sizeof(T));
  T* to = resize(rows, cols);
  if (!data.empty()) std::memcpy(to, data.data(), data.size());
}

namespace {

void require_shape(std::string_view name, Index rows, Index cols, Index want_cols, bool one_row) {
  if (cols != want_cols || (one_row && rows != 1))
    throw_invalid("serialized bytes: {} has shape {} x {}, expected {} x {}", name, rows, cols,
                  one_row ? "1" : "any", want_cols);
}

/// Where a single value goes.
template <class T>
auto single(std::string_view name, T& value) {
  return [name, &value](Index rows, Index cols) {
    require_shape(name, rows, cols, 1, true);
    return &value;
  };
}

/// Where a list goes.
template <class T>
auto column(std::string_view name, std::vector<T>& values) {
  return [name, &values](Index rows, Index cols) {
    require_shape(name, rows, cols, 1, false);
    values.resize(static_cast<std::size_t>(rows));
    return values.data();
  };
}

}  // namespace

void ByteReader::option(std::string_view name, bool& value, std::string_view) {
  std::uint8_t byte = 0;
  array<std::uint8_t>(name, single(name, byte));
  value = byte != 0;
}
void ByteReader::option(std::string_view name, Index& value, const Range&, std::string_view) {
  array<Index>(name, single(name, value));
}
void ByteReader::option(std::string_view name, double& value, const Range&, std::string_view) {
  array<double>(name, single(name, value));
}
void ByteReader::option(std::string_view name, std::vector<double>& value, const Range&,
                        std::string_view) {
  array<double>(name, column(name, value));
}
void ByteReader::option(std::string_view name, std::string& value, std::string_view) {
  state(name, value);
}
void ByteReader::option_choice(std::string_view name, Index& chosen,
                               std::span<const std::string_view> names, std::string_view) {
  array<Index>(name, single(name, chosen));
  if (chosen < 0 || chosen >= std::ssize(names))
    throw_invalid("serialized bytes: {} has {}, expected [0, {})", name, chosen, names.size());
}
void ByteReader::state(std::string_view name, Index& value) {
  array<Index>(name, single(name, value));
}
void ByteReader::state(std::string_view name, double& value) {
  array<double>(name, single(name, value));
}
void ByteReader::state(std::string_view name, std::string& value) {
  array<std::uint8_t>(name, [&](Index rows, Index cols) {
    require_shape(name, rows, cols, 1, false);
    value.resize(static_cast<std::size_t>(rows));
    return reinterpret_cast<std::uint8_t*>(value.data());
  });
}
void ByteReader::state(std::string_view name, Matrix& value) {
  array<float>(name, [&](Index rows, Index cols) {
    value.resize(rows, cols);
    return value.data();
  });
}
void ByteReader::state(std::string_view name, MatrixD& value) {
  array<double>(name, [&](Index rows, Index cols) {
    value.resize(rows, cols);
    return value.data();
  });
}
void ByteReader::state(std::string_view name, Vector& value) {
  array<float>(name, [&](Index rows, Index cols) {
    require_shape(name, rows, cols, 1, false);
    value.resize(rows);
    return value.data();
  });
}
void ByteReader::state(std::string_view name, VectorD& value) {
  array<double>(name, [&](Index rows, Index cols) {
    require_shape(name, rows, cols, 1, false);
    value.resize(rows);
    return value.data();
  });
}
void ByteReader::state(std::string_view name, std::vector<Index>& value) {
  array<Index>(name, column(name, value));
}

void ByteReader::finish() const {
  if (!bytes_.empty()) throw_invalid("serialized bytes: {} left over, expected 0", bytes_.size());
}

}  // namespace ood
