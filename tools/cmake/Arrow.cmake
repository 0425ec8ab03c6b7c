# FTENGINE_ARROW=AUTO|ON|OFF -> libftengine_arrow.so, the plugin that reads Parquet and Arrow files, opened at run time at
# the first such file; nothing else is linked to Arrow. Looked for in FTENGINE_ARROW_ROOT (variable or environment), then
# CMAKE_PREFIX_PATH (likewise), then the cache that tools/setup fills.
set(FTENGINE_ARROW_VERSION 26.0.1)

# ft_arrow_plugin(FOLDER...): from the *_arrow.cpp of the folders given. It brings its own copy of the folders it is linked
# to, which are free of LibTorch.
function(ft_arrow_plugin)
  if(FTENGINE_ARROW STREQUAL "OFF")
    return()
  endif()
  set(cache $ENV{FTENGINE_CACHE})
  if(NOT cache)
    set(cache $ENV{HOME}/.cache/ftengine)
  endif()
  string(REPLACE ":" ";" prefixes "$ENV{CMAKE_PREFIX_PATH}")
  set(places ${FTENGINE_ARROW_ROOT} $ENV{FTENGINE_ARROW_ROOT} ${CMAKE_PREFIX_PATH} ${prefixes}
    ${cache}/arrow-${FTENGINE_ARROW_VERSION})
  # A wheel's libraries have no name without a version, and lie in its pyarrow folder; an installation's lie in lib.
  find_path(arrow_INCLUDE parquet/arrow/reader.h HINTS ${places} PATH_SUFFIXES include pyarrow/include
    NO_DEFAULT_PATH NO_CACHE)
  get_filename_component(root "${arrow_INCLUDE}" DIRECTORY)
  foreach(library arrow parquet)
    find_library(${library}_LIBRARY NAMES lib${library}.so.2600 ${library} HINTS ${root} PATH_SUFFIXES lib lib/x86_64-linux-gnu .
      NO_DEFAULT_PATH NO_CACHE)
  endforeach()
  if(NOT arrow_INCLUDE OR NOT arrow_LIBRARY OR NOT parquet_LIBRARY)
    if(FTENGINE_ARROW STREQUAL "ON")
      message(FATAL_ERROR "FTENGINE_ARROW=ON, but there is no Arrow: run tools/setup, or set FTENGINE_ARROW_ROOT to the "
        "prefix of an Arrow C++ ${FTENGINE_ARROW_VERSION} with Parquet (the pyarrow/ folder of a wheel will do)")
    endif()
    message(STATUS "Arrow plugin: not built (no Arrow; tools/setup fetches it)")
    return()
  endif()
  set(sources "")
  foreach(folder ${ARGN})
    file(GLOB found CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*_arrow.cpp)
    list(APPEND sources ${found})
  endforeach()
  message(STATUS "Arrow plugin: built with ${arrow_LIBRARY}")
  add_library(ftengine_arrow MODULE ${sources})
  target_include_directories(ftengine_arrow PRIVATE ${PROJECT_SOURCE_DIR})
  target_include_directories(ftengine_arrow SYSTEM PRIVATE ${arrow_INCLUDE})
  target_link_libraries(ftengine_arrow PRIVATE ft_data ${parquet_LIBRARY} ${arrow_LIBRARY})
  target_link_options(ftengine_arrow PRIVATE -Wl,-z,defs -Wl,--exclude-libs,ALL)
  get_filename_component(libraries "${arrow_LIBRARY}" DIRECTORY)
  set_target_properties(ftengine_arrow PROPERTIES BUILD_RPATH "${libraries}" INSTALL_RPATH "${libraries}")
  install(TARGETS ftengine_arrow LIBRARY DESTINATION lib/ftengine)
endfunction()
