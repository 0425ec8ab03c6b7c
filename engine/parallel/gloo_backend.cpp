#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "engine/parallel/c10d_backend.h"

namespace ft {

c10::intrusive_ptr<c10d::Backend> make_gloo_backend(const c10::intrusive_ptr<c10d::Store>& store,
                                                    const BackendPlace& place) {
  using Gloo = c10d::ProcessGroupGloo;
  auto options = Gloo::Options::create(place.timeout);
  const bool interface = place.address.rfind("if:", 0) == 0;
  options->devices.push_back(interface ? Gloo::createDeviceForInterface(place.address.substr(3))
                                       : Gloo::createDeviceForHostname(place.address));
  // Large transfers are sends and receives, which the device's own thread completes; the pool has only reductions to
  // run.
  options->threads = 1;
  return c10::make_intrusive<Gloo>(store, place.rank, place.size, options);
}

}  // namespace ft
