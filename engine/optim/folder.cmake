target_link_libraries(ft_optim PUBLIC dep::pcre2)
# -O3 turns the loops into vectors; a square root that may set errno would stop it, and gives the same value.
foreach(isa scalar avx2 avx512)
  set_property(SOURCE ${PROJECT_SOURCE_DIR}/engine/optim/update_${isa}.cpp APPEND PROPERTY COMPILE_OPTIONS
               -O3 -fno-math-errno)
endforeach()
# GCC 12's own AVX-512 intrinsics start from undefined registers, which its flow analysis then reports.
set_property(SOURCE ${PROJECT_SOURCE_DIR}/engine/optim/adamw8bit_avx512.cpp APPEND PROPERTY COMPILE_OPTIONS
             -mavx512vbmi -Wno-uninitialized -Wno-maybe-uninitialized)
