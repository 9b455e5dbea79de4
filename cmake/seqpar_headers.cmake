# Every header of include/ and bench/support/ alone, under each compiler that this machine has: the tests headers.<compiler>.
# A header is compiled again when it, or one that it includes, has changed; its own compiler messages are the result. All
# programs are compiled by the build's own compiler, so that the other one, if there is one, is the quick test; target
# seqpar_headers is its.

# The build's own compiler goes by its family's name too, whatever it is called: c++, g++-12.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    set(seqpar_compilers gcc clang)
    set(seqpar_compiler_gcc "${CMAKE_CXX_COMPILER}")
    find_program(SEQPAR_OTHER_COMPILER clang++)
    set(seqpar_compiler_clang "${SEQPAR_OTHER_COMPILER}")
else()
    set(seqpar_compilers clang gcc)
    set(seqpar_compiler_clang "${CMAKE_CXX_COMPILER}")
    find_program(SEQPAR_OTHER_COMPILER g++)
    set(seqpar_compiler_gcc "${SEQPAR_OTHER_COMPILER}")
endif()
mark_as_advanced(SEQPAR_OTHER_COMPILER)
if(NOT SEQPAR_OTHER_COMPILER)
    list(REMOVE_AT seqpar_compilers 1)
endif()

set(seqpar_include_flags "-I${PROJECT_SOURCE_DIR}/include")
foreach(component IN LISTS seqpar_optional_components)
    if(TARGET seqpar::${component})
        set(directories $<TARGET_PROPERTY:seqpar::${component},INTERFACE_INCLUDE_DIRECTORIES>)
        set(definitions $<TARGET_PROPERTY:seqpar::${component},INTERFACE_COMPILE_DEFINITIONS>)
        # /usr/include as a system directory would come before the compiler's own headers.
        set(directories $<FILTER:${directories},EXCLUDE,^/usr/include$|^${PROJECT_SOURCE_DIR}/include$>)
        list(APPEND seqpar_${component}_flags
            "$<$<BOOL:${directories}>:-isystem$<JOIN:${directories},$<SEMICOLON>-isystem>>"
            "$<$<BOOL:${definitions}>:-D$<JOIN:${definitions},$<SEMICOLON>-D>>"
        )
    endif()
endforeach()
list(APPEND seqpar_openmp_flags -fopenmp)

file(GLOB bench_headers CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/bench/support/*.hpp")

add_custom_target(seqpar_headers)
list(GET seqpar_compilers -1 seqpar_quick_compiler)
foreach(compiler IN LISTS seqpar_compilers)
    set(stamps)
    # Debian's clang comes without OpenMP's header.
    execute_process(
        COMMAND "${seqpar_compiler_${compiler}}" -fopenmp -fsyntax-only -include omp.h -x c++ /dev/null
        RESULT_VARIABLE without_openmp OUTPUT_QUIET ERROR_QUIET
    )
    foreach(header IN LISTS seqpar_headers bench_headers)
        cmake_path(RELATIVE_PATH header BASE_DIRECTORY "${PROJECT_SOURCE_DIR}" OUTPUT_VARIABLE relative)
        seqpar_needs("${header}" needs)
        set(flags ${seqpar_include_flags})
        set(missing FALSE)
        foreach(need IN LISTS needs)
            if(need STREQUAL "openmp" AND without_openmp)
                set(missing TRUE)
            elseif(TARGET seqpar::${need})
                list(APPEND flags ${seqpar_${need}_flags})
            else()
                set(missing TRUE)
            endif()
        endforeach()
        if(missing)
            continue()
        endif()
        string(REGEX REPLACE "[/.]" "_" stamp "${relative}")
        set(stamp "${PROJECT_BINARY_DIR}/headers/${compiler}/${stamp}")
        add_custom_command(
            OUTPUT "${stamp}"
            COMMAND
                "${seqpar_compiler_${compiler}}" -std=c++20 -fsyntax-only ${seqpar_warning_flags} "${flags}"
                -MMD -MF "${stamp}.d" -MT "${stamp}" -include "${header}" -x c++ /dev/null
            COMMAND "${CMAKE_COMMAND}" -E touch "${stamp}"
            DEPENDS "${header}"
            DEPFILE "${stamp}.d"
            COMMENT "${compiler} ${relative}"
            COMMAND_EXPAND_LISTS
            VERBATIM
        )
        list(APPEND stamps "${stamp}")
    endforeach()
    file(MAKE_DIRECTORY "${PROJECT_BINARY_DIR}/headers/${compiler}")
    add_custom_target(seqpar_headers_${compiler} DEPENDS ${stamps})
    if(compiler STREQUAL seqpar_quick_compiler)
        add_dependencies(seqpar_headers seqpar_headers_${compiler})
        set(label quick)
    else()
        set(label slow)
    endif()
    add_test(
        NAME headers.${compiler}
        COMMAND "${CMAKE_COMMAND}" --build "${PROJECT_BINARY_DIR}" --target seqpar_headers_${compiler}
    )
    # Two builds at once in one directory would overwrite each other's log.
    set_tests_properties(headers.${compiler} PROPERTIES LABELS ${label} TIMEOUT 900 RESOURCE_LOCK build_directory)
endforeach()
