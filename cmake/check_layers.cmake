# Who may include whom, and what the library never does. Prints one line for each violation and fails
# if there is one.
#
#   cmake [-DROOT=<tree>] -P cmake/check_layers.cmake

cmake_minimum_required(VERSION 3.25)
if(NOT ROOT)
  set(ROOT "${CMAKE_CURRENT_LIST_DIR}/..")
endif()
file(REAL_PATH "${ROOT}" ROOT)
set(violations 0)

macro(violation text)
  message("${file}: ${text}")
  math(EXPR violations "${violations} + 1")
endmacro()

# The lower layers first; none includes a later one. A regular expression for each, over the path below
# include/ood/ or src/ without the extension: a source stands in the layer of its header. Every public
# header has a layer; other files of src/ may have none.
set(layers
  "matrix"
  "batch|devices|exec|fields|log_softmax|logistic_regression|random|row_sample|scratch|serialize|weibull_tail|weight_distances"
  "activation_shaping|copies|kernels|kernels/.*|linear_head|merge_tree|nearest_mean|neighbour_search|partitions|principal_space|reduce|residual_space|spectrum|stream"
  "accumulators/.*"
  "curves|drift|importance|intervals|metrics|quantiles|ranking|score_bins|threshold"
  "detector|detector_device|cuda"
  "members|score_combination"
  "detectors/.*"
  "detectors"
  "registry|dataset[a-z_]*|hdf5_[a-z_]+|model_file[a-z_]*|synthetic"
  "search"
  "report|report_builder|report_page"
  "evaluate"
  "baseline|fit_model"
  "gate[a-z_]*")

# Sets `result` to the layer's number, or to -1.
function(layer_of path result)
  string(REGEX REPLACE "^(include/ood|src|ood)/|\\.[a-z]+$" "" stem "${path}")
  set(number 0)
  foreach(pattern IN LISTS layers)
    if(stem MATCHES "^(${pattern})$")
      set(${result} ${number} PARENT_SCOPE)
      return()
    endif()
    math(EXPR number "${number} + 1")
  endforeach()
  set(${result} -1 PARENT_SCOPE)
endfunction()

macro(check_include)
  # `include` as written, with its <> or "", and `header`, its path alone
  if(file MATCHES "^include/")
    if(include MATCHES "^\"" AND NOT header MATCHES "^ood/")
      violation("includes ${include}; a public header includes <...> and \"ood/...\" alone")
    elseif(header MATCHES "(^|/)(src|\\.\\.)/")
      violation("includes ${include}, which is not public")
    endif()
  endif()
  if(file MATCHES "^include/ood/detectors/" AND header MATCHES "^ood/detectors/")
    violation("includes ${include}, another detector")
  endif()
  if(header MATCHES "^(hdf5.*|H5.*)\\.h$"
      AND NOT file MATCHES "^src/(hdf5_|dataset|model_file)[a-z_]*\\.[a-z]+$")
    violation("includes ${include}; HDF5 is for src/hdf5_*, src/dataset* and src/model_file*")
  endif()
  if(header MATCHES "^(oneapi/)?dnnl" AND NOT file STREQUAL "src/kernels/matmul.cc")
    violation("includes ${include}; oneDNN is for src/kernels/matmul.cc")
  endif()
  if(header MATCHES "^(cuda|cublas|cub/|thrust/)[a-zA-Z_0-9/.]*$" AND NOT file MATCHES "^src/kernels/cuda/")
    violation("includes ${include}; CUDA is for src/kernels/cuda/")
  endif()
  if(header STREQUAL "omp.h" AND NOT file STREQUAL "src/parallel.cc")
    violation("includes ${include}; OpenMP is for src/parallel.cc")
  endif()
  layer_of("${header}" theirs)
  if(ours GREATER -1 AND theirs GREATER ours)
    violation("includes ${include}, a higher layer")
  endif()
endmacro()

set(streams "(std::)?(cout|cerr|clog)[^A-Za-z0-9_]")
set(functions "(std::)?(printf|fprintf|puts|fputs|abort|exit|_Exit|quick_exit)[ \t]*\\(")
string(APPEND functions "|(fmt|std)::print(ln)?[ \t]*\\(")

file(GLOB_RECURSE files RELATIVE "${ROOT}" "${ROOT}/include/*" "${ROOT}/src/*")
foreach(file IN LISTS files)
  file(READ "${ROOT}/${file}" text)
  # Brackets and semicolons would make a mess of CMake's lists; comments may say anything.
  string(REGEX REPLACE "[][;]" " " text "${text}")
  string(REGEX REPLACE "//[^\n]*" "" text "\n${text}")

  layer_of("${file}" ours)
  if(ours EQUAL -1 AND file MATCHES "^include/")
    violation("no layer; give it one in cmake/check_layers.cmake")
  endif()
  string(REGEX MATCHALL "\n[ \t]*#[ \t]*include[ \t]*[<\"][^>\"\n]+[>\"]" lines "${text}")
  foreach(line IN LISTS lines)
    string(REGEX REPLACE "^[^<\"]+" "" include "${line}")
    string(REGEX REPLACE "[<>\"]" "" header "${include}")
    check_include()
  endforeach()

  if(NOT file STREQUAL "src/parallel.cc" AND text MATCHES "#[ \t]*pragma[ \t]+omp")
    violation("#pragma omp; threads are for src/parallel.cc")
  endif()
  if(NOT file MATCHES "^src/cli/")
    string(REGEX MATCHALL "[^A-Za-z0-9_](${streams}|${functions})" calls "${text}")
    foreach(call IN LISTS calls)
      string(REGEX MATCH "[a-zA-Z_]+(::[a-z]+)?" call "${call}")
      violation("${call}; the library neither prints nor ends the program")
    endforeach()
  endif()
endforeach()

# A file's name says what is in it.
file(GLOB_RECURSE files RELATIVE "${ROOT}" "${ROOT}/bench/*" "${ROOT}/cmake/*" "${ROOT}/examples/*"
  "${ROOT}/include/*" "${ROOT}/python/*" "${ROOT}/scripts/*" "${ROOT}/src/*" "${ROOT}/tests/*")
list(FILTER files EXCLUDE REGEX "^tests/layers_bad/")  # the test of this script
foreach(file IN LISTS files)
  if(file MATCHES "(^|/)(utils?|common|helpers?|misc|base)(\\.[^/]*)?$")
    violation("a name that says nothing of its content")
  endif()
endforeach()

if(violations GREATER 0)
  message(FATAL_ERROR "${violations} violations")
endif()
