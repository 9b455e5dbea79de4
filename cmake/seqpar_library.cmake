# The library: seqpar::seqpar (standard library and threads), and one target for each optional third party that is found.
# Warnings, optimisation and anything else that is the user's choice stay off these targets.

# A project that adds this one as a subdirectory must see the targets that seqpar's link to.
set(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL ON)

find_package(Threads REQUIRED)

file(GLOB_RECURSE seqpar_headers CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/include/seqpar/*.hpp")

add_library(seqpar INTERFACE)
add_library(seqpar::seqpar ALIAS seqpar)
target_compile_features(seqpar INTERFACE cxx_std_20)
target_link_libraries(seqpar INTERFACE Threads::Threads)
target_sources(
    seqpar
    INTERFACE FILE_SET HEADERS BASE_DIRS "${PROJECT_SOURCE_DIR}/include" FILES ${seqpar_headers}
)

# The optional parts are made by the same file that an installed package uses.
include("${CMAKE_CURRENT_LIST_DIR}/seqpar_components.cmake")
foreach(component IN LISTS seqpar_optional_components)
    seqpar_component(${component})
    if(NOT seqpar_${component}_FOUND AND PROJECT_IS_TOP_LEVEL)
        message(STATUS "seqpar: without seqpar::${component}: ${seqpar_${component}_missing}")
    endif()
endforeach()
