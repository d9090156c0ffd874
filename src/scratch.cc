#include "ood/scratch.h"

#include <algorithm>
#include <new>
#include <stdexcept>

#include "scratch_arena.h"

namespace ood {

namespace {

constexpr std::size_t kLeastChunk = std::size_t{1} << 16;

ScratchArena& own_arena() {
  thread_local ScratchArena own(std::pmr::new_delete_resource());
  return own;
}

thread_local ScratchArena* in_use = nullptr;

ScratchArena& arena_in_use() { return in_use ? *in_use : own_arena(); }

}  // namespace

bool ScratchArena::holds(const void* pointer) const {
  const auto* const byte = static_cast<const std::byte*>(pointer);
  return std::ranges::any_of(chunks_, [&](const Chunk& chunk) {
    return byte >= chunk.memory && byte < chunk.memory + chunk.size;
  });
}

void ScratchArena::clear() {
  for (const Chunk& chunk : chunks_) memory_->deallocate(chunk.memory, chunk.size, kAlignment);
  chunks_.clear();
}

ArenaScope::ArenaScope(ScratchArena& arena) : outer_(in_use) { in_use = &arena; }
ArenaScope::~ArenaScope() { in_use = outer_; }

Scratch::Scratch()
    : arena_(arena_in_use()),
      outer_(arena_.innermost_),
      chunk_(arena_.chunk_),
      used_(arena_.used_) {
  arena_.innermost_ = this;
}

Scratch::~Scratch() {
  arena_.innermost_ = outer_;
  arena_.chunk_ = chunk_;
  arena_.used_ = used_;
  if (chunk_ > 0 || used_ > 0 || arena_.chunks_.size() < 2) return;
  // nothing is taken: one chunk next time, which has room for all
  if (!arena_.merges_) return;
  for (const auto& chunk : arena_.chunks_) arena_.wanted_ += chunk.size;
  arena_.clear();
}

void* Scratch::do_allocate(std::size_t bytes, std::size_t /*alignment*/) {
  if (arena_.innermost_ != this)
    throw std::logic_error("Scratch: one within it is in use, expected the innermost");
  constexpr std::size_t kAlignment = ScratchArena::kAlignment;
  const std::size_t size = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  auto& chunks = arena_.chunks_;
  while (arena_.chunk_ < chunks.size() && chunks[arena_.chunk_].size - arena_.used_ < size) {
    ++arena_.chunk_;
    arena_.used_ = 0;
  }
  if (arena_.chunk_ == chunks.size()) {
    const std::size_t room = std::max({size, kLeastChunk, arena_.wanted_});
    chunks.reserve(chunks.size() + 1);  // so that nothing is lost between the two
    chunks.push_back({static_cast<std::byte*>(arena_.memory_->allocate(room, kAlignment)), room});
    arena_.wanted_ = 0;
  }
  std::byte* const taken = chunks[arena_.chunk_].memory + arena_.used_;
  arena_.used_ += size;
  return taken;
}

}  // namespace ood
