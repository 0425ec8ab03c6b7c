# A square root that may set errno is not turned into vectors; the value is the same.
set_property(SOURCE ${PROJECT_SOURCE_DIR}/engine/optim/update_scalar.cpp ${PROJECT_SOURCE_DIR}/engine/optim/update_avx2.cpp
             ${PROJECT_SOURCE_DIR}/engine/optim/update_avx512.cpp APPEND PROPERTY COMPILE_OPTIONS -fno-math-errno)
