# FTENGINE_CUDA=AUTO|ON|OFF -> FTENGINE_HAVE_CUDA. The kernels go into a plugin that is opened at run time where a GPU is.
set(FTENGINE_HAVE_CUDA OFF)
