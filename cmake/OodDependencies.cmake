# Every dependency is a package of the system (Debian 12 has them all); nothing is downloaded.
# A missing one ends the configuration with one line that says how to get it.

macro(ood_require package debian_package)
  find_package(${package} ${ARGN} QUIET)
  if(NOT ${package}_FOUND)
    message(FATAL_ERROR
      "ood needs ${package}: run scripts/install-deps, or apt-get install ${debian_package}")
  endif()
endmacro()

ood_require(Eigen3 libeigen3-dev 3.4 NO_MODULE)
ood_require(xtensor libxtensor-dev)
ood_require(fmt libfmt-dev)
ood_require(hwy libhwy-dev)
ood_require(dnnl "libdnnl-dev ocl-icd-opencl-dev")  # its package looks for OpenCL
ood_require(nlohmann_json nlohmann-json3-dev)
ood_require(OpenMP "g++ (or libomp-14-dev for clang)" COMPONENTS CXX)
set(HDF5_PREFER_PARALLEL OFF)
enable_language(C)  # FindHDF5 and FindThreads ask a C compiler
ood_require(HDF5 libhdf5-dev COMPONENTS C)
if(NOT TARGET hdf5::hdf5)
  message(FATAL_ERROR "ood needs the HDF5 C library: apt-get install libhdf5-dev")
endif()
ood_require(ZLIB zlib1g-dev)
find_path(OOD_RANDOM123_INCLUDE_DIR Random123/philox.h)  # headers alone, no CMake package
if(NOT OOD_RANDOM123_INCLUDE_DIR)
  message(FATAL_ERROR
    "ood needs Random123: run scripts/install-deps, or apt-get install librandom123-dev")
endif()
find_path(OOD_XXHASH_INCLUDE_DIR xxhash.h)
if(NOT OOD_XXHASH_INCLUDE_DIR)
  message(FATAL_ERROR "ood needs xxHash: run scripts/install-deps, or apt-get install libxxhash-dev")
endif()
# Built into the library, which writes it into every HTML report
find_file(OOD_CHART_JS chart.min.js PATHS /usr/share/javascript/chart.js)
if(NOT OOD_CHART_JS)
  message(FATAL_ERROR
    "ood needs Chart.js: run scripts/install-deps, or apt-get install libjs-chart.js")
endif()
if(OOD_BUILD_CLI OR OOD_BUILD_EXAMPLES)
  ood_require(CLI11 libcli11-dev)
  ood_require(tomlplusplus libtomlplusplus-dev)
endif()
if(OOD_BUILD_TESTS)
  ood_require(doctest doctest-dev)
endif()
if(OOD_BUILD_BENCH)
  ood_require(benchmark libbenchmark-dev)
endif()
