# A toolchain: compiles for Arm on any other machine, and runs what it made there by emulation. Debian:
# g++-aarch64-linux-gnu, qemu-user. Libraries that are more than headers are not there for Arm, and are done without.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CXX_FLAGS_INIT -Wno-psabi) # g++ tells how arguments were passed before its version 10
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)
