# GCC 12's own AVX-512 intrinsics start from undefined registers, which its flow analysis then reports.
set_property(SOURCE ${PROJECT_SOURCE_DIR}/engine/quant/nf4_avx512.cpp
             ${PROJECT_SOURCE_DIR}/engine/quant/block8_avx512.cpp APPEND PROPERTY COMPILE_OPTIONS
             -Wno-uninitialized -Wno-maybe-uninitialized)
