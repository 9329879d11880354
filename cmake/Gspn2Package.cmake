# Installs the package that find_package(gspn2) finds: the targets that this build has, and where
# the plugin libraries lie. Included once, by the top-level project.
include(CMakePackageConfigHelpers)
set(GSPN2_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/gspn2)
set(GSPN2_LIBRARY_DIR "${CMAKE_INSTALL_LIBDIR}")
if(GSPN2_KERNELS_INSTALL_LIBDIR)
  set(GSPN2_LIBRARY_DIR "${GSPN2_KERNELS_INSTALL_LIBDIR}")
endif()
configure_package_config_file(
  ${CMAKE_CURRENT_LIST_DIR}/gspn2-config.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/gspn2-config.cmake
  INSTALL_DESTINATION ${GSPN2_PACKAGE_DIR}
  PATH_VARS GSPN2_LIBRARY_DIR
  NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file(
  ${CMAKE_CURRENT_BINARY_DIR}/gspn2-config-version.cmake
  VERSION ${PROJECT_VERSION}
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/gspn2-config.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/gspn2-config-version.cmake
        DESTINATION ${GSPN2_PACKAGE_DIR} COMPONENT package)
install(EXPORT gspn2Targets FILE gspn2-targets.cmake NAMESPACE gspn2::
        DESTINATION ${GSPN2_PACKAGE_DIR} COMPONENT package)
