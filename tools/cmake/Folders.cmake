# ft_folder(PATH [TORCH]): one static library for a folder's sources, named after it (engine/quant -> ft_quant), linked to
# the folders listed before it. With TORCH the folder may include LibTorch's headers; the others stay free of them, and
# quick to build. By name, a source
#   *_avx2.cpp, *_avx512.cpp   is compiled for that instruction set, and chosen at run time;
#   *_cuda.cpp, *.cu           belongs to the CUDA plugin (Cuda.cmake);
#   *_arrow.cpp                belongs to the Arrow plugin (Arrow.cmake);
#   main.cpp                   is a program's (ft_executable).
# A folder's folder.cmake, where it has one, adds what the folder needs beyond this.
set(FT_FOLDERS "" CACHE INTERNAL "")
set(FT_REGISTERING "" CACHE INTERNAL "")
function(ft_folder path)
  cmake_parse_arguments(ARG "TORCH" "" "" ${ARGN})
  get_filename_component(name ${path} NAME)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${path}/*.cpp)
  list(FILTER sources EXCLUDE REGEX "/main\\.cpp$|_cuda\\.cpp$|_arrow\\.cpp$")
  set(target ft_${name})
  if(sources)
    add_library(${target} STATIC ${sources})
    set(scope PUBLIC)
    foreach(source ${sources})
      if(source MATCHES "_avx2\\.cpp$")
        set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-mf16c;-O3")
      elseif(source MATCHES "_avx512\\.cpp$")
        set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS
          "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mfma;-mf16c;-O3")
      endif()
    endforeach()
  else()
    add_library(${target} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_include_directories(${target} ${scope} ${PROJECT_SOURCE_DIR})
  target_link_libraries(${target} ${scope} ${FT_FOLDERS} dep::spdlog)
  if(ARG_TORCH)
    target_link_libraries(${target} ${scope} LibTorch::cpu)
    set_target_properties(${target} PROPERTIES FT_TORCH ON)
    if(sources)
      set(FT_REGISTERING ${FT_REGISTERING} ${target} CACHE INTERNAL "")
    endif()
  endif()
  if(EXISTS ${PROJECT_SOURCE_DIR}/${path}/folder.cmake)
    include(${PROJECT_SOURCE_DIR}/${path}/folder.cmake)
  endif()
  set(FT_FOLDERS ${target} ${FT_FOLDERS} CACHE INTERNAL "")
endfunction()

# ft_executable(NAME SOURCES... LIBRARIES...): a program. What registers itself by constructors (TORCH_LIBRARY) is named by
# nobody, so the folders that may use LibTorch are linked whole.
function(ft_executable target)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBRARIES" ${ARGN})
  add_executable(${target} ${ARG_SOURCES})
  target_link_libraries(${target} PRIVATE ${ARG_LIBRARIES})
  list(JOIN FT_REGISTERING "," registering)
  if(registering)
    set_property(TARGET ${target} PROPERTY LINK_LIBRARY_OVERRIDE "WHOLE_ARCHIVE,${registering}")
  endif()
endfunction()
