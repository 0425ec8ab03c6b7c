# The fold's loops are left to the compiler to vectorise.
set_property(SOURCE ${PROJECT_SOURCE_DIR}/engine/merge/fold.cpp APPEND PROPERTY COMPILE_OPTIONS -O3)
