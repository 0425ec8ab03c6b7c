target_compile_definitions(ft_cli PRIVATE FTENGINE_VERSION="${PROJECT_VERSION}")
