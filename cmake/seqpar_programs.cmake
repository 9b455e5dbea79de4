# What every program of ours shares: warnings, sanitizers, the environment of an MPI run, and the way to declare one.

set(seqpar_warning_flags -Wall -Wextra -Wconversion -Wshadow -Werror)

add_library(seqpar_warnings INTERFACE)
target_compile_options(seqpar_warnings INTERFACE ${seqpar_warning_flags})

add_library(seqpar_sanitizers INTERFACE)
if(SEQPAR_SANITIZE)
    set(seqpar_sanitizer_flags "-fsanitize=${SEQPAR_SANITIZE}" -fno-omit-frame-pointer -fno-sanitize-recover=all)
    if(SEQPAR_SANITIZE MATCHES "address")
        # A third of the time of compiling goes to these, of addresses that are checked anyway. flash, which counts on alignment,
        # has that checked all the same.
        list(APPEND seqpar_sanitizer_flags -fno-sanitize=null,vptr,alignment)
    endif()
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
        # Instrumented code looks uninitialised to g++ where it is not: in std::regex, by way of xtensor.
        list(APPEND seqpar_sanitizer_flags -Wno-maybe-uninitialized)
    endif()
    # Lines are enough for a report: g++ takes twice as long to follow variables through instrumented code.
    target_compile_options(seqpar_sanitizers INTERFACE ${seqpar_sanitizer_flags} -g1)
    target_link_options(seqpar_sanitizers INTERFACE ${seqpar_sanitizer_flags})
endif()
if(SEQPAR_COVERAGE)
    target_compile_options(seqpar_sanitizers INTERFACE --coverage -fprofile-update=atomic -g1)
    target_link_options(seqpar_sanitizers INTERFACE --coverage)
endif()
set(seqpar_instrumented FALSE)
if(SEQPAR_SANITIZE OR SEQPAR_COVERAGE)
    set(seqpar_instrumented TRUE)
endif()
if(SEQPAR_FUZZ)
    if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
        message(FATAL_ERROR "SEQPAR_FUZZ needs libFuzzer, which is clang++'s: the compiler is ${CMAKE_CXX_COMPILER_ID}")
    endif()
    # What libFuzzer learns from; its main is linked by tests/fuzz alone.
    target_compile_options(seqpar_sanitizers INTERFACE -fsanitize=fuzzer-no-link)
endif()

if(SEQPAR_EMULATE_AMX)
    include_directories(BEFORE "${PROJECT_SOURCE_DIR}/tests/emulated")
endif()

# The kernel flash, for all instruction sets and types: compiled once, and not with each program. The projects in tests/consumers
# compile it as a user does who knows nothing of this.
file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/flash.cpp" CONTENT "#include <seqpar/kernel/flash/compiled.hpp>\n")
add_library(seqpar_flash STATIC "${PROJECT_BINARY_DIR}/flash.cpp")
target_link_libraries(seqpar_flash PUBLIC seqpar::seqpar PRIVATE seqpar_warnings seqpar_sanitizers)
target_compile_definitions(seqpar_flash INTERFACE SEQPAR_FLASH_ELSEWHERE)
if(SEQPAR_FUZZ)
    # The kernels take ten minutes to compile where every branch reports: the sanitizers' own builds look into them. An option
    # of the source, as the target's own come before those of seqpar_sanitizers, which would win.
    set_source_files_properties("${PROJECT_BINARY_DIR}/flash.cpp" PROPERTIES COMPILE_OPTIONS -fno-sanitize=all)
elseif(SEQPAR_SANITIZE MATCHES "address")
    # clang++ takes ten minutes as well to check its arithmetic; g++'s build does.
    set_source_files_properties(
        "${PROJECT_BINARY_DIR}/flash.cpp"
        PROPERTIES COMPILE_OPTIONS $<IF:$<CXX_COMPILER_ID:GNU>,-fsanitize=alignment,-fno-sanitize=undefined>
    )
endif()

# What a test runs under. OpenMPI refuses root and more ranks than cores unless told; a single host needs no network.
set(seqpar_mpi_environment
    OMPI_ALLOW_RUN_AS_ROOT=1
    OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    OMPI_MCA_rmaps_base_oversubscribe=1
    OMPI_MCA_hwloc_base_binding_policy=none
    OMPI_MCA_btl=self,vader
    OMPI_MCA_btl_vader_single_copy_mechanism=none
)
set(seqpar_sanitizer_environment)
set(seqpar_mpi_sanitizer_environment)
set(seqpar_launcher ${CMAKE_CROSSCOMPILING_EMULATOR})
if(SEQPAR_SANITIZE MATCHES "address")
    # Leaks of OpenMPI are told by the library that they go through, which is compiled without frame pointers: a stack that is
    # followed by tables takes half of a test's time, and is for the runs under MPI alone.
    set(seqpar_mpi_sanitizer_environment ASAN_OPTIONS=fast_unwind_on_malloc=0)
    set(seqpar_sanitizer_environment
        "LSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/cmake/lsan.supp:print_suppressions=0"
        UBSAN_OPTIONS=print_stacktrace=1
    )
elseif(SEQPAR_SANITIZE MATCHES "thread")
    set(seqpar_sanitizer_environment
        "TSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/cmake/tsan.supp:ignore_noninstrumented_modules=1"
    )
    # ThreadSanitizer of these compilers stops on a memory layout that newer kernels draw at random.
    find_program(SEQPAR_SETARCH setarch)
    mark_as_advanced(SEQPAR_SETARCH)
    if(SEQPAR_SETARCH)
        set(seqpar_launcher "${SEQPAR_SETARCH}" --addr-no-randomize)
    endif()
endif()

# seqpar_needs(<file> <variable>): the optional targets that a source's own includes ask for, as a list of names.
function(seqpar_needs file variable)
    set(needs)
    file(STRINGS "${file}" lines REGEX "^#include [<\"](seqpar/|xtensor/|boost/mpi|mpi\\.h|Random123/|omp\\.h|simgrid/|xbt/)")
    if(lines MATCHES "seqpar/backend/xtensor\\.hpp|xtensor/")
        list(APPEND needs xtensor)
    endif()
    if(lines MATCHES "seqpar/comm/mpi\\.hpp|boost/mpi|mpi\\.h[>\"]")
        list(APPEND needs mpi)
    endif()
    if(lines MATCHES "seqpar/score/dropout\\.hpp|Random123/")
        list(APPEND needs random123)
    endif()
    if(lines MATCHES "seqpar/core/openmp_executor\\.hpp|omp\\.h[>\"]")
        list(APPEND needs openmp)
    endif()
    if(lines MATCHES "seqpar/(comm/simgrid[./]|planning/simulate\\.hpp)|[<\"](simgrid|xbt)/")
        list(APPEND needs simgrid)
    endif()
    set(${variable} "${needs}" PARENT_SCOPE)
endfunction()

# seqpar_program(<target> SOURCES <file>... [NEEDS xtensor mpi] [LIBRARIES <target>...] [OUTPUT <name>] [DIRECTORY <dir>])
# An executable of ours. Where an optional component in NEEDS is not there, it makes nothing and says so.
function(seqpar_program target)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "OUTPUT;DIRECTORY" "SOURCES;NEEDS;LIBRARIES")
    foreach(need IN LISTS arg_NEEDS)
        if(NOT TARGET seqpar::${need})
            message(STATUS "seqpar: without ${target}: ${seqpar_${need}_missing}")
            return()
        endif()
    endforeach()
    add_executable(${target} ${arg_SOURCES})
    target_link_libraries(${target} PRIVATE seqpar_flash ${arg_LIBRARIES} seqpar_warnings seqpar_sanitizers)
    foreach(need IN LISTS arg_NEEDS)
        target_link_libraries(${target} PRIVATE seqpar::${need})
    endforeach()
    if(arg_OUTPUT)
        set_target_properties(${target} PROPERTIES OUTPUT_NAME "${arg_OUTPUT}")
    endif()
    if(arg_DIRECTORY)
        set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${arg_DIRECTORY}")
    endif()
endfunction()

# seqpar_add_run(<test name> TARGET <target> [RANKS <n>] [LABELS <label>...] [TIMEOUT <s>] [PROCESSORS <n>] [ARGUMENTS ...])
# A run of a program as a test; with RANKS, under mpirun. Passes on exit status 0.
function(seqpar_add_run name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "TARGET;RANKS;TIMEOUT;PROCESSORS" "LABELS;ARGUMENTS")
    if(NOT arg_LABELS)
        set(arg_LABELS quick)
    endif()
    if(NOT arg_TIMEOUT)
        set(arg_TIMEOUT 150)
    endif()
    if(seqpar_instrumented OR CMAKE_CROSSCOMPILING_EMULATOR)
        math(EXPR arg_TIMEOUT "${arg_TIMEOUT} * 10")
    endif()
    set(environment ${seqpar_sanitizer_environment})
    if(arg_RANKS)
        add_test(
            NAME ${name}
            COMMAND
                "${MPIEXEC_EXECUTABLE}" ${MPIEXEC_NUMPROC_FLAG} ${arg_RANKS} ${MPIEXEC_PREFLAGS} ${seqpar_launcher}
                $<TARGET_FILE:${arg_TARGET}> ${MPIEXEC_POSTFLAGS} ${arg_ARGUMENTS}
        )
        # mpirun's own limit comes first: it ends the ranks and says so, while ctest's would leave them behind.
        list(
            APPEND environment
            ${seqpar_mpi_environment} ${seqpar_mpi_sanitizer_environment} MPIEXEC_TIMEOUT=${arg_TIMEOUT}
        )
        math(EXPR arg_TIMEOUT "${arg_TIMEOUT} + 10")
        set(arg_PROCESSORS ${arg_RANKS})
    else()
        add_test(NAME ${name} COMMAND ${seqpar_launcher} $<TARGET_FILE:${arg_TARGET}> ${arg_ARGUMENTS})
    endif()
    if(NOT arg_PROCESSORS)
        set(arg_PROCESSORS 1)
    endif()
    set_tests_properties(
        ${name}
        PROPERTIES
            LABELS "${arg_LABELS}"
            TIMEOUT ${arg_TIMEOUT}
            PROCESSORS ${arg_PROCESSORS}
            ENVIRONMENT "${environment}"
    )
endfunction()
