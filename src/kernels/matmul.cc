#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <dnnl.hpp>
#include <unordered_map>

#include "errors.h"
#include "kernels/dispatch.h"
#include "kernels/matmul_isa.h"
#include "ood/kernels.h"
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

memory::desc row_major(Index rows, Index cols) {
  return {{rows, cols}, memory::data_type::f32, memory::format_tag::ab};
}

/// Grows, never shrinks: no allocation after warm-up.
float* scratch(std::vector<float>& buffer, Index size) {
  if (std::ssize(buffer) < size) buffer.resize(static_cast<std::size_t>(size));
  return buffer.data();
}

}  // namespace

struct PackedMatrix::Impl {
  struct Product {
    memory::desc source, result, scratchpad;
    dnnl::matmul primitive;
  };
  std::array<Product, kHeights.size()> products;
  memory weights;

  explicit Impl(const MatrixView& b) {
    const Index rows = b.rows(), cols = b.cols();
    const Matrix dense = b;  // rows may be strided
    memory plain({{cols, rows}, memory::data_type::f32, memory::format_tag::ba}, engine(),
                 const_cast<float*>(dense.data()));
    // The layout that the tall product likes best serves the short ones too
    memory::desc layout({cols, rows}, memory::data_type::f32, memory::format_tag::any);
    for (std::size_t i = 0; i < kHeights.size(); ++i) {
      dnnl::primitive_attr attributes;
      // The library's own scratchpad gives wrong numbers when threads share one primitive
      attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
      const auto source = row_major(kHeights[i], cols), result = row_major(kHeights[i], rows);
      const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(source, layout, result),
                                                     attributes, engine());
      layout = description.weights_desc();
      products[i] = {source, result, description.scratchpad_desc(), dnnl::matmul(description)};
    }
    weights = memory(layout, engine());
    dnnl::reorder(plain, weights).execute(stream(), plain, weights);
    stream().wait();
  }

  void multiply(std::size_t height, const float* source, float* result) const {
    thread_local std::vector<float> scratchpad_buffer;
    const Product& product = products[height];
    const auto floats = static_cast<Index>(product.scratchpad.get_size() / sizeof(float) + 1);
    memory scratchpad(product.scratchpad, engine(), scratch(scratchpad_buffer, floats));
    memory in(product.source, engine(), const_cast<float*>(source));
    memory out(product.result, engine(), result);
    product.primitive.execute(stream(), {{DNNL_ARG_SRC, in},
                                         {DNNL_ARG_WEIGHTS, weights},
                                         {DNNL_ARG_DST, out},
                                         {DNNL_ARG_SCRATCHPAD, scratchpad}});
    stream().wait();
  }
};

PackedMatrix::PackedMatrix(const MatrixView& b) {
  ensure_simd_target();
  const SingleThreaded guard;  // the library fixes its blocking when a primitive is made
  rows_ = b.rows();
  cols_ = b.cols();
  if (b.size() > 0) impl_ = std::make_shared<const Impl>(b);
}

void matmul_nt(const MatrixView& x, const PackedMatrix& b, Matrix& out) {
  if (x.cols() != b.cols())
    throw_invalid("matmul_nt: x has {} columns, expected {} as b has", x.cols(), b.cols());
  out.resize(x.rows(), b.rows());
  if (b.get() == nullptr) {  // nothing to add up
    out.setZero();
    return;
  }
  const SingleThreaded guard;
  thread_local std::vector<float> padded_source, padded_result;
  const bool dense = x.outerStride() == x.cols();

  for (Index begin = 0; begin < x.rows();) {
    const Index left = x.rows() - begin;
    const auto height = static_cast<std::size_t>(
        std::ranges::find_if(kHeights, [&](Index h) { return h <= left; }) - kHeights.begin());
    const std::size_t chosen = std::min(height, kHeights.size() - 1);
    const Index count = std::min(kHeights[chosen], left);
    if (dense && count == kHeights[chosen]) {
      b.get()->multiply(chosen, x.row_data(begin), out.data() + begin * out.cols());
    } else {
      float* source = scratch(padded_source, kHeights[chosen] * x.cols());
      float* result = scratch(padded_result, kHeights[chosen] * out.cols());
      for (Index i = 0; i < count; ++i)
        std::copy_n(x.row_data(begin + i), x.cols(), source + i * x.cols());
      std::fill(source + count * x.cols(), source + kHeights[chosen] * x.cols(), 0.0f);
      b.get()->multiply(chosen, source, result);
      std::copy_n(result, count * out.cols(), out.data() + begin * out.cols());
    }
    begin += count;
  }
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
