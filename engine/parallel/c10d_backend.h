#pragma once
/// The two c10d backends behind ProcessGroup, and the store through which ranks find each other. Used by c10d_group.cpp
/// alone; the heavy c10d headers stay out of everything else.

#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace c10d {
class Backend;
class Store;
}  // namespace c10d

namespace ft {

/// What a backend is made of.
struct BackendPlace {
  int rank = 0;
  int size = 1;
  int device = 0;       ///< index of the GPU; NCCL only
  std::string address;  ///< this machine's address on the ranks' network, or "if:NAME" for an interface; Gloo only
  std::chrono::milliseconds timeout{0};
};

/// c10d's Gloo. Its .cpp is the only one to include Gloo's own headers: Debian's (2022) declare a
/// gloo::rendezvous::Store that differs from the one the wheel was built with, so nothing else may touch that type.
c10::intrusive_ptr<c10d::Backend> make_gloo_backend(const c10::intrusive_ptr<c10d::Store>& store,
                                                    const BackendPlace& place);

/// The function that the CUDA plugin exports, and its symbol: c10d's NCCL on GPU `place.device`. May throw
/// std::exception.
using NcclFactory = void (*)(const c10::intrusive_ptr<c10d::Store>& store, const BackendPlace& place,
                             c10::intrusive_ptr<c10d::Backend>& backend);
inline constexpr const char* kNcclFactorySymbol = "ft_make_nccl_backend";

/// c10d's NCCL, from the CUDA plugin.   @throws Error(config) where the plugin cannot be opened, with the reason.
c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const c10::intrusive_ptr<c10d::Store>& store,
                                                    const BackendPlace& place);

/// The address by which this machine is seen on the way to `host`: what a socket towards it would be bound to.
/// @return nothing when `host` does not resolve.
std::optional<std::string> local_address_towards(const std::string& host, int port);

/// True for 127.x.y.z and ::1.
bool is_loopback(const std::string& address);

/// An address by which other machines may see this one: that of the default route, else of the first network there is.
/// For machines that take their own name for loopback, as Debian sets them up.
/// @return nothing where this machine is on no network.
std::optional<std::string> network_address();

}  // namespace ft
