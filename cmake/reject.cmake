# cmake -DCOMPILER=... -DSOURCE=... -DINCLUDE=... -P reject.cmake: see tests/reject/CMakeLists.txt.

# A regular expression may hold brackets and semicolons, which are syntax of a list: the lines are read one by one.
file(READ "${SOURCE}" rest)
set(count 0)
while(rest MATCHES "^// MUST NOT COMPILE: ([^\n]+)\n(.*)$")
    math(EXPR count "${count} + 1")
    set(wanted_${count} "${CMAKE_MATCH_1}")
    set(rest "${CMAKE_MATCH_2}")
endwhile()
cmake_path(GET SOURCE FILENAME name)
if(count EQUAL 0 AND NOT name STREQUAL "control.cpp")
    message(FATAL_ERROR "${SOURCE} does not begin with a line '// MUST NOT COMPILE: <regular expression>'")
endif()

execute_process(
    COMMAND "${COMPILER}" -std=c++20 -fsyntax-only "-I${INCLUDE}" "${SOURCE}"
    RESULT_VARIABLE result
    OUTPUT_VARIABLE output
    ERROR_VARIABLE output
)
if(count EQUAL 0)
    if(NOT result EQUAL 0)
        message(FATAL_ERROR "${name} must compile, and does not:\n${output}")
    endif()
    message(STATUS "${name} compiles, as it must")
    return()
endif()
if(result EQUAL 0)
    message(FATAL_ERROR "${name} compiles, and must not")
endif()
foreach(i RANGE 1 ${count})
    if(NOT output MATCHES "${wanted_${i}}")
        message(FATAL_ERROR "${name} does not compile, but the message does not match\n  ${wanted_${i}}\nin\n${output}")
    endif()
endforeach()
message(STATUS "${name} is refused with the message that it must give")
