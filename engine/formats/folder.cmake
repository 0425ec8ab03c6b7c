# yaml-cpp for profiles and configs, xxhash for checksums of checkpoints, PCRE2 for patterns of modules.
target_link_libraries(ft_formats ${scope} dep::yaml dep::xxhash dep::pcre2)
