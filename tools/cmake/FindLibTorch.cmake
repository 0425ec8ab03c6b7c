# LibTorch as two libraries, torch_cpu and c10. The wheel's own TorchConfig.cmake and libtorch.so drag CUDA in.
# Looked for in FTENGINE_LIBTORCH (variable or environment), then CMAKE_PREFIX_PATH (likewise), then the cache that
# tools/setup fills. Nothing of what is found is kept in CMake's cache: pointing at another one takes effect.
set(FTENGINE_LIBTORCH_VERSION 2.11.0)
set(_cache $ENV{FTENGINE_CACHE})
if(NOT _cache)
  set(_cache $ENV{HOME}/.cache/ftengine)
endif()
string(REPLACE ":" ";" _prefixes "$ENV{CMAKE_PREFIX_PATH}")
find_path(LibTorch_INCLUDE_DIR ATen/core/Tensor.h
  HINTS ${FTENGINE_LIBTORCH} $ENV{FTENGINE_LIBTORCH} ${CMAKE_PREFIX_PATH} ${_prefixes}
    ${_cache}/libtorch-${FTENGINE_LIBTORCH_VERSION}/torch
  PATH_SUFFIXES include torch/include NO_DEFAULT_PATH NO_CACHE)
get_filename_component(_root "${LibTorch_INCLUDE_DIR}" DIRECTORY)
find_library(LibTorch_CPU torch_cpu HINTS ${_root}/lib NO_DEFAULT_PATH NO_CACHE)
find_library(LibTorch_C10 c10 HINTS ${_root}/lib NO_DEFAULT_PATH NO_CACHE)
# For the CUDA plugin alone; absent where nothing of CUDA was asked for.
find_library(LibTorch_CUDA torch_cuda HINTS ${_root}/lib NO_DEFAULT_PATH NO_CACHE)
find_library(LibTorch_C10_CUDA c10_cuda HINTS ${_root}/lib NO_DEFAULT_PATH NO_CACHE)
if(LibTorch_INCLUDE_DIR)
  set(LibTorch_VERSION "")
  foreach(_part MAJOR MINOR PATCH)
    file(STRINGS ${LibTorch_INCLUDE_DIR}/torch/headeronly/version.h _line REGEX "TORCH_VERSION_${_part} ")
    string(REGEX MATCH "[0-9]+$" _number "${_line}")
    list(APPEND LibTorch_VERSION ${_number})
  endforeach()
  list(JOIN LibTorch_VERSION "." LibTorch_VERSION)
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch REQUIRED_VARS LibTorch_CPU LibTorch_C10 LibTorch_INCLUDE_DIR
  VERSION_VAR LibTorch_VERSION REASON_FAILURE_MESSAGE
  "run tools/setup, or set FTENGINE_LIBTORCH to a LibTorch ${FTENGINE_LIBTORCH_VERSION} (the torch/ folder of a wheel will do)")
if(LibTorch_FOUND AND NOT LibTorch_VERSION VERSION_EQUAL FTENGINE_LIBTORCH_VERSION)
  message(WARNING "LibTorch in ${_root} is ${LibTorch_VERSION}; ftengine is written for ${FTENGINE_LIBTORCH_VERSION}")
endif()
if(LibTorch_FOUND AND NOT TARGET LibTorch::cpu)
  set(LibTorch_LIB_DIR ${_root}/lib)
  set(_includes ${LibTorch_INCLUDE_DIR} ${LibTorch_INCLUDE_DIR}/torch/csrc/api/include)
  add_library(LibTorch::cpu INTERFACE IMPORTED GLOBAL)
  target_include_directories(LibTorch::cpu SYSTEM INTERFACE ${_includes})
  target_link_libraries(LibTorch::cpu INTERFACE ${LibTorch_CPU} ${LibTorch_C10})
  target_link_options(LibTorch::cpu INTERFACE -Wl,--allow-shlib-undefined)
  # at::parallel_for is a template that runs on one thread where OpenMP is off. The runtime must be the one that LibTorch
  # brings along: a second one would keep threads of its own.
  find_library(LibTorch_GOMP NAMES libgomp.so.1 gomp HINTS ${LibTorch_LIB_DIR} NO_CACHE)
  target_compile_options(LibTorch::cpu INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>)
  target_link_libraries(LibTorch::cpu INTERFACE ${LibTorch_GOMP})
  # ProcessGroupGloo.hpp includes Gloo's headers (Debian's libgloo-dev); the code is in libtorch_cpu.
  target_compile_definitions(LibTorch::cpu INTERFACE USE_C10D_GLOO)
  # Where the programs find LibTorch when they run: in the build folder and when installed alike.
  list(APPEND CMAKE_BUILD_RPATH ${LibTorch_LIB_DIR})
  list(APPEND CMAKE_INSTALL_RPATH ${LibTorch_LIB_DIR})
endif()
if(LibTorch_FOUND AND LibTorch_CUDA AND LibTorch_C10_CUDA AND NOT TARGET LibTorch::cuda)
  add_library(LibTorch::cuda INTERFACE IMPORTED GLOBAL)
  # torch_cuda is needed for what its constructors register, even where no symbol of it is used.
  target_link_libraries(LibTorch::cuda INTERFACE LibTorch::cpu -Wl,--no-as-needed ${LibTorch_CUDA} ${LibTorch_C10_CUDA}
    -Wl,--as-needed)
endif()
