# CMake's view of zig as the compiler of one target; both come in by the environment (cross/common.sh).
set(CMAKE_SYSTEM_NAME Linux)
string(REGEX REPLACE "-.*" "" processor "$ENV{CROSS_ZIG_TARGET}")
set(CMAKE_SYSTEM_PROCESSOR ${processor})
set(CMAKE_C_COMPILER $ENV{CROSS_BIN}/cc)
set(CMAKE_CXX_COMPILER $ENV{CROSS_BIN}/c++)
set(CMAKE_ASM_COMPILER $ENV{CROSS_BIN}/cc)
set(CMAKE_AR $ENV{CROSS_BIN}/ar)
set(CMAKE_RANLIB $ENV{CROSS_BIN}/ranlib)
# What is linked is Rust's business.
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
