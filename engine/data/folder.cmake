target_link_libraries(ft_data PUBLIC dep::xxhash)
