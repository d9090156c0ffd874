# Code for NVIDIA GPUs, in the place of src/kernels/cuda/stub.cc: for those of compute capability 8.x and 9.x, and as
# PTX for later ones. The runtime is linked into the library; cuBLAS is the toolkit's own.
find_package(CUDAToolkit 12 QUIET)
if(NOT CUDAToolkit_FOUND OR NOT CUDAToolkit_NVCC_EXECUTABLE)
  message(FATAL_ERROR "OOD_CUDA needs the CUDA toolkit, 12 or later, with nvcc and cuBLAS: "
    "https://developer.nvidia.com/cuda-downloads; CUDAToolkit_ROOT says where it is")
endif()
foreach(library cudart_static cublas)
  if(NOT TARGET CUDA::${library})
    message(FATAL_ERROR "OOD_CUDA needs ${library}, which is not in ${CUDAToolkit_LIBRARY_DIR}")
  endif()
endforeach()
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 90-virtual)
endif()
if(NOT DEFINED CMAKE_CUDA_COMPILER)
  set(CMAKE_CUDA_COMPILER "${CUDAToolkit_NVCC_EXECUTABLE}")
endif()
enable_language(CUDA)

# As for other targets, products and sums are rounded each: nvcc would fuse them. Eigen is for the host.
function(ood_cuda_sources target)
  target_sources(${target} PRIVATE ${ARGN})
  # Of targets that are older than the language, CMake sets neither the architectures nor the standard.
  set_target_properties(${target} PROPERTIES CUDA_ARCHITECTURES "${CMAKE_CUDA_ARCHITECTURES}")
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20 -fmad=false --extended-lambda -Xcompiler=-Wall,-Wextra>)
  target_compile_definitions(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:EIGEN_NO_CUDA>)
  if(OOD_WARNINGS_AS_ERRORS)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>)
  endif()
  target_link_libraries(${target} PRIVATE CUDA::cudart_static CUDA::cublas)
endfunction()

ood_cuda_sources(ood
  src/kernels/cuda/copies.cu
  src/kernels/cuda/devices.cc
  src/kernels/cuda/elements.cu
  src/kernels/cuda/epilogues.cu
  src/kernels/cuda/margins.cu
  src/kernels/cuda/nearest.cu
  src/kernels/cuda/norms.cu
  src/kernels/cuda/queue.cc
  src/kernels/cuda/ranks.cu
  src/kernels/cuda/rows.cu
  src/kernels/cuda/runtime.cc
  src/kernels/cuda/shaping.cu)
