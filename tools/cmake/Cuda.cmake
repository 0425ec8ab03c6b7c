# FTENGINE_CUDA=AUTO|ON|OFF -> FTENGINE_HAVE_CUDA. The kernels and NCCL go into a plugin, libftengine_cuda.so, which the
# engine opens at run time where there is a GPU. Building it needs nvcc and LibTorch's CUDA libraries, and no GPU; what
# these need in turn (cuBLAS, cuDNN, …) may be absent until then.
set(FTENGINE_HAVE_CUDA OFF)
set(_obstacle "")
if(NOT FTENGINE_CUDA STREQUAL "OFF")
  # The user's toolkit, or the nvcc that tools/setup fetched beside LibTorch; the first that LibTorch's CUDA goes with.
  set(_nvcc "")
  set(_release "")
  find_program(_on_path nvcc NO_CACHE)
  foreach(_place ${FTENGINE_NVCC} $ENV{CUDACXX} ${_on_path} $ENV{CUDA_HOME}/bin/nvcc /usr/local/cuda/bin/nvcc
      ${LibTorch_LIB_DIR}/../../nvidia/cu13/bin/nvcc)
    if(EXISTS ${_place} AND NOT _release VERSION_GREATER_EQUAL 13)
      execute_process(COMMAND ${_place} --version OUTPUT_VARIABLE _text ERROR_QUIET)
      string(REGEX MATCH "release ([0-9.]+)" _match "${_text}")
      set(_release "${CMAKE_MATCH_1}")
      get_filename_component(_nvcc ${_place} ABSOLUTE)
    endif()
  endforeach()
  if(NOT _nvcc)
    set(_obstacle "no nvcc on PATH, in CUDA_HOME or in /usr/local/cuda")
  elseif(NOT _release VERSION_GREATER_EQUAL 13)
    set(_obstacle "${_nvcc} is of CUDA '${_release}', LibTorch of CUDA 13")
  elseif(NOT TARGET LibTorch::cuda)
    set(_obstacle "LibTorch's CUDA libraries are not in ${LibTorch_LIB_DIR} (tools/setup --cuda)")
  else()
    set(FTENGINE_HAVE_CUDA ON)
  endif()
  if(_obstacle AND FTENGINE_CUDA STREQUAL "ON")
    message(FATAL_ERROR "FTENGINE_CUDA=ON, but: ${_obstacle}")
  endif()
endif()
if(_obstacle)
  message(STATUS "CUDA plugin: not built (${_obstacle})")
endif()

if(FTENGINE_HAVE_CUDA)
  set(CMAKE_CUDA_COMPILER ${_nvcc})
  # sm_80 runs on the 8.x cards, sm_90a on Hopper; PTX of compute_80 is compiled by the driver for all newer ones.
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real 80-virtual)
  # The runtime library that libtorch_cpu has loaded already.
  set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
  enable_language(CUDA)
  # CMake 3.25 does not know nvcc's flag for the C++20 that CMAKE_CXX_STANDARD asks of CUDA too.
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  find_path(nccl_INCLUDE nccl.h HINTS ${LibTorch_LIB_DIR}/../../nvidia/nccl/include
    ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  # ProcessGroupNCCL.hpp includes the headers of these libraries too.
  find_path(cublas_INCLUDE cublas_v2.h HINTS ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
endif()

# ft_cuda_plugin(FOLDER...): the plugin, from the *.cu and *_cuda.cpp of the folders given. It brings its own copy of the
# folders that are free of LibTorch, and shares LibTorch with the program that opens it.
function(ft_cuda_plugin)
  set(sources "")
  foreach(folder ${ARGN})
    file(GLOB found CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*.cu ${PROJECT_SOURCE_DIR}/${folder}/*_cuda.cpp)
    list(APPEND sources ${found})
  endforeach()
  if(NOT nccl_INCLUDE OR NOT cublas_INCLUDE)
    message(STATUS "CUDA plugin: without NCCL, so one GPU a run (no nccl.h or cublas_v2.h beside nvcc; tools/setup --cuda "
      "brings them)")
    list(FILTER sources EXCLUDE REGEX "/nccl[a-z_]*_cuda\\.cpp$")
  endif()
  if(NOT sources)
    return()
  endif()
  message(STATUS "CUDA plugin: built with ${CMAKE_CUDA_COMPILER} (CUDA ${CMAKE_CUDA_COMPILER_VERSION})")
  add_library(ftengine_cuda MODULE ${sources})
  target_include_directories(ftengine_cuda PRIVATE ${PROJECT_SOURCE_DIR})
  target_include_directories(ftengine_cuda SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  if(nccl_INCLUDE)
    target_include_directories(ftengine_cuda SYSTEM PRIVATE ${nccl_INCLUDE})
    target_compile_definitions(ftengine_cuda PRIVATE USE_C10D_NCCL)
  endif()
  target_link_libraries(ftengine_cuda PRIVATE ft_quant ft_tensor ft_error LibTorch::cuda)
  target_link_options(ftengine_cuda PRIVATE -Wl,-z,defs)
  get_filename_component(runtime ${LibTorch_LIB_DIR}/../../nvidia/cu13/lib ABSOLUTE)
  set_property(TARGET ftengine_cuda APPEND PROPERTY BUILD_RPATH ${runtime})
  set_property(TARGET ftengine_cuda APPEND PROPERTY INSTALL_RPATH ${runtime})
  # Without contraction a kernel rounds as its CPU reference does (Compiler.cmake: -ffp-contract=off); the kernels wait for
  # memory, not for arithmetic.
  target_compile_options(ftengine_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr>
    $<$<COMPILE_LANGUAGE:CUDA>:--fmad=false> $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall>)
  install(TARGETS ftengine_cuda LIBRARY DESTINATION lib/ftengine)
endfunction()
