target_link_libraries(ft_layers PUBLIC dep::pcre2)
