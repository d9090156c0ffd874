#include "device/emulated_queue.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace ood::test {

namespace {

using kernels::DeviceProduct;
using kernels::DeviceQueue;
using kernels::Launch;
using kernels::Precision;

/// To `bits` bits of significand, ties to even, as tensor units take a factor.
float rounded(float x, int bits) {
  std::uint32_t word;
  std::memcpy(&word, &x, sizeof word);
  const int dropped = 24 - bits;
  word += (1u << (dropped - 1)) - 1 + ((word >> dropped) & 1u);
  word &= ~((1u << dropped) - 1);
  std::memcpy(&x, &word, sizeof word);
  return x;
}

void multiply_here(const DeviceProduct& p) {
  const auto factor = [&](float x) {
    if (p.precision == Precision::bfloat16) return rounded(x, 8);
    return p.precision == Precision::tf32 ? rounded(x, 11) : x;
  };
  for (Index i = 0; i < p.x.rows; ++i)
    for (Index j = 0; j < p.b.rows; ++j) {
      float sum = 0;
      for (Index k = 0; k < p.x.cols; ++k) sum += factor(p.x.row(i)[k]) * factor(p.b.row(j)[k]);
      p.out.row(i)[j] = sum;
    }
}

/// Pages that only open() lets anybody touch.
class Memory final : public std::pmr::memory_resource {
 public:
  void set_limit(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    limit_ = bytes;
    peak_ = used_;
  }
  std::size_t peak() {
    const std::lock_guard lock(mutex_);
    return peak_;
  }
  void open() { protect(PROT_READ | PROT_WRITE, 1); }
  void close() { protect(PROT_NONE, -1); }
  bool holds(std::uintptr_t address) {
    const std::lock_guard lock(mutex_);
    return std::ranges::any_of(regions_, [&](const auto& region) {
      const auto begin = reinterpret_cast<std::uintptr_t>(region.first);
      return address >= begin && address <= begin + region.second;
    });
  }

 private:
  void protect(int protection, int change) {
    const std::lock_guard lock(mutex_);
    opened_ += change;
    if (opened_ > (change > 0 ? 1 : 0)) return;
    for (const auto& [begin, size] : regions_) mprotect(begin, size, protection);
  }
  void* do_allocate(std::size_t bytes, std::size_t) override {
    constexpr std::size_t kPage = 4096;
    const std::size_t size = (bytes + kPage - 1) / kPage * kPage;
    const std::lock_guard lock(mutex_);
    if (used_ + size > limit_)
      throw kernels::OutOfDeviceMemory(
          fmt::format("cuda:0 has {} bytes free, expected {}", limit_ - used_, size));
    void* const begin =
        mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (begin == MAP_FAILED) throw std::bad_alloc();
    std::memset(begin, 0xff, size);  // NaN: a device gives no zeros
    if (opened_ == 0) mprotect(begin, size, PROT_NONE);
    regions_[begin] = size;
    used_ += size;
    peak_ = std::max(peak_, used_);
    return begin;
  }
  void do_deallocate(void* begin, std::size_t, std::size_t) override {
    const std::lock_guard lock(mutex_);
    const auto region = regions_.find(begin);
    munmap(begin, region->second);
    used_ -= region->second;
    regions_.erase(region);
  }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }

  std::mutex mutex_;
  std::map<void*, std::size_t> regions_;
  std::size_t limit_ = 0, used_ = 0, peak_ = 0;
  int opened_ = 0;  // by so many threads
};

Memory& memory_of_device() {
  static auto* const memory = new Memory;  // idle queues give back to it in the end
  return *memory;
}

class Opened {
 public:
  Opened() { memory_of_device().open(); }
  ~Opened() { memory_of_device().close(); }
};

class EmulatedQueue final : public DeviceQueue {
 public:
  ~EmulatedQueue() override {
    waiting_.clear();
    drop_arena();
  }
  Device device() const override { return {Device::Kind::cuda, 0}; }
  std::pmr::memory_resource& memory() override { return memory_of_device(); }

  void copy_in(void* to, const void* from, std::size_t bytes) override {
    std::vector<char> staged(static_cast<const char*>(from),
                             static_cast<const char*>(from) + bytes);
    later([to, staged = std::move(staged)] {
      std::copy(staged.begin(), staged.end(), static_cast<char*>(to));
    });
  }
  void copy_out(void* to, const void* from, std::size_t bytes) override {
    later([=] { std::memcpy(to, from, bytes); });
  }
  void copy_within(void* to, const void* from, std::size_t bytes) override {
    later([=] { std::memmove(to, from, bytes); });
  }
  void multiply(const DeviceProduct& product) override {
    if (product.x.rows > 1 && product.x.stride < product.x.cols)
      throw std::logic_error("rows of a product overlap, which cuBLAS does not take");
    later([=] { multiply_here(product); });
  }
  void launch(const Launch& launch, const void* body, Index count) override {
    const auto* const bytes = static_cast<const std::byte*>(body);
    std::vector<std::byte> copy(bytes, bytes + launch.bytes);
    if (launch.clear_padding != nullptr) {  // what lies between numbers may look like a pointer
      launch.clear_padding(copy.data());
      require_own_pointers(copy.data(), copy.size());
    }
    later([=, copy = std::move(copy)] { launch.on_host(copy.data(), count); });
  }
  void wait() override {
    const Opened opened;
    for (const auto& work : waiting_) work();
    waiting_.clear();
  }
  void verify(const void* host, const void* copy, std::size_t bytes) override {
    const Opened opened;
    if (std::memcmp(host, copy, bytes) != 0)
      throw std::logic_error("fitted state changed after it was copied to the device");
  }

 private:
  void later(std::function<void()> work) { waiting_.push_back(std::move(work)); }

  /// Words of a body that look like pointers must be pointers of the device.
  static void require_own_pointers(const std::byte* body, std::size_t bytes) {
    for (std::size_t at = 0; at + sizeof(std::uintptr_t) <= bytes; at += sizeof(std::uintptr_t)) {
      std::uintptr_t word;
      std::memcpy(&word, body + at, sizeof word);
      const bool pointer = word >> 40 >= 0x55 && word >> 40 <= 0x7f;
      if (pointer && !memory_of_device().holds(word))
        throw std::logic_error(fmt::format(
            "a body holds a pointer into memory of the host, {} bytes from its begin", at));
    }
  }

  std::vector<std::function<void()>> waiting_;
};

/// Everything at once, in any memory.
class TransparentQueue final : public DeviceQueue {
 public:
  ~TransparentQueue() override { drop_arena(); }
  Device device() const override { return {Device::Kind::cuda, 0}; }
  std::pmr::memory_resource& memory() override { return *std::pmr::new_delete_resource(); }
  bool sees_all_memory() const override { return true; }
  void copy_in(void* to, const void* from, std::size_t bytes) override {
    std::memcpy(to, from, bytes);
  }
  void copy_out(void* to, const void* from, std::size_t bytes) override {
    std::memcpy(to, from, bytes);
  }
  void copy_within(void* to, const void* from, std::size_t bytes) override {
    std::memmove(to, from, bytes);
  }
  void multiply(const DeviceProduct& product) override { multiply_here(product); }
  void launch(const Launch& launch, const void* body, Index count) override {
    launch.on_host(body, count);
  }
  void wait() override {}
};

}  // namespace

EmulatedDevice::EmulatedDevice(std::size_t memory) {
  memory_of_device().set_limit(memory);
  kernels::emulate_devices(open_emulated_queue);
}

EmulatedDevice::~EmulatedDevice() { kernels::emulate_devices(nullptr); }

std::size_t EmulatedDevice::peak() { return memory_of_device().peak(); }

std::unique_ptr<EmulatedDevice> device_to_test() {
  const char* const wanted = std::getenv("OOD_DEVICE");
  if (wanted != nullptr && std::string_view(wanted) == "cuda") return nullptr;
  return std::make_unique<EmulatedDevice>();
}

std::unique_ptr<DeviceQueue> open_emulated_queue(int index) {
  if (index != 0)
    throw std::runtime_error(fmt::format("device has cuda:{}, expected cuda:0", index));
  return std::make_unique<EmulatedQueue>();
}

struct KernelsAsOnDevice::Parts {
  TransparentQueue queue;
  kernels::DeviceCopies copies;
  kernels::DeviceScope scope{queue, copies};
};

KernelsAsOnDevice::KernelsAsOnDevice() : parts_(std::make_unique<Parts>()) {}
KernelsAsOnDevice::~KernelsAsOnDevice() = default;

}  // namespace ood::test
