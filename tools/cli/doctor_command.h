#pragma once
/// `ftengine doctor`: what this machine gives a run, and whether its ranks can meet. On its own it reports and then
/// meets as two local ranks (or one a GPU); under torchrun, srun or mpirun the ranks that these start meet.

#include <string>
#include <vector>

#include "engine/parallel/launch.h"

namespace ft {

/// @param arguments argv   @param options of the ranks to start where no launcher has; nproc 0: one a GPU, or two
/// @return the exit code: 0 where ranks can meet   @throws Error(comm) where they cannot, Error(config) for a variable
/// that is wrong
int doctor_command(const std::vector<std::string>& arguments, LaunchOptions options);

}  // namespace ft
