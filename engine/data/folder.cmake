# Compressed data files.
target_link_libraries(ft_data PUBLIC dep::zlib dep::zstd)
