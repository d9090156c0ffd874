#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <dnnl.hpp>
#include <optional>
#include <random>
#include <unordered_map>

#include "errors.h"
#include "kernels/bfloat16.h"
#include "kernels/bfloat16_panels.h"
#include "kernels/cpu/shapes.h"
#include "kernels/device.h"
#include "kernels/dispatch.h"
#include "kernels/matmul_isa.h"
#include "kernels/panels.h"
#include "ood/kernels.h"
#include "ood/kernels/elements.h"
#include "ood/scratch.h"
#include "single_threaded.h"

namespace ood::kernels {

namespace {

using dnnl::memory;

/// The heights of the products that are made. Rows are cut into the largest ones that fit, the rest
/// is padded. A row gives the same bits in each of them and at each place (checked by the tests for
/// every instruction set), which heights of 1, 8 and 32 do not.
constexpr std::array<Index, 3> kHeights = {kTileRows, 16, 4};

dnnl::engine& engine() {
  static dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

dnnl::stream& stream() {
  thread_local dnnl::stream own(engine());
  return own;
}

/// Rows as a product of some precision reads them: float32, or bfloat16 rows of `depth` entries, which
/// hold those of float32 once or in parts, and zeros up to a multiple of 32, of which oneDNN has a kernel
/// without a remainder.
struct Factor {
  Precision precision;
  Index cols;

  bool rounded() const { return precision != Precision::float32; }
  memory::data_type type() const {
    return rounded() ? memory::data_type::bf16 : memory::data_type::f32;
  }
  std::size_t entry_bytes() const { return rounded() ? sizeof(std::uint16_t) : sizeof(float); }
  Index terms() const { return precision == Precision::bfloat16x3 ? 3 * cols : cols; }
  Index depth() const { return rounded() ? (terms() + 31) / 32 * 32 : cols; }

  /// Writes x, as many rows as it has, to bfloat16 rows: x is [x' x'' x'], and b [b'' b' b'], so that the
  /// small terms come first and are added up before there is a large sum.
  void round(const MatrixView& x, bool is_b, std::uint16_t* out) const {
    const auto rows = static_cast<std::size_t>(x.rows()), d = static_cast<std::size_t>(cols),
               stride = static_cast<std::size_t>(x.outerStride()),
               all = static_cast<std::size_t>(depth()), used = static_cast<std::size_t>(terms());
    if (precision == Precision::bfloat16) {
      to_bfloat16(x.data(), stride, rows, d, out, all);
    } else {
      const std::size_t high = is_b ? d : 0, low = is_b ? 0 : d;
      split_bfloat16(x.data(), stride, rows, d, out + high, out + low, all);
      for (std::size_t i = 0; i < rows; ++i)
        std::copy_n(out + i * all + high, d, out + i * all + 2 * d);
    }
    for (std::size_t i = 0; i < rows; ++i)
      std::fill(out + i * all + used, out + (i + 1) * all, std::uint16_t{0});
  }
};

memory::desc row_major(Index rows, Index cols, memory::data_type type) {
  return {{rows, cols}, type, memory::format_tag::ab};
}

/// Whether there are AMX units, which oneDNN knows how to use and is faster with.
bool has_tiles() {
  const int amx = dnnl_cpu_isa_avx512_core_amx;
  return (dnnl_get_effective_cpu_isa() & amx) == amx;
}

/// b as panels, where oneDNN has laid it out so.
std::optional<Panels> panels_of(const memory& weights) {
  const auto description = weights.get_desc().data;
  const auto& layout = description.format_desc.blocking;
  constexpr auto kWidth = static_cast<dnnl_dim_t>(Panels::kWidth);
  const dnnl_dim_t depth = description.padded_dims[0];
  if (description.format_kind != dnnl_blocked || layout.inner_nblks != 2 ||
      layout.inner_idxs[0] != 0 || layout.inner_idxs[1] != 1 || layout.inner_blks[1] != kWidth ||
      layout.strides[0] != layout.inner_blks[0] * kWidth || layout.strides[1] != depth * kWidth)
    return std::nullopt;
  return Panels{.data = static_cast<const float*>(weights.get_data_handle()),
                .depth = static_cast<std::size_t>(description.dims[0]),
                .padded_depth = static_cast<std::size_t>(depth),
                .cols = static_cast<std::size_t>(description.dims[1]),
                .part = static_cast<std::size_t>(description.dims[0])};
}

}  // namespace

struct PackedMatrix::Impl {
  struct Product {
    memory::desc source, result, scratchpad;
    dnnl::matmul primitive;
  };
  Factor factor;
  std::array<Product, kHeights.size()> products;
  memory weights;
  /// There where panel_product() has the bits of oneDNN, and makes the products in its place.
  std::optional<Panels> panels;
  /// There where bfloat16_product() makes the products, and none of the above is needed.
  std::optional<Bfloat16Panels> bfloat16_panels;

  Impl(const MatrixView& b, Precision precision) : factor{precision, b.cols()} {
    const Index rows = b.rows(), depth = factor.depth();
    const Matrix dense = factor.rounded() ? Matrix() : Matrix(b);  // rows may be strided
    std::vector<std::uint16_t> rounded(factor.rounded() ? static_cast<std::size_t>(rows * depth)
                                                        : 0);
    if (factor.rounded()) factor.round(b, true, rounded.data());
    if (factor.rounded() && !has_tiles() && has_bfloat16_panels()) {
      const auto stride = static_cast<std::size_t>(depth);
      bfloat16_panels.emplace(rounded.data(), stride, static_cast<std::size_t>(rows),
                              static_cast<std::size_t>(factor.terms()));
      return;
    }
    const void* data = factor.rounded() ? static_cast<const void*>(rounded.data()) : dense.data();
    memory plain({{depth, rows}, factor.type(), memory::format_tag::ba}, engine(),
                 const_cast<void*>(data));
    // The layout that the tall product likes best serves the short ones too
    memory::desc layout({depth, rows}, factor.type(), memory::format_tag::any);
    for (std::size_t i = 0; i < kHeights.size(); ++i) {
      dnnl::primitive_attr attributes;
      // The library's own scratchpad gives wrong numbers when threads share one primitive
      attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
      const auto source = row_major(kHeights[i], depth, factor.type()),
                 result = row_major(kHeights[i], rows, memory::data_type::f32);
      const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(source, layout, result),
                                                     attributes, engine());
      layout = description.weights_desc();
      products[i] = {source, result, description.scratchpad_desc(), dnnl::matmul(description)};
    }
    weights = memory(layout, engine());
    dnnl::reorder(plain, weights).execute(stream(), plain, weights);
    stream().wait();
    if (!factor.rounded()) find_panels();
  }

  /// In which parts oneDNN makes its sums is not said anywhere, and may depend on shape and machine: so
  /// it is tried. Where sums are made does not depend on their terms, so that a few rows of random
  /// numbers, whose sums differ in nearly every other order, show for all.
  void find_panels() {
    panels = panels_of(weights);
    if (!panels) return;
    const Index rows = kHeights.back(), depth = products.back().source.dims()[1],
                cols = products.back().result.dims()[1];
    Matrix x(rows, depth), expected(rows, cols), got(rows, cols);
    std::minstd_rand random;
    for (float& entry : x.reshaped()) entry = static_cast<float>(random()) * 0x1p-30f - 1.0f;
    multiply(kHeights.size() - 1, x.data(), expected.data());
    for (const std::size_t part : {std::size_t{512}, std::size_t{1024}, panels->depth}) {
      panels->part = part;
      if (panel_product(x.data(), static_cast<std::size_t>(depth), static_cast<std::size_t>(rows),
                        *panels, got.data()) &&
          std::memcmp(got.data(), expected.data(),
                      static_cast<std::size_t>(got.size()) * sizeof(float)) == 0)
        return;
    }
    panels.reset();
  }

  /// source: rows as `factor` says.
  void multiply(std::size_t height, const void* source, float* result) const {
    const Product& product = products[height];
    Scratch scratch;
    const auto floats = static_cast<Index>(product.scratchpad.get_size() / sizeof(float) + 1);
    memory scratchpad(product.scratchpad, engine(), scratch.matrix(1, floats).data());
    memory in(product.source, engine(), const_cast<void*>(source));
    memory out(product.result, engine(), result);
    product.primitive.execute(stream(), {{DNNL_ARG_SRC, in},
                                         {DNNL_ARG_WEIGHTS, weights},
                                         {DNNL_ARG_DST, out},
                                         {DNNL_ARG_SCRATCHPAD, scratchpad}});
    stream().wait();
  }
};

PackedMatrix::PackedMatrix(const MatrixView& b, Precision precision, For used_by)
    : precision_(available(precision)), wanted_(precision) {
  const SingleThreaded guard;  // the library fixes its blocking when a primitive is made
  rows_ = b.rows();
  cols_ = b.cols();
  if (b.size() == 0) return;
  impl_ = std::make_shared<const Impl>(b, precision_);
  if (used_by == For::devices_too && devices_expected()) plain_ = std::make_shared<const Matrix>(b);
}

bool PackedMatrix::allocates() const {
  return impl_ != nullptr && !impl_->panels && !impl_->bfloat16_panels;
}

void matmul_nt(const MatrixView& x, const PackedMatrix& b, Matrix& out) {
  out.resize(x.rows(), b.rows());
  matmul_nt(x, b, map_of(out));
}

void matmul_nt(const MatrixView& x, const PackedMatrix& b, MatrixMap out) {
  if (x.cols() != b.cols())
    throw_invalid("matmul_nt: x has {} columns, expected {} as b has", x.cols(), b.cols());
  require_shape("matmul_nt", out, x.rows(), b.rows());
  if (DeviceQueue* const queue = device_queue()) {
    if (b.rows() == 0 || x.rows() == 0) return;
    if (b.get() == nullptr) return fill({out.data(), static_cast<std::size_t>(out.size())}, 0.0f);
    if (b.plain() == nullptr)
      throw std::logic_error("matmul_nt: b was packed for the processor, expected devices_too");
    Scratch scratch;
    MatrixView rows = x;
    if (x.outerStride() < x.cols() && x.rows() > 1) {  // they overlap, which cuBLAS does not take
      const MatrixMap apart = scratch.matrix(x.rows(), x.cols());
      copy(x, apart);
      rows = apart;
    }
    return queue->multiply({rows_in(rows), placed(MatrixView(*b.plain())), rows_out(out),
                            available_on_gpus(b.wanted())});
  }
  if (b.get() == nullptr) {  // nothing to add up
    out.setZero();
    return;
  }
  if (const auto& panels = b.get()->panels) {
    panel_product(x.data(), static_cast<std::size_t>(x.outerStride()),
                  static_cast<std::size_t>(x.rows()), *panels, out.data());
    return;
  }
  const Factor& factor = b.get()->factor;
  if (const auto& panels = b.get()->bfloat16_panels) {
    Scratch scratch;
    const auto rows = static_cast<std::size_t>(x.rows()),
               stride = static_cast<std::size_t>(factor.depth());
    auto* const rounded =
        static_cast<std::uint16_t*>(scratch.allocate(rows * stride * sizeof(std::uint16_t)));
    factor.round(x, false, rounded);
    bfloat16_product(rounded, stride, rows, *panels, out.data());
    return;
  }
  const SingleThreaded guard;
  const bool as_it_is = !factor.rounded() && x.outerStride() == x.cols();

  for (Index begin = 0; begin < x.rows();) {
    const Index left = x.rows() - begin;
    const auto fits = static_cast<std::size_t>(
        std::ranges::find_if(kHeights, [&](Index h) { return h <= left; }) - kHeights.begin());
    const std::size_t chosen = std::min(fits, kHeights.size() - 1);
    const Index height = kHeights[chosen], count = std::min(height, left);
    const MatrixView rows = x.middle_rows(begin, count);
    Scratch scratch;
    const void* source = rows.data();
    if (!as_it_is || count < height) {
      const auto row_bytes = static_cast<std::size_t>(factor.depth()) * factor.entry_bytes();
      const auto bytes = static_cast<std::size_t>(height) * row_bytes;
      auto* const copy = static_cast<std::byte*>(scratch.allocate(bytes));
      if (factor.rounded())
        factor.round(rows, false, reinterpret_cast<std::uint16_t*>(copy));
      else
        for (Index i = 0; i < count; ++i)
          std::memcpy(copy + static_cast<std::size_t>(i) * row_bytes, rows.row_data(i), row_bytes);
      const std::size_t used = static_cast<std::size_t>(count) * row_bytes;
      std::memset(copy + used, 0, bytes - used);
      source = copy;
    }
    float* const to = out.data() + begin * out.cols();
    float* const result = count == height ? to : scratch.matrix(height, out.cols()).data();
    b.get()->multiply(chosen, source, result);
    if (result != to) std::copy_n(result, count * out.cols(), to);
    begin += count;
  }
}

Precision available(Precision wanted) {
  ensure_simd_target();
  const int has = dnnl_get_effective_cpu_isa(), needed = dnnl_cpu_isa_avx512_core_bf16;
  // The library may have been in use before OOD_SIMD was applied: both are asked
  const bool units = (has & needed) == needed && simd_target().starts_with("AVX3");
  return units && wanted != Precision::tf32 ? wanted : Precision::float32;
}

Precision available_on_gpus(Precision wanted) {
  return wanted == Precision::bfloat16x3 ? Precision::float32 : wanted;
}

void limit_matmul_isa(std::string_view simd_target) {
  // Too late if the host program used oneDNN first: matmul_backend() tells what is in use
  if (simd_target.starts_with("AVX3")) return;
  dnnl_set_max_cpu_isa(simd_target == "AVX2" ? dnnl_cpu_isa_avx2 : dnnl_cpu_isa_sse41);
}

std::string matmul_backend() {
  ensure_simd_target();
  const std::unordered_map<int, std::string> names = {
      {dnnl_cpu_isa_sse41, "SSE4.1"},
      {dnnl_cpu_isa_avx, "AVX"},
      {dnnl_cpu_isa_avx2, "AVX2"},
      {dnnl_cpu_isa_avx512_core, "AVX-512"},
      {dnnl_cpu_isa_avx512_core_vnni, "AVX-512 VNNI"},
      {dnnl_cpu_isa_avx512_core_bf16, "AVX-512 BF16"},
      {dnnl_cpu_isa_avx512_core_amx, "AMX"}};
  const auto found = names.find(dnnl_get_effective_cpu_isa());
  const auto* version = dnnl_version();
  return fmt::format("oneDNN {}.{}.{} ({})", version->major, version->minor, version->patch,
                     found == names.end() ? "another instruction set" : found->second);
}

}  // namespace ood::kernels
