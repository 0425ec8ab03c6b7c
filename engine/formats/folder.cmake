# yaml-cpp for profiles and configs, xxhash for checksums of checkpoints.
target_link_libraries(ft_formats ${scope} dep::yaml dep::xxhash)
