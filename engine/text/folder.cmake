target_link_libraries(ft_text PUBLIC dep::pcre2 dep::utf8proc)
