// Scoring on a GPU: blocks of rows go through two queues by turns, so that one copies while the other
// computes.
#include <algorithm>

#include "errors.h"
#include "kernels/device.h"
#include "ood/detector.h"
#include "ood/scratch.h"

namespace ood {

namespace {

using kernels::DeviceQueue;

/// What a block has of an input array, about.
constexpr double kBlockBytes = 32e6, kBlockBytesInPlace = 256e6;

/// Entries of a row of the widest array that is read, of all copies.
Index widest(const Batch& batch, const Inputs& read) {
  Index width = 1;
  const auto add = [&](Index more) { width = std::max(width, more); };
  const auto add_copies = [&](const Tensor3View& copies) {
    add(static_cast<Index>(copies.shape()[0] * copies.shape()[2]));
  };
  if (read.features) add(batch.features->cols());
  if (read.logits) add(batch.logits->cols());
  if (read.layers)
    for (const auto& [name, layer] : batch.layers) add(layer.cols());
  if (read.copy_features) add_copies(*batch.copy_features);
  if (read.copy_logits) add_copies(*batch.copy_logits);
  return width;
}

Index rows_of_block(const Batch& batch, const Inputs& read, double bytes) {
  const double row = static_cast<double>(widest(batch, read)) * sizeof(float);
  return std::max(kernels::kTileRows, static_cast<Index>(bytes / row));
}

MatrixView copy_in(DeviceQueue& queue, Scratch& scratch, const MatrixView& x) {
  MatrixMap to = scratch.matrix(x.rows(), x.cols());
  const bool dense = x.outerStride() == x.cols() || x.rows() < 2;
  const Matrix packed = dense ? Matrix() : Matrix(x);
  queue.copy_in(to.data(), dense ? x.data() : packed.data(),
                static_cast<std::size_t>(to.size()) * sizeof(float));
  return to;
}

Tensor3View copy_in(DeviceQueue& queue, Scratch& scratch, const Tensor3View& x) {
  const auto copies = static_cast<Index>(x.shape()[0]), rows = static_cast<Index>(x.shape()[1]),
             cols = static_cast<Index>(x.shape()[2]);
  const auto& strides = x.strides();
  MatrixMap to = scratch.matrix(copies * rows, cols);
  for (Index k = 0; k < copies; ++k) {
    const MatrixView copy(x.data() + k * strides[0], rows, cols, strides[1]);
    const bool dense = copy.outerStride() == cols || rows < 2;
    const Matrix packed = dense ? Matrix() : Matrix(copy);
    queue.copy_in(to.data() + k * rows * cols, dense ? copy.data() : packed.data(),
                  static_cast<std::size_t>(rows * cols) * sizeof(float));
  }
  return xt::adapt(static_cast<const float*>(to.data()), static_cast<std::size_t>(to.size()),
                   xt::no_ownership(),
                   std::array<std::size_t, 3>{x.shape()[0], x.shape()[1], x.shape()[2]},
                   std::array<std::ptrdiff_t, 3>{rows * cols, cols, 1});
}

/// The arrays that are read, in the device.
Batch copy_in(DeviceQueue& queue, Scratch& scratch, const Batch& batch, const Inputs& read) {
  Batch copy;
  copy.first_row = batch.first_row;
  if (read.features) copy.features = copy_in(queue, scratch, *batch.features);
  if (read.logits) copy.logits = copy_in(queue, scratch, *batch.logits);
  if (read.layers)
    for (const auto& [name, layer] : batch.layers)
      copy.layers.emplace(name, copy_in(queue, scratch, layer));
  if (read.copy_features) copy.copy_features.emplace(copy_in(queue, scratch, *batch.copy_features));
  if (read.copy_logits) copy.copy_logits.emplace(copy_in(queue, scratch, *batch.copy_logits));
  return copy;
}

}  // namespace

Detector::OwnCopies::OwnCopies() : copies_(std::make_shared<kernels::DeviceCopies>()) {}

void Detector::require_device_code(const Device& device) const {
  if (!runs_on_devices())
    throw_invalid("device has {}, expected cpu: this detector has no code for GPUs", device.name());
}

void Detector::score_on_device(const Batch& batch, std::span<float> out,
                               const Device& device) const {
  require_device_code(device);
  const Index rows = batch.rows();
  if (rows == 0) return;
  const Inputs read = needs().score;
  Index block = std::min(rows, rows_of_block(batch, read, kBlockBytes));
  kernels::DeviceQueues queues(device);
  const auto wait_for_both = [&] {
    try {
      queues[0].wait();
      queues[1].wait();
    } catch (...) {  // nobody may take them as they are
      queues.discard();
      throw;
    }
  };
  std::size_t turn = 0;
  for (Index begin = 0; begin < rows;) {
    const Index count = std::min(block, rows - begin);
    DeviceQueue& queue = queues[turn];
    try {
      queue.wait();  // scratch and staging memory of its last block are free then
      const kernels::DeviceScope scope(queue, copies_.get());
      Scratch scratch;
      const Batch here = copy_in(queue, scratch, batch.slice(begin, count), read);
      const std::span<float> scores = scratch.span<float>(count);
      score_tile(here, scores);
      queue.copy_out(out.data() + begin, scores.data(), scores.size_bytes());
    } catch (const kernels::OutOfDeviceMemory&) {
      wait_for_both();
      if (count == 1) throw;
      for (const std::size_t q : {0u, 1u}) queues[q].arena().clear();
      block = (count + 1) / 2;
      continue;
    } catch (const std::domain_error&) {  // of some rows; the device is well
      wait_for_both();
      throw;
    } catch (...) {
      queues.discard();
      throw;
    }
    begin += count;
    turn = 1 - turn;
  }
  wait_for_both();
}

void Detector::score_in_place(const Batch& batch, std::span<float> out, DeviceQueue& queue) const {
  with_context(name(), ".score", [&] {
    check_batch(batch);
    const Index rows = batch.rows();
    if (std::ssize(out) != rows)
      throw_invalid("out has {} entries, expected {} as the batch has rows", out.size(), rows);
    require_device_code(queue.device());
    if (rows == 0) return;
    Index block = std::min(rows, rows_of_block(batch, needs().score, kBlockBytesInPlace));
    for (Index begin = 0; begin < rows;) {
      const Index count = std::min(block, rows - begin);
      const kernels::DeviceScope scope(queue, copies_.get());
      try {
        score_tile(batch.slice(begin, count),
                   out.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count)));
      } catch (const kernels::OutOfDeviceMemory&) {
        queue.wait();
        if (count == 1) throw;
        queue.arena().clear();
        block = (count + 1) / 2;
        continue;
      }
      begin += count;
    }
  });
}

}  // namespace ood
