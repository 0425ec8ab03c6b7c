# -O3 turns the loops into vectors; a square root that may set errno would stop it, and gives the same value.
foreach(isa scalar avx2 avx512)
  set_property(SOURCE ${PROJECT_SOURCE_DIR}/engine/optim/update_${isa}.cpp APPEND PROPERTY COMPILE_OPTIONS
               -O3 -fno-math-errno)
endforeach()
