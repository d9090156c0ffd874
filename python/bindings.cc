#include "bindings.h"

#include "cli/commands.h"
#include "ood/devices.h"
#include "ood/exec.h"
#include "ood/kernels.h"
#include "ood/version.h"

namespace ood::python {

namespace {

/// `ood ARGUMENTS...` in this process.
int run_command(const std::vector<py::bytes>& arguments) {
  std::vector<std::string> texts = {"ood"};
  texts.insert(texts.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  py::gil_scoped_release release;
  return cli::run_command(static_cast<int>(texts.size()), pointers.data());
}

py::list devices() {
  py::list list;
  for (const DeviceInfo& info : cuda::devices())
    list.append(
        py::make_tuple(info.device.name(), info.name,
                       py::make_tuple(info.compute_capability / 10, info.compute_capability % 10),
                       info.memory, info.free));
  return list;
}

}  // namespace

PYBIND11_MODULE(_ood, module) {
  module.doc() = "The compiled part of ood. Use the package.";
  module.attr("__version__") = OOD_VERSION;
  bind_datasets(module);
  bind_detectors(module);
  bind_partitions(module);
  bind_reports(module);
  bind_metrics(module);
  module.def("run_command", &run_command, py::arg("arguments"));
  module.def(
      "thread_count", [](int threads) { return thread_count({threads}); }, py::arg("threads"));
  module.def(
      "device_name", [](const std::string& device) { return Device::parse(device).name(); },
      py::arg("device"));
  module.def("devices", &devices);
  module.def("simd_target", [] { return std::string(kernels::simd_target()); });
}

}  // namespace ood::python
