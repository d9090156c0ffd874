/// What the machine can do at best, by code that is not ours.
#pragma once

#include <dnnl.hpp>

#include <cstring>
#include <vector>

#include "ood/exec.h"
#include "ood/matrix.h"

namespace ood::bench {

/// Reads memory once, each thread a part of it, and does nothing else: the C library looks for a byte
/// that is not there, with the widest vectors that the machine has.
class StreamRead {
 public:
  explicit StreamRead(Index floats)
      : bytes_(static_cast<std::size_t>(floats) * sizeof(float), '\1') {}

  /// True if it found the byte, which it cannot.
  bool operator()(const Exec& exec) const {
    constexpr std::size_t kPart = std::size_t{1} << 20;
    const auto parts = static_cast<Index>((bytes_.size() + kPart - 1) / kPart);
    std::vector<char> found(static_cast<std::size_t>(parts));
    parallel_for(parts, exec, [&](Index part) {
      const std::size_t first = static_cast<std::size_t>(part) * kPart;
      found[static_cast<std::size_t>(part)] =
          std::memchr(bytes_.data() + first, '\2', std::min(kPart, bytes_.size() - first)) !=
          nullptr;
    });
    return std::ranges::find(found, 1) != found.end();
  }
  std::size_t bytes() const { return bytes_.size(); }

 private:
  std::vector<char> bytes_;
};

/// x [n, D] by b [C, D] transposed, by oneDNN in one call: how many threads it takes is OpenMP's affair.
inline void sgemm_nt(const Matrix& x, const Matrix& b, Matrix& out) {
  out.resize(x.rows(), b.rows());
  dnnl_sgemm('N', 'T', x.rows(), b.rows(), x.cols(), 1.0f, x.data(), x.cols(), b.data(), b.cols(),
             0.0f, out.data(), out.cols());
}

/// X^T X, [D, D], of rows x [n, D].
inline void sgemm_gram(const Matrix& x, Matrix& out) {
  out.resize(x.cols(), x.cols());
  dnnl_sgemm('T', 'N', x.cols(), x.cols(), x.rows(), 1.0f, x.data(), x.cols(), x.data(), x.cols(),
             0.0f, out.data(), out.cols());
}

}  // namespace ood::bench
