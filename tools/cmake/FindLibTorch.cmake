# LibTorch as two libraries, torch_cpu and c10. The wheel's own TorchConfig.cmake and libtorch.so drag CUDA in.
# Looked for in FTENGINE_LIBTORCH (variable or environment), then CMAKE_PREFIX_PATH, then the cache that tools/setup fills.
set(FTENGINE_LIBTORCH_VERSION 2.11.0)
set(_cache $ENV{FTENGINE_CACHE})
if(NOT _cache)
  set(_cache $ENV{HOME}/.cache/ftengine)
endif()
find_path(LibTorch_INCLUDE_DIR ATen/core/Tensor.h
  HINTS ${FTENGINE_LIBTORCH} $ENV{FTENGINE_LIBTORCH} ${CMAKE_PREFIX_PATH} ${_cache}/libtorch-${FTENGINE_LIBTORCH_VERSION}/torch
  PATH_SUFFIXES include torch/include NO_DEFAULT_PATH)
get_filename_component(_root "${LibTorch_INCLUDE_DIR}" DIRECTORY)
find_library(LibTorch_CPU torch_cpu HINTS ${_root}/lib NO_DEFAULT_PATH)
find_library(LibTorch_C10 c10 HINTS ${_root}/lib NO_DEFAULT_PATH)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch REQUIRED_VARS LibTorch_INCLUDE_DIR LibTorch_CPU LibTorch_C10
  REASON_FAILURE_MESSAGE "run tools/setup, or set FTENGINE_LIBTORCH to a LibTorch ${FTENGINE_LIBTORCH_VERSION} (the torch/ folder of a wheel will do)")
if(LibTorch_FOUND AND NOT TARGET LibTorch::cpu)
  set(LibTorch_LIB_DIR ${_root}/lib)
  add_library(LibTorch::cpu INTERFACE IMPORTED)
  target_include_directories(LibTorch::cpu SYSTEM INTERFACE ${LibTorch_INCLUDE_DIR} ${LibTorch_INCLUDE_DIR}/torch/csrc/api/include)
  target_link_libraries(LibTorch::cpu INTERFACE ${LibTorch_CPU} ${LibTorch_C10})
  target_link_options(LibTorch::cpu INTERFACE -Wl,-rpath,${LibTorch_LIB_DIR} -Wl,--allow-shlib-undefined)
  # ProcessGroupGloo.hpp includes Gloo's headers (Debian's libgloo-dev); the code is in libtorch_cpu.
  target_compile_definitions(LibTorch::cpu INTERFACE USE_C10D_GLOO)
endif()
