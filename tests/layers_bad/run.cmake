# Runs the layer check on the tree beside this file, which breaks every rule: it has to fail, and to
# say what expected.txt says.
execute_process(
  COMMAND "${CMAKE_COMMAND}" "-DROOT=${CMAKE_CURRENT_LIST_DIR}"
    -P "${CMAKE_CURRENT_LIST_DIR}/../../cmake/check_layers.cmake"
  RESULT_VARIABLE result ERROR_VARIABLE output)
file(READ "${CMAKE_CURRENT_LIST_DIR}/expected.txt" expected)
string(FIND "${output}" "CMake Error" end)
string(SUBSTRING "${output}" 0 ${end} output)
if(result EQUAL 0 OR NOT output STREQUAL expected)
  message(FATAL_ERROR "the check ended with ${result} and said\n${output}")
endif()
