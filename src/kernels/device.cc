#include "kernels/device.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <utility>
#include <vector>

#include "ood/devices.h"

namespace ood::kernels {

namespace {

thread_local DeviceScope* innermost = nullptr;

std::atomic<OpenQueue> emulation = nullptr;

/// Queues that nobody uses: streams and staging memory are dear to make.
class IdleQueues {
 public:
  std::unique_ptr<DeviceQueue> take(int index, OpenQueue open) {
    {
      const std::lock_guard lock(mutex_);
      auto& idle = idle_[{index, open}];
      if (!idle.empty()) {
        auto queue = std::move(idle.back());
        idle.pop_back();
        return queue;
      }
    }
    return open(index);
  }
  void drop(OpenQueue open) {
    const std::lock_guard lock(mutex_);
    std::erase_if(idle_, [&](const auto& entry) { return entry.first.second == open; });
  }
  void give_back(int index, OpenQueue open, std::unique_ptr<DeviceQueue> queue) {
    const std::lock_guard lock(mutex_);
    idle_[{index, open}].push_back(std::move(queue));
  }

 private:
  std::mutex mutex_;
  std::map<std::pair<int, OpenQueue>, std::vector<std::unique_ptr<DeviceQueue>>> idle_;
};

/// Never destroyed: the device's driver may be gone before static objects are.
IdleQueues& idle_queues() {
  static auto* const idle = new IdleQueues;
  return *idle;
}

OpenQueue opener() {
  const OpenQueue emulated = emulation.load();
  return emulated ? emulated : static_cast<OpenQueue>(open_cuda_queue);
}

}  // namespace

void emulate_devices(OpenQueue open) {
  if (const OpenQueue before = emulation.exchange(open)) idle_queues().drop(before);
}

bool devices_expected() { return innermost || emulation.load() != nullptr || cuda::may_be_there(); }

DeviceQueues::DeviceQueues(const Device& device) : index_(device.index), open_(opener()) {
  for (auto& queue : queues_) queue = idle_queues().take(index_, open_);
}

DeviceQueues::~DeviceQueues() {
  for (auto& queue : queues_)
    if (queue) idle_queues().give_back(index_, open_, std::move(queue));
}

DeviceCopies::~DeviceCopies() {
  for (const auto& [place, copy] : copies_) copy.memory->deallocate(copy.data, place.bytes);
}

const void* DeviceCopies::copy_of(DeviceQueue& queue, const void* host, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  const Place place{queue.device().index, host, bytes};
  if (const auto found = copies_.find(place); found != copies_.end()) {
    queue.verify(host, found->second.data, bytes);
    return found->second.data;
  }
  std::pmr::memory_resource& memory = queue.memory();
  void* const data = memory.allocate(bytes);
  try {
    queue.copy_in(data, host, bytes);
    queue.wait();  // other queues may use it from now on
    copies_.emplace(place, Copy{data, &memory});
  } catch (...) {
    memory.deallocate(data, bytes);
    throw;
  }
  return data;
}

DeviceScope::DeviceScope(DeviceQueue& queue, DeviceCopies& copies)
    : queue_(queue), copies_(copies), arena_(queue.arena()), outer_(innermost) {
  innermost = this;
}

DeviceScope::~DeviceScope() { innermost = outer_; }

DeviceQueue* device_queue() { return innermost ? &innermost->queue_ : nullptr; }

const void* placed_bytes(const void* data, std::size_t bytes) {
  if (!innermost || bytes == 0) return data;
  if (innermost->queue_.sees_all_memory() || innermost->queue_.arena().holds(data)) return data;
  return innermost->copies_.copy_of(innermost->queue_, data, bytes);
}

}  // namespace ood::kernels

void ood::require_device(const Device& device) {
  if (device.kind != Device::Kind::cpu) kernels::DeviceQueues opened(device);
}
