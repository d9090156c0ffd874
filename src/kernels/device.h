/// Kernels on a device: the calling thread says which queue its kernels go to, and they do.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <memory_resource>
#include <mutex>
#include <span>
#include <utility>

#include "kernels/bodies/body.h"
#include "ood/exec.h"
#include "ood/kernels.h"
#include "scratch_arena.h"

namespace ood::kernels {

/// A body, ready to be run by whoever has a copy of its bytes.
struct Launch {
  void (*clear_padding)(void* body);  ///< for tests; nullptr where the compiler cannot
  void (*on_cuda)(const void* body, Index count, void* stream);
  void (*on_host)(const void* body, Index count);  ///< with the lanes of a GPU
  std::size_t bytes;

  template <class Body>
  static Launch of() {
    return {clearer_of<Body>(),
            [](const void* body, Index count, void* stream) {
              launch_on_cuda(*static_cast<const Body*>(body), count, stream);
            },
            [](const void* body, Index count) {
              run_on_host<32>(*static_cast<const Body*>(body), count);
            },
            sizeof(Body)};
  }

 private:
  template <class Body>
  static auto clearer_of() -> void (*)(void*) {
#if __has_builtin(__builtin_clear_padding)
    return [](void* body) { __builtin_clear_padding(static_cast<Body*>(body)); };
#else
    return nullptr;
#endif
  }
};

/// x b^T by a device: pointers of its memory.
struct DeviceProduct {
  FloatRows x, b;
  FloatRowsOut out;  ///< without room between rows
  Precision precision = Precision::float32;
};

/// Work of one device in its order. What is given to it may be done later, until wait() returns; used by
/// one thread at a time.
class DeviceQueue {
 public:
  DeviceQueue() = default;
  DeviceQueue(const DeviceQueue&) = delete;
  DeviceQueue& operator=(const DeviceQueue&) = delete;
  virtual ~DeviceQueue() = default;

  virtual Device device() const = 0;
  /// Of the device; lives until the process ends. Throws OutOfDeviceMemory. Nothing that uses it may still
  /// wait to be done when it is given back.
  virtual std::pmr::memory_resource& memory() = 0;
  /// Copies into the device. The source may change when this returns.
  virtual void copy_in(void* to, const void* from, std::size_t bytes) = 0;
  /// Copies out of the device; there when wait() has returned.
  virtual void copy_out(void* to, const void* from, std::size_t bytes) = 0;
  virtual void copy_within(void* to, const void* from, std::size_t bytes) = 0;
  virtual void multiply(const DeviceProduct& product) = 0;
  virtual void wait() = 0;
  virtual void launch(const Launch& launch, const void* body, Index count) = 0;
  /// Whether bodies may read and write any memory: for tests of kernels, which then are those of the
  /// processor.
  virtual bool sees_all_memory() const { return false; }
  /// For tests: whether a copy in the device still is what it was made of.
  virtual void verify(const void* /*host*/, const void* /*copy*/, std::size_t /*bytes*/) {}

  template <class Body>
  void run(const Body& body, Index count) {
    static_assert(std::is_trivially_copyable_v<Body>);
    if (count > 0) launch(Launch::of<Body>(), &body, count);
  }

  ScratchArena& arena() {
    if (!arena_) arena_ = std::make_unique<ScratchArena>(&memory(), false);
    return *arena_;
  }

 protected:
  /// For destructors: the arena gives back memory().
  void drop_arena() { arena_.reset(); }

 private:
  std::unique_ptr<ScratchArena> arena_;
};

/// A device has less memory free than was asked for.
class OutOfDeviceMemory : public std::bad_alloc {
 public:
  explicit OutOfDeviceMemory(std::string what) : what_(std::move(what)) {}
  const char* what() const noexcept override { return what_.c_str(); }

 private:
  std::string what_;
};

/// Copies of host arrays in devices, made when they are first asked for and kept as long as this lives:
/// the fitted state of a detector. The arrays must neither move nor change. For any number of threads.
class DeviceCopies {
 public:
  DeviceCopies() = default;
  ~DeviceCopies();
  DeviceCopies(const DeviceCopies&) = delete;
  DeviceCopies& operator=(const DeviceCopies&) = delete;
  const void* copy_of(DeviceQueue& queue, const void* host, std::size_t bytes);

 private:
  struct Place {
    int device;
    const void* host;
    std::size_t bytes;
    auto operator<=>(const Place&) const = default;
  };
  struct Copy {
    void* data;
    std::pmr::memory_resource* memory;
  };
  std::mutex mutex_;
  std::map<Place, Copy> copies_;
};

/// While it lives, the kernels that the calling thread calls go to `queue`, and its Scratch is memory of
/// the device. Host arrays that kernels read beside their rows are copied to the device, into `copies`.
class DeviceScope {
 public:
  DeviceScope(DeviceQueue& queue, DeviceCopies& copies);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  friend const void* placed_bytes(const void*, std::size_t);
  friend DeviceQueue* device_queue();
  DeviceQueue& queue_;
  DeviceCopies& copies_;
  ArenaScope arena_;
  DeviceScope* outer_;
};

/// Where the calling thread's kernels go; nullptr for the processor.
DeviceQueue* device_queue();

/// Where kernels find an array that may be fitted state, in host memory, or Scratch: itself on the
/// processor, and in Scratch; else its copy.
const void* placed_bytes(const void* data, std::size_t bytes);
template <class T>
const T* placed(std::span<const T> array) {
  return static_cast<const T*>(placed_bytes(array.data(), array.size_bytes()));
}
inline FloatRows placed(const MatrixView& x) {
  const Index entries = x.rows() == 0 ? 0 : (x.rows() - 1) * x.outerStride() + x.cols();
  FloatRows rows = rows_in(x);
  rows.data = placed(std::span<const float>(x.data(), static_cast<std::size_t>(entries)));
  return rows;
}

/// Lanes of the processor that a compiler makes vectors of.
inline constexpr int kHostLanes = 8;

/// Runs a body where the calling thread's kernels go.
template <class Body>
void run(const Body& body, Index count) {
  if (DeviceQueue* const queue = device_queue())
    queue->run(body, count);
  else
    run_on_host<kHostLanes>(body, count);
}

/// The calling thread waits for `count` entries that kernels have written, and has them.
template <class T>
void read_back(const T* data, std::size_t count, T* host) {
  if (DeviceQueue* const queue = device_queue()) {
    queue->copy_out(host, data, count * sizeof(T));
    queue->wait();
  } else {
    std::copy_n(data, count, host);
  }
}

/// Two queues of a device, which nobody else uses while this lives. Throws DeviceError if there is
/// no such device: names those that there are.
class DeviceQueues {
 public:
  explicit DeviceQueues(const Device& device);
  ~DeviceQueues();
  DeviceQueues(const DeviceQueues&) = delete;
  DeviceQueues& operator=(const DeviceQueues&) = delete;
  DeviceQueue& operator[](std::size_t i) { return *queues_[i]; }
  /// Drops them: after an error nobody knows what they still do, and their memory may be wanted.
  void discard() {
    for (auto& queue : queues_) queue.reset();
  }

 private:
  int index_;
  std::unique_ptr<DeviceQueue> (*open_)(int);
  std::unique_ptr<DeviceQueue> queues_[2];
};

/// Opens a queue of device number `index`, on a stream of its own. src/kernels/cuda, or the stub, which throws.
std::unique_ptr<DeviceQueue> open_cuda_queue(int index);

/// Whether host arrays may be asked for by devices, so that what is packed for products of the processor
/// is kept as it was, too.
bool devices_expected();

/// For tests: devices are opened by `open`, not by CUDA; nullptr for CUDA again.
using OpenQueue = std::unique_ptr<DeviceQueue> (*)(int index);
void emulate_devices(OpenQueue open);

}  // namespace ood::kernels
