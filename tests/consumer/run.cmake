# Installs the build tree BUILD_DIR below SCRATCH_DIR, then configures, builds and runs the project
# beside this file against that installation, with the compiler CXX and the generator GENERATOR.

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE result OUTPUT_VARIABLE output
    ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "${command}: ${result}\n${output}")
  endif()
endfunction()

set(prefix "${SCRATCH_DIR}/prefix")
set(consumer "${SCRATCH_DIR}/build")
unset(ENV{DESTDIR})
file(REMOVE_RECURSE "${SCRATCH_DIR}")

run("${CMAKE_COMMAND}" --install "${BUILD_DIR}" --prefix "${prefix}")
if(EXISTS "${prefix}/bin/ood")
  run("${prefix}/bin/ood" --help)
endif()
run("${CMAKE_COMMAND}" -S "${CMAKE_CURRENT_LIST_DIR}" -B "${consumer}" -G "${GENERATOR}"
  "-DCMAKE_CXX_COMPILER=${CXX}" "-DCMAKE_PREFIX_PATH=${prefix}" -DCMAKE_BUILD_TYPE=Release)
run("${CMAKE_COMMAND}" --build "${consumer}")
run("${consumer}/consumer")

# and the example that is a project of its own
set(serve "${SCRATCH_DIR}/serve")
run("${CMAKE_COMMAND}" -S "${CMAKE_CURRENT_LIST_DIR}/../../examples/serve" -B "${serve}"
  -G "${GENERATOR}" "-DCMAKE_CXX_COMPILER=${CXX}" "-DCMAKE_PREFIX_PATH=${prefix}"
  -DCMAKE_BUILD_TYPE=Release)
run("${CMAKE_COMMAND}" --build "${serve}")
run("${serve}/ood_serve" --help)
