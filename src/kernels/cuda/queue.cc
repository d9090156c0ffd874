// A CUDA stream as a queue, with cuBLAS for products and pinned memory that copies go through.
#include <cublas_v2.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "errors.h"
#include "kernels/cuda/caller.h"
#include "kernels/cuda/runtime.h"
#include "ood/devices.h"

namespace ood::kernels {

namespace {

constexpr std::size_t kStagedIn = std::size_t{16} << 20;  // of each of the two halves
constexpr std::size_t kStagedOut = std::size_t{4} << 20;
constexpr std::size_t kProductWorkspace = std::size_t{32} << 20;  // what cuBLAS takes on Hopper
constexpr int kLeastCapability = 80;  // the oldest that there is code for

void check_cublas(cublasStatus_t status, int device, const char* call) {
  if (status == CUBLAS_STATUS_ALLOC_FAILED)
    throw OutOfDeviceMemory(fmt::format("cuda:{}: {}: too little memory is free", device, call));
  if (status != CUBLAS_STATUS_SUCCESS)
    throw DeviceError(fmt::format("cuda:{}: {}: {}", device, call, cublasGetStatusString(status)));
}
#define OOD_CUBLAS_CALL(call, ...) check_cublas(call(__VA_ARGS__), index_, #call)

class DeviceMemory final : public std::pmr::memory_resource {
 public:
  explicit DeviceMemory(int index) : index_(index) {}

 private:
  void* do_allocate(std::size_t bytes, std::size_t) override {
    const OnDevice on(index_);
    void* memory = nullptr;
    const cudaError_t result = cudaMalloc(&memory, bytes);
    if (result != cudaErrorMemoryAllocation) {
      check_cuda(result, "cudaMalloc");
      return memory;
    }
    cudaGetLastError();
    std::size_t free = 0, total = 0;
    OOD_CUDA_CALL(cudaMemGetInfo, &free, &total);
    throw OutOfDeviceMemory(
        fmt::format("cuda:{} has {} bytes of memory free, expected {}", index_, free, bytes));
  }
  void do_deallocate(void* memory, std::size_t, std::size_t) override {
    if (!forked_after_cuda()) cudaFree(memory);  // after an error of the device nothing can be done
  }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }

  int index_;
};

/// Never destroyed: detectors that live as long as the process give back to it in the end.
DeviceMemory& memory_of(int index) {
  static std::mutex mutex;
  static auto* const all = new std::map<int, DeviceMemory>;
  const std::lock_guard lock(mutex);
  return all->try_emplace(index, index).first->second;
}

// Handles that end with what holds them; errors in the end have nobody to tell.
struct EndStream {
  void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
};
struct EndEvent {
  void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
};
struct EndPinned {
  void operator()(std::byte* memory) const { cudaFreeHost(memory); }
};
struct EndCublas {
  void operator()(cublasHandle_t handle) const { cublasDestroy(handle); }
};
using Stream = std::unique_ptr<CUstream_st, EndStream>;
using Event = std::unique_ptr<CUevent_st, EndEvent>;
using Pinned = std::unique_ptr<std::byte, EndPinned>;
using Cublas = std::unique_ptr<cublasContext, EndCublas>;

Event make_event() {
  cudaEvent_t event = nullptr;
  OOD_CUDA_CALL(cudaEventCreateWithFlags, &event, cudaEventDisableTiming);
  return Event(event);
}

Pinned make_pinned(std::size_t bytes) {
  void* memory = nullptr;
  OOD_CUDA_CALL(cudaMallocHost, &memory, bytes);
  return Pinned(static_cast<std::byte*>(memory));
}

cublasComputeType_t compute_type(Precision precision) {
  switch (precision) {
    case Precision::tf32:
      return CUBLAS_COMPUTE_32F_FAST_TF32;
    case Precision::bfloat16:
      return CUBLAS_COMPUTE_32F_FAST_16BF;
    default:
      return CUBLAS_COMPUTE_32F;
  }
}

class CudaQueue final : public DeviceQueue {
 public:
  /// On a stream of its own.
  explicit CudaQueue(int index) : index_(index) {
    const OnDevice on(index_);
    OOD_CUDA_CALL(cudaStreamCreateWithFlags, &stream_, cudaStreamNonBlocking);
    own_stream_.reset(stream_);
  }
  /// On the caller's.
  CudaQueue(int index, cudaStream_t stream) : index_(index), stream_(stream) {
    const OnDevice on(index_);
    done_ = make_event();
  }
  ~CudaQueue() override {
    if (forked_after_cuda()) {
      leave_all();
      return;
    }
    int before = 0;
    cudaGetDevice(&before);
    if (before != index_) cudaSetDevice(index_);
    if (own_stream_)
      cudaStreamSynchronize(stream_);
    else
      cudaEventSynchronize(done_.get());
    product_.reset();
    if (workspace_) memory().deallocate(workspace_, kProductWorkspace);
    drop_arena();
    if (before != index_) cudaSetDevice(before);
  }

  Device device() const override { return {Device::Kind::cuda, index_}; }
  std::pmr::memory_resource& memory() override { return memory_of(index_); }

  void copy_in(void* to, const void* from, std::size_t bytes) override {
    const OnDevice on(index_);
    auto* const target = static_cast<std::byte*>(to);
    const auto* const source = static_cast<const std::byte*>(from);
    for (std::size_t at = 0; at < bytes; at += kStagedIn) {
      const std::size_t part = std::min(kStagedIn, bytes - at);
      Half& half = halves_[turn_];
      turn_ = 1 - turn_;
      if (!half.memory) {
        half.sent = make_event();
        half.memory = make_pinned(kStagedIn);
      }
      OOD_CUDA_CALL(cudaEventSynchronize, half.sent.get());  // the copy before the last one
      std::memcpy(half.memory.get(), source + at, part);
      OOD_CUDA_CALL(cudaMemcpyAsync, target + at, half.memory.get(), part, cudaMemcpyHostToDevice,
                    stream_);
      OOD_CUDA_CALL(cudaEventRecord, half.sent.get(), stream_);
    }
  }

  void copy_out(void* to, const void* from, std::size_t bytes) override {
    const OnDevice on(index_);
    if (!staged_out_) staged_out_ = make_pinned(kStagedOut);
    for (std::size_t at = 0; at < bytes;) {
      if (staged_ == kStagedOut) wait();
      const std::size_t part = std::min(kStagedOut - staged_, bytes - at);
      OOD_CUDA_CALL(cudaMemcpyAsync, staged_out_.get() + staged_,
                    static_cast<const std::byte*>(from) + at, part, cudaMemcpyDeviceToHost,
                    stream_);
      arriving_.push_back({static_cast<std::byte*>(to) + at, staged_, part});
      staged_ += part;
      at += part;
    }
  }

  void copy_within(void* to, const void* from, std::size_t bytes) override {
    const OnDevice on(index_);
    OOD_CUDA_CALL(cudaMemcpyAsync, to, from, bytes, cudaMemcpyDeviceToDevice, stream_);
  }

  void wait() override {
    const OnDevice on(index_);
    const auto arriving = std::exchange(arriving_, {});  // nobody expects them after an error
    staged_ = 0;
    OOD_CUDA_CALL(cudaStreamSynchronize, stream_);
    for (const Arriving& part : arriving)
      std::memcpy(part.to, staged_out_.get() + part.offset, part.bytes);
  }

  /// out = x b^T in rows is out^T = b x^T in columns, as cuBLAS counts.
  void multiply(const DeviceProduct& product) override {
    const auto& [x, b, out, precision] = product;
    if (x.rows == 0 || b.rows == 0) return;
    const OnDevice on(index_);
    if (!product_) start_products();
    const auto leading = [](const auto& rows) {  // one row may have any stride
      return std::max<Index>(rows.rows == 1 ? rows.cols : rows.stride, 1);
    };
    const float one = 1, zero = 0;
    OOD_CUBLAS_CALL(cublasGemmEx_64, product_.get(), CUBLAS_OP_T, CUBLAS_OP_N, b.rows, x.rows,
                    x.cols, &one, b.data, CUDA_R_32F, leading(b), x.data, CUDA_R_32F, leading(x),
                    &zero, out.data, CUDA_R_32F, leading(out), compute_type(precision),
                    CUBLAS_GEMM_DEFAULT);
  }

  void launch(const Launch& launch, const void* body, Index count) override {
    const OnDevice on(index_);
    launch.on_cuda(body, count, stream_);
  }

  // For queues on the caller's stream.

  cudaStream_t stream() const { return stream_; }
  /// Whether all that was given to it is done.
  bool done() const {
    const cudaError_t result = cudaEventQuery(done_.get());
    if (result != cudaSuccess) cudaGetLastError();  // "not ready" is no error of the next call's
    return result == cudaSuccess;
  }
  void mark_end() {
    const OnDevice on(index_);
    OOD_CUDA_CALL(cudaEventRecord, done_.get(), stream_);
  }
  /// What comes goes to this stream, after all that there is.
  void move_to(cudaStream_t stream) {
    const OnDevice on(index_);
    OOD_CUDA_CALL(cudaStreamWaitEvent, stream, done_.get(), 0);
    stream_ = stream;
    if (product_) set_stream_of_products();
  }

 private:
  struct Half {
    Event sent;
    Pinned memory;
  };
  struct Arriving {
    std::byte* to;
    std::size_t offset, bytes;
  };

  void start_products() {
    cublasHandle_t handle = nullptr;
    if (!workspace_) workspace_ = memory().allocate(kProductWorkspace);
    OOD_CUBLAS_CALL(cublasCreate, &handle);
    product_.reset(handle);
    set_stream_of_products();
  }
  /// The workspace last: a new stream takes it away. It is this queue's own, so that what other streams do
  /// changes no bits.
  void set_stream_of_products() {
    OOD_CUBLAS_CALL(cublasSetStream, product_.get(), stream_);
    OOD_CUBLAS_CALL(cublasSetWorkspace, product_.get(), workspace_, kProductWorkspace);
  }
  /// In a child of fork(), where no call works.
  void leave_all() {
    (void)own_stream_.release();
    (void)done_.release();
    (void)product_.release();
    (void)staged_out_.release();
    for (Half& half : halves_) {
      (void)half.sent.release();
      (void)half.memory.release();
    }
    drop_arena();
  }

  int index_;
  cudaStream_t stream_ = nullptr;
  Stream own_stream_;
  Event done_;
  Cublas product_;
  void* workspace_ = nullptr;
  Half halves_[2];
  std::size_t turn_ = 0;
  Pinned staged_out_;
  std::size_t staged_ = 0;  // of its bytes
  std::vector<Arriving> arriving_;
};

void require_no_fork(int index) {
  if (forked_after_cuda()) throw DeviceError(fmt::format("cuda:{}: {}", index, kForked));
}

void require_device(int index) {
  require_no_fork(index);
  std::string why;
  const int count = count_devices(&why);
  if (count == 0)
    throw DeviceError(
        fmt::format("device has cuda:{}, but there is no CUDA device: {}", index, why));
  if (index >= count) {
    std::string names = "cuda:0";
    for (int i = 1; i < count; ++i) names += fmt::format(", cuda:{}", i);
    throw DeviceError(
        fmt::format("device has cuda:{}, expected {}{}", index, count > 1 ? "one of " : "", names));
  }
  int major = 0, minor = 0;
  OOD_CUDA_CALL(cudaDeviceGetAttribute, &major, cudaDevAttrComputeCapabilityMajor, index);
  OOD_CUDA_CALL(cudaDeviceGetAttribute, &minor, cudaDevAttrComputeCapabilityMinor, index);
  if (10 * major + minor < kLeastCapability)
    throw DeviceError(
        fmt::format("device has cuda:{} of compute capability {}.{}, expected {}.{} or more", index,
                    major, minor, kLeastCapability / 10, kLeastCapability % 10));
}

/// Queues on streams of callers: what they keep is dear to make, and still in use when they are given back.
class LentQueues {
 public:
  std::unique_ptr<CudaQueue> take(int index, cudaStream_t stream) {
    require_no_fork(index);
    if (auto queue = idle_one(index, stream)) {
      queue->move_to(stream);
      return queue;
    }
    require_device(index);
    return std::make_unique<CudaQueue>(index, stream);
  }
  void give_back(std::unique_ptr<CudaQueue> queue) {
    try {
      queue->mark_end();
    } catch (const std::exception&) {
      return;  // what it has to say, later calls say
    }
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(queue));
  }

 private:
  /// That of the same stream, else one without work.
  std::unique_ptr<CudaQueue> idle_one(int index, cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    const auto of_device = [&](const auto& queue) { return queue->device().index == index; };
    auto found = std::ranges::find_if(
        idle_, [&](const auto& queue) { return of_device(queue) && queue->stream() == stream; });
    if (found == idle_.end())
      found = std::ranges::find_if(
          idle_, [&](const auto& queue) { return of_device(queue) && queue->done(); });
    if (found == idle_.end()) return nullptr;
    auto queue = std::move(*found);
    idle_.erase(found);
    return queue;
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<CudaQueue>> idle_;
};

}  // namespace

std::unique_ptr<DeviceQueue> open_cuda_queue(int index) {
  require_device(index);
  return std::make_unique<CudaQueue>(index);
}

std::shared_ptr<DeviceQueue> lend_cuda_queue(int index, void* stream) {
  static auto* const queues = new LentQueues;  // the driver may be gone before static objects are
  return {queues->take(index, static_cast<cudaStream_t>(stream)).release(),
          [](CudaQueue* queue) { queues->give_back(std::unique_ptr<CudaQueue>(queue)); }};
}

void require_memory_of(int index, const char* array, const void* pointer) {
  const OnDevice on(index);
  cudaPointerAttributes where{};
  OOD_CUDA_CALL(cudaPointerGetAttributes, &where, pointer);
  const bool device = where.type == cudaMemoryTypeDevice;
  if (where.type == cudaMemoryTypeManaged || (device && where.device == index)) return;
  throw_invalid("{} has an address in {}, expected one of cuda:{}", array,
                device ? fmt::format("cuda:{}", where.device) : "host memory", index);
}

}  // namespace ood::kernels
