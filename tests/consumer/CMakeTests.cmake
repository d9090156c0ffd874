# Slow: it compiles. Nor would the program of a sanitized library link without the same sanitizers.
add_test(NAME consumer
  COMMAND "${CMAKE_COMMAND}"
    "-DBUILD_DIR=${PROJECT_BINARY_DIR}"
    "-DSCRATCH_DIR=${CMAKE_CURRENT_BINARY_DIR}/consumer"
    "-DGENERATOR=${CMAKE_GENERATOR}"
    "-DCXX=${CMAKE_CXX_COMPILER}"
    -P "${PROJECT_SOURCE_DIR}/tests/consumer/run.cmake")
set_tests_properties(consumer PROPERTIES LABELS slow)
