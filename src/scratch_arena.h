/// Where the memory of Scratch comes from.
#pragma once

#include <cstddef>
#include <memory_resource>
#include <vector>

#include "ood/scratch.h"

namespace ood {

/// What scratches take, and how much of it is taken: all chunks before `chunk`, and `used` bytes of it.
class ScratchArena {
 public:
  static constexpr std::size_t kAlignment = 64;

  /// `memory` must outlive the arena. Whether it `merges`: memory that was too small for what was taken is
  /// given back once nothing is taken, for one chunk that has room for all.
  explicit ScratchArena(std::pmr::memory_resource* memory, bool merges = true)
      : memory_(memory), merges_(merges) {}
  ~ScratchArena() { clear(); }
  ScratchArena(const ScratchArena&) = delete;
  ScratchArena& operator=(const ScratchArena&) = delete;

  bool holds(const void* pointer) const;
  /// Gives all memory back. Nothing may be taken.
  void clear();

 private:
  friend class Scratch;
  struct Chunk {
    std::byte* memory;
    std::size_t size;
  };
  std::pmr::memory_resource* memory_;
  bool merges_;
  std::vector<Chunk> chunks_;
  std::size_t chunk_ = 0, used_ = 0;
  std::size_t wanted_ = 0;  // of the next first chunk
  Scratch* innermost_ = nullptr;
};

/// While it lives, scratches of the calling thread take from `arena`.
class ArenaScope {
 public:
  explicit ArenaScope(ScratchArena& arena);
  ~ArenaScope();
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  ScratchArena* outer_;
};

}  // namespace ood
