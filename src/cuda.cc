#include "ood/cuda.h"

#include "errors.h"
#include "kernels/cuda/caller.h"

namespace ood::cuda {

namespace {

std::shared_ptr<kernels::DeviceQueue> queue_of(const Device& device, void* stream) {
  if (device.kind != Device::Kind::cuda) throw_invalid("device has cpu, expected cuda:<index>");
  return kernels::lend_cuda_queue(device.index, stream);
}

void require_memory_of(const Device& device, const Batch& batch, const float* out) {
  const auto require = [&](const std::string& array, const float* data) {
    kernels::require_memory_of(device.index, array.c_str(), data);
  };
  if (batch.features) require("features", batch.features->data());
  if (batch.logits) require("logits", batch.logits->data());
  for (const auto& [name, layer] : batch.layers) require("layers/" + name, layer.data());
  if (batch.copy_features) require("copies/features", batch.copy_features->data());
  if (batch.copy_logits) require("copies/logits", batch.copy_logits->data());
  require("out", out);
}

void require_numbers(const char* array, std::uint64_t first_nan, Index count) {
  if (first_nan < static_cast<std::uint64_t>(count))
    throw_invalid("auroc: {} score {} is NaN, expected a number", array, first_nan);
}

}  // namespace

void score(const Detector& detector, const Batch& batch, float* out, const Device& device,
           void* stream) {
  const Index rows = batch.rows();
  const auto queue = queue_of(device, stream);
  if (rows > 0)
    with_context(detector.name(), ".score", [&] { require_memory_of(device, batch, out); });
  detector.score_in_place(batch, {out, static_cast<std::size_t>(rows)}, *queue);
}

double auroc(const float* id, Index n, const float* ood, Index m, const Device& device,
             void* stream) {
  for (const auto& [array, count] : {std::pair{"id", n}, std::pair{"ood", m}})
    if (count < 1) throw_invalid("auroc: {} has {} scores, expected 1 or more", array, count);
  const auto queue = queue_of(device, stream);
  kernels::require_memory_of(device.index, "auroc: id", id);
  kernels::require_memory_of(device.index, "auroc: ood", ood);
  const kernels::ScorePairs pairs = kernels::count_pairs(*queue, stream, id, n, ood, m);
  require_numbers("id", pairs.first_nan_id, n);
  require_numbers("ood", pairs.first_nan_ood, m);
  return static_cast<double>(pairs.ordered_twice) /
         (2 * (static_cast<double>(n) * static_cast<double>(m)));
}

}  // namespace ood::cuda
