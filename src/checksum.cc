#include "checksum.h"

#include <fmt/format.h>
#define XXH_INLINE_ALL  // nothing to link
#include <xxhash.h>

#include <fstream>
#include <memory>
#include <stdexcept>
#include <vector>

namespace ood {

std::string checksum(const std::filesystem::path& path, std::int64_t begin) {
  const auto fail = [&](const char* what) {
    throw std::runtime_error(fmt::format("{}: {}", path.string(), what));
  };
  std::ifstream file(path, std::ios::binary);
  if (!file.seekg(begin)) fail("cannot be opened");
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                       XXH3_freeState);
  if (state == nullptr) throw std::bad_alloc();
  XXH3_128bits_reset(state.get());
  std::vector<char> block(std::size_t{1} << 20);
  while (file) {
    file.read(block.data(), std::ssize(block));
    XXH3_128bits_update(state.get(), block.data(), static_cast<std::size_t>(file.gcount()));
  }
  if (!file.eof()) fail("cannot be read");
  const XXH128_hash_t hash = XXH3_128bits_digest(state.get());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace ood
