# Installs the headers and a package that find_package(seqpar COMPONENTS core xtensor mpi random123 openmp simgrid) finds.

include(CMakePackageConfigHelpers)

set(seqpar_package_dir "${CMAKE_INSTALL_DATADIR}/cmake/seqpar")

install(TARGETS seqpar EXPORT seqpar_targets FILE_SET HEADERS COMPONENT development)
install(
    EXPORT seqpar_targets
    FILE seqpar-targets.cmake
    NAMESPACE seqpar::
    DESTINATION "${seqpar_package_dir}"
    COMPONENT development
)
configure_package_config_file(
    "${PROJECT_SOURCE_DIR}/cmake/seqpar-config.cmake.in" "${PROJECT_BINARY_DIR}/seqpar-config.cmake"
    INSTALL_DESTINATION "${seqpar_package_dir}"
    NO_SET_AND_CHECK_MACRO
)
write_basic_package_version_file(
    "${PROJECT_BINARY_DIR}/seqpar-config-version.cmake"
    COMPATIBILITY SameMinorVersion
    ARCH_INDEPENDENT
)
install(
    FILES
        "${PROJECT_BINARY_DIR}/seqpar-config.cmake"
        "${PROJECT_BINARY_DIR}/seqpar-config-version.cmake"
        "${PROJECT_SOURCE_DIR}/cmake/seqpar_components.cmake"
    DESTINATION "${seqpar_package_dir}"
    COMPONENT development
)
