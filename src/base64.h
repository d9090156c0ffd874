/// Base64 (RFC 4648, section 4), the strict kind: padded, nothing but the alphabet.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ood {

inline constexpr std::string_view kBase64 =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

inline std::string to_base64(std::span<const std::byte> bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    unsigned word = 0;
    for (std::size_t k = i; k < i + 3; ++k)
      word = word << 8 | (k < bytes.size() ? std::to_integer<unsigned>(bytes[k]) : 0);
    for (int shift = 18; shift >= 0; shift -= 6) text += kBase64[word >> shift & 63];
    for (std::size_t k = bytes.size(); k < i + 3; ++k) text[text.size() - (i + 3 - k)] = '=';
  }
  return text;
}

/// Nothing for text that to_base64() does not write.
inline std::optional<std::vector<std::byte>> from_base64(std::string_view text) {
  if (text.size() % 4 != 0) return {};
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  std::vector<std::byte> bytes;
  bytes.reserve(text.size() / 4 * 3);
  for (std::size_t i = 0; i < text.size(); i += 4) {
    const std::size_t letters = i + 4 == text.size() ? 4 - padding : 4;
    unsigned word = 0;
    for (std::size_t k = 0; k < 4; ++k) {
      const std::size_t value = k < letters ? kBase64.find(text[i + k]) : 0;
      if (value == std::string_view::npos) return {};
      word = word << 6 | static_cast<unsigned>(value);
    }
    for (std::size_t k = 0; k < 3; ++k) {
      const std::byte byte{static_cast<unsigned char>(word >> (16 - 8 * k) & 0xff)};
      if (k + 1 < letters)
        bytes.push_back(byte);
      else if (byte != std::byte{0})
        return {};
    }
  }
  return bytes;
}

}  // namespace ood
