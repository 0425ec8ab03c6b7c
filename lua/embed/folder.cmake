file(GLOB_RECURSE embedded CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/stdlib/*.lua ${PROJECT_SOURCE_DIR}/configs/profiles/*.yaml
  ${PROJECT_SOURCE_DIR}/configs/deepspeed_configs/*.json)
set(embed_script ${PROJECT_SOURCE_DIR}/lua/embed/embed.cmake)
set(embed_out ${CMAKE_BINARY_DIR}/embedded_files.cpp)
add_custom_command(OUTPUT ${embed_out}
  COMMAND ${CMAKE_COMMAND} -D ROOT=${PROJECT_SOURCE_DIR} -D OUT=${embed_out} -P ${embed_script}
  DEPENDS ${embedded} ${embed_script} COMMENT "Embedding the standard library")
add_library(ft_embedded STATIC ${embed_out})
target_include_directories(ft_embedded PRIVATE ${PROJECT_SOURCE_DIR})
target_link_libraries(ft_embed INTERFACE ft_embedded)
