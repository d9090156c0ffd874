/// Arrays that lie in a GPU's memory already: scored and ranked where they are, on the caller's stream.
///
/// `stream` is a cudaStream_t of that GPU; nullptr is the legacy default stream. Two threads may call at a time.
///
/// errors std::invalid_argument: an array in other memory than the GPU's (managed memory is fine), or `device`
///        is the processor. DeviceError: a library without CUDA, or a GPU that is not there, or fails.
#pragma once

#include "ood/batch.h"
#include "ood/detector.h"

namespace ood::cuda {

/// Detector::score for a batch whose arrays are all in the memory of `device`: out[i], there too, is the score
/// of row i. Returns when all is given to the stream, of which the scores are a part like any other work: the
/// arrays, and the detector's fit, must live until it is done. The first call of a fitted detector waits for copies of its state.
void score(const Detector& detector, const Batch& batch, float* out, const Device& device,
           void* stream = nullptr);

/// auroc() of ood/metrics.h for id [n] and ood [m] in the memory of `device`, to the last bit; n m < 2^63.
/// Waits for the stream. Takes about 12 (n + m) bytes of memory.
double auroc(const float* id, Index n, const float* ood, Index m, const Device& device,
             void* stream = nullptr);

}  // namespace ood::cuda
