// What is said where there is no GPU, or no code for one; on a machine that has some, of those that it has not.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <stdexcept>
#include <string>

#include "kernels/device.h"
#include "ood/cuda.h"
#include "ood/detectors.h"
#include "ood/devices.h"

using namespace ood;

namespace {

constexpr const char* kNotBuilt =
    "device: this libood was built without CUDA, expected one that was configured with "
    "-DOOD_CUDA=ON";

/// What a call throws says, or "".
template <class Error, class Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

/// How the message begins for a device that is not there.
std::string no_such_device(int index) {
  if (!cuda::built()) return kNotBuilt;
  if (cuda::devices().empty())
    return fmt::format("device has cuda:{}, but there is no CUDA device: ", index);
  return fmt::format("device has cuda:{}, expected {}", index,
                     cuda::devices().size() > 1 ? "one of cuda:0, cuda:1" : "cuda:0");
}

}  // namespace

TEST_CASE("devices have names") {
  CHECK(Device::parse("cpu") == Device{});
  CHECK(Device::parse("cuda") == Device{Device::Kind::cuda, 0});
  CHECK(Device::parse("cuda:12") == Device{Device::Kind::cuda, 12});
  for (const char* const name : {"cpu", "cuda:0", "cuda:3"})
    CHECK(Device::parse(name).name() == name);
  for (const char* const text :
       {"", "gpu", "cuda:", "cuda:-1", "cuda:1x", "CUDA", "cuda:99999999999"})
    CHECK(message_of<std::invalid_argument>([&] { Device::parse(text); }) ==
          fmt::format("device has {}, expected cpu, cuda or cuda:<index>", text));
}

TEST_CASE("devices are listed, none without an error") {
  const auto devices = cuda::devices();
  if (!cuda::may_be_there()) CHECK(devices.empty());
  for (std::size_t i = 0; i < devices.size(); ++i) {
    CHECK(devices[i].device == Device{Device::Kind::cuda, static_cast<int>(i)});
    CHECK(!devices[i].name.empty());
    CHECK(devices[i].compute_capability > 0);
    CHECK(devices[i].free <= devices[i].memory);
  }
  const std::string description = cuda::description();
  CAPTURE(description);
  if (!cuda::built())
    CHECK((description == "not built" && devices.empty()));
  else
    CHECK((description.find(", no device: ") != std::string::npos) == devices.empty());
}

TEST_CASE("a device that is not there is named, with those that are") {
  const int index = static_cast<int>(cuda::devices().size());
  const Device absent{Device::Kind::cuda, index};
  const std::string expected = no_such_device(index);
  const Matrix logits = Matrix::Zero(3, 2);
  Batch batch;
  batch.logits = logits;
  float out[3];
  const Energy detector;
  const auto check = [&](const std::string& message) {
    CHECK(message.substr(0, expected.size()) == expected);
    CHECK(message.find('\n') == std::string::npos);
  };
  check(message_of<std::runtime_error>([&] { kernels::open_cuda_queue(index); }));
  check(message_of<std::runtime_error>([&] { kernels::DeviceQueues queues(absent); }));
  check(message_of<std::runtime_error>(
      [&] { detector.score(batch, {.threads = 1, .device = absent}); }));
  check(message_of<std::runtime_error>([&] { cuda::score(detector, batch, out, absent); }));
  check(message_of<std::runtime_error>([&] { cuda::auroc(out, 3, out, 3, absent); }));
}

TEST_CASE("arrays of a device: what is wrong without any") {
  const Device cuda0{Device::Kind::cuda, 0};
  float out[1] = {};
  CHECK(message_of<std::invalid_argument>([&] { cuda::auroc(out, 1, out, 1, Device{}); }) ==
        "device has cpu, expected cuda:<index>");
  CHECK(message_of<std::invalid_argument>([&] { cuda::score(Energy(), {}, out, Device{}); }) ==
        "device has cpu, expected cuda:<index>");
  CHECK(message_of<std::invalid_argument>([&] { cuda::auroc(out, 0, out, 1, cuda0); }) ==
        "auroc: id has 0 scores, expected 1 or more");
  CHECK(message_of<std::invalid_argument>([&] { cuda::auroc(out, 1, out, 0, cuda0); }) ==
        "auroc: ood has 0 scores, expected 1 or more");
}
