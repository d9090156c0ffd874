# `cmake --install`: the library with its headers, the command, and the CMake package that
# find_package(ood) reads.
include(CMakePackageConfigHelpers)

set(OOD_CMAKE_DIR "${CMAKE_INSTALL_LIBDIR}/cmake/ood")

install(TARGETS ood EXPORT oodTargets)
install(DIRECTORY include/ood DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
  FILES_MATCHING PATTERN "*.h")
install(FILES "${PROJECT_BINARY_DIR}/include/ood/version.h"
  DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/ood")
install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DOCDIR}")

if(TARGET ood_cli)
  # The command finds a shared library beside it wherever both are put.
  file(RELATIVE_PATH bin_to_lib
    "${CMAKE_INSTALL_FULL_BINDIR}" "${CMAKE_INSTALL_FULL_LIBDIR}")
  set_target_properties(ood_cli PROPERTIES INSTALL_RPATH "$ORIGIN/${bin_to_lib}")
  install(TARGETS ood_cli)
endif()

install(EXPORT oodTargets NAMESPACE ood:: DESTINATION "${OOD_CMAKE_DIR}")
configure_package_config_file(cmake/oodConfig.cmake.in "${PROJECT_BINARY_DIR}/oodConfig.cmake"
  INSTALL_DESTINATION "${OOD_CMAKE_DIR}" NO_SET_AND_CHECK_MACRO)
# Below 1.0 a minor version may change the interface.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/oodConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES
  "${PROJECT_BINARY_DIR}/oodConfig.cmake" "${PROJECT_BINARY_DIR}/oodConfigVersion.cmake"
  DESTINATION "${OOD_CMAKE_DIR}")
