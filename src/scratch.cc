#include "ood/scratch.h"

#include <algorithm>
#include <memory>
#include <new>
#include <stdexcept>
#include <vector>

namespace ood {

namespace {

constexpr std::size_t kAlignment = 64, kLeastChunk = std::size_t{1} << 16;

struct Free {
  void operator()(std::byte* memory) const {
    ::operator delete (memory, std::align_val_t{kAlignment});
  }
};

struct Chunk {
  explicit Chunk(std::size_t bytes)
      : memory(static_cast<std::byte*>(::operator new (bytes, std::align_val_t{kAlignment}))),
        size(bytes) {}
  std::unique_ptr<std::byte, Free> memory;
  std::size_t size;
};

/// What a thread has, and how much of it is taken: all chunks before `chunk`, and `used` bytes of it.
struct Arena {
  std::vector<Chunk> chunks;
  std::size_t chunk = 0, used = 0;
  std::size_t wanted = 0;  // of the next first chunk
  Scratch* innermost = nullptr;
};

Arena& arena() {
  thread_local Arena own;
  return own;
}

}  // namespace

Scratch::Scratch() : outer_(arena().innermost), chunk_(arena().chunk), used_(arena().used) {
  arena().innermost = this;
}

Scratch::~Scratch() {
  Arena& own = arena();
  own.innermost = outer_;
  own.chunk = chunk_;
  own.used = used_;
  if (chunk_ > 0 || used_ > 0 || own.chunks.size() < 2) return;
  // nothing is taken: one chunk next time, which has room for all
  for (const Chunk& chunk : own.chunks) own.wanted += chunk.size;
  own.chunks.clear();
}

void* Scratch::do_allocate(std::size_t bytes, std::size_t /*alignment*/) {
  Arena& own = arena();
  if (own.innermost != this)
    throw std::logic_error("Scratch: one within it is in use, expected the innermost");
  const std::size_t size = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  while (own.chunk < own.chunks.size() && own.chunks[own.chunk].size - own.used < size) {
    ++own.chunk;
    own.used = 0;
  }
  if (own.chunk == own.chunks.size()) {
    own.chunks.emplace_back(std::max({size, kLeastChunk, own.wanted}));
    own.wanted = 0;
  }
  std::byte* const taken = own.chunks[own.chunk].memory.get() + own.used;
  own.used += size;
  return taken;
}

}  // namespace ood
