#include "checksum.h"

#include <fmt/format.h>
#define XXH_INLINE_ALL  // nothing to link
#include <xxhash.h>

#include <fstream>
#include <stdexcept>
#include <vector>

namespace ood {

struct Checksum::State {
  XXH3_state_t hash;
};

Checksum::Checksum() : state_(std::make_unique<State>()) {
  XXH3_INITSTATE(&state_->hash);
  XXH3_128bits_reset(&state_->hash);
}
Checksum::~Checksum() = default;

void Checksum::add(const void* bytes, std::size_t count) {
  XXH3_128bits_update(&state_->hash, bytes, count);
}

std::string Checksum::text() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(&state_->hash);
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

std::string checksum(const std::filesystem::path& path, std::int64_t begin) {
  const auto fail = [&](const char* what) {
    throw std::runtime_error(fmt::format("{}: {}", path.string(), what));
  };
  std::ifstream file(path, std::ios::binary);
  if (!file.seekg(begin)) fail("cannot be opened");
  Checksum sum;
  std::vector<char> block(std::size_t{1} << 20);
  while (file) {
    file.read(block.data(), std::ssize(block));
    sum.add(block.data(), static_cast<std::size_t>(file.gcount()));
  }
  if (!file.eof()) fail("cannot be read");
  return sum.text();
}

}  // namespace ood
