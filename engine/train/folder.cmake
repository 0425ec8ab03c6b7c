# The run record names the version.
target_compile_definitions(ft_train PRIVATE FTENGINE_VERSION="${PROJECT_VERSION}")
