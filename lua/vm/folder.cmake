target_link_libraries(ft_vm PUBLIC dep::luajit)
