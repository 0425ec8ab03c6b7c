// ProcessGroup over c10d. Between CPUs, all-gather and reduce-scatter are sends and receives to every peer at once,
// straight from and into the caller's memory: c10d's own Gloo all-gather goes through a flat copy of the whole result,
// and its reduce-scatter is an all-reduce of a copy of the whole input. The volume on the wire is that of a ring.
#include <ATen/ops/add.h>
#include <ATen/ops/empty.h>
#include <c10/util/Logging.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <mutex>
#include <thread>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "engine/device/log.h"
#include "engine/error/error.h"
#include "engine/parallel/c10d_backend.h"
#include "engine/parallel/host_watch.h"
#include "engine/parallel/launch.h"
#include "engine/parallel/process_group.h"

namespace ft {
namespace {

using WorkPtr = c10::intrusive_ptr<c10d::Work>;
using StorePtr = c10::intrusive_ptr<c10d::Store>;
using BackendPtr = c10::intrusive_ptr<c10d::Backend>;

constexpr const char* kFailureKey = "ft/failure";
constexpr const char* kSpeakerKey = "ft/speaker";
constexpr const char* kLeftKey = "ft/left";
constexpr const char* kWatchKey = "ft/watch";
constexpr std::chrono::seconds kLeaveTime{3};  // of the 10 s in which all ranks stop

// LibTorch's message without its C++ backtrace: the first line.
std::string first_line(const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  std::string text = torch_error ? torch_error->what_without_backtrace() : error.what();
  return text.substr(0, text.find('\n'));
}

// Runs what may throw c10d's exceptions and turns them into Error(comm), with the note that a failing rank may have
// left.
template <class Action>
auto meeting(const char* what, int rank, c10d::Store* store, Action action, const int* peer = nullptr) {
  try {
    return action();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    std::string note;
    try {
      if (store && store->check({kFailureKey})) note = store->get_to_str(kFailureKey);
    } catch (const std::exception&) {  // the store went with rank 0
    }
    const std::string why = first_line(error), who = peer ? "rank " + std::to_string(*peer) : "another rank";
    const bool late = why.find("Timed out") != std::string::npos;
    Error failure(ErrorKind::comm, !note.empty() ? note
                                   : late ? std::string(what) + ": did not hear from " + who + " in time (" + why + ")"
                                          : std::string(what) + ": lost " + who + " (" + why + ")");
    failure.help(late && note.empty() ? "it hangs, or is far behind; parallel.timeout is how many seconds ranks wait; "
                                        "see docs/troubleshooting.md#nccl-and-gloo"
                                      : "the first rank to fail says why: see its message or its log file");
    if (!note.empty()) failure.context(std::string(what) + " on rank " + std::to_string(rank));
    throw failure;
  }
}

// What all Pendings of a group share.
struct Link {
  StorePtr store;
  int rank = 0;
};

class Transfer : public Pending::Work {
 public:
  /// @param peers whom each of `works` is with; empty where that is all of them.
  Transfer(const char* what, Link link, std::vector<WorkPtr> works, std::vector<int> peers = {},
           std::function<void()> then = {})
      : what_(what),
        link_(std::move(link)),
        works_(std::move(works)),
        peers_(std::move(peers)),
        then_(std::move(then)) {}
  void wait() override {
    for (size_t i = 0; i < works_.size(); ++i)
      meeting(
          what_, link_.rank, link_.store.get(), [&] { works_[i]->wait(); }, peers_.empty() ? nullptr : &peers_[i]);
    if (then_) then_();
  }

 private:
  const char* what_;
  Link link_;
  std::vector<WorkPtr> works_;
  std::vector<int> peers_;
  std::function<void()> then_;
};

// 1-D view of a tensor's bytes as integers.
at::Tensor bytes_of(const at::Tensor& tensor) { return tensor.reshape({-1}).view(at::kByte); }

class C10dGroup : public ProcessGroup {
 public:
  C10dGroup(StorePtr store, const BackendPlace& place)
      : ProcessGroup(place.rank, place.size), store_(std::move(store)), place_(place), link_{store_, place.rank} {
    gloo_ =
        meeting("meeting the other ranks", place.rank, store_.get(), [&] { return make_gloo_backend(store_, place); });
  }

  void keep(std::unique_ptr<HostWatch> watch) { watch_ = std::move(watch); }

  Pending all_gather_into(const at::Tensor& whole, const at::Tensor& mine) override {
    FT_CHECK(whole.numel() == mine.numel() * size() && whole.scalar_type() == mine.scalar_type() &&
                 whole.is_contiguous() && mine.is_contiguous(),
             "all_gather_into: contiguous, the whole is one part a rank");
    if (mine.numel() == 0) return {};
    at::Tensor to = bytes_of(whole), from = bytes_of(mine);
    if (!whole.is_cpu())
      return native(
          "all-gather", [&](c10d::Backend& b) { return b._allgather_base(to, from); }, to, Stream::gather);
    const int64_t bytes = from.numel();
    const at::Tensor own = to.narrow(0, rank() * bytes, bytes);
    if (own.data_ptr() != from.data_ptr()) std::memcpy(own.data_ptr(), from.data_ptr(), bytes);
    return exchange(
        "all-gather", [&](int) { return own; }, [&](int r) { return to.narrow(0, r * bytes, bytes); });
  }

  Pending reduce_scatter_sum(const at::Tensor& mine, const at::Tensor& whole) override {
    FT_CHECK(whole.numel() == mine.numel() * size() && whole.scalar_type() == at::kFloat &&
                 mine.scalar_type() == at::kFloat && whole.is_contiguous() && mine.is_contiguous(),
             "reduce_scatter_sum: fp32, contiguous, the whole is one part a rank");
    if (mine.numel() == 0) return {};
    at::Tensor to = mine, from = whole;
    if (!whole.is_cpu())
      return native(
          "reduce-scatter", [&](c10d::Backend& b) { return b._reduce_scatter_base(to, from); }, to);
    const int64_t count = mine.numel();
    const at::Tensor parts = at::empty({count * (size() - 1)}, at::kFloat);
    const auto received = [=, me = rank()](int r) { return parts.narrow(0, (r < me ? r : r - 1) * count, count); };
    const auto sum = [=, me = rank(), ranks = size()] {
      const auto part = [&](int r) { return r == me ? whole.narrow(0, r * count, count) : received(r); };
      at::Tensor total = mine;
      at::add_out(total, part(0), part(1));
      for (int r = 2; r < ranks; ++r) total.add_(part(r));
    };
    return exchange(
        "reduce-scatter", [&](int r) { return whole.narrow(0, r * count, count); }, received, sum);
  }

  Pending all_reduce_sum(const at::Tensor& tensor) override { return all_reduce(tensor, c10d::ReduceOp::SUM); }
  Pending all_reduce_max(const at::Tensor& tensor) override { return all_reduce(tensor, c10d::ReduceOp::MAX); }

  Pending broadcast(const at::Tensor& tensor, int root) override {
    FT_CHECK(tensor.is_contiguous() && root >= 0 && root < size(), "broadcast: contiguous, from a rank that is there");
    if (tensor.numel() == 0) return {};
    std::vector<at::Tensor> tensors{bytes_of(tensor)};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    return native(
        "broadcast", [&](c10d::Backend& b) { return b.broadcast(tensors, options); }, tensor);
  }

  Pending all_to_all(const at::Tensor& received, const at::Tensor& sent) override {
    check_apart("all_to_all", received, sent);
    FT_CHECK(sent.numel() % size() == 0, "all_to_all: one part a rank");
    if (sent.numel() == 0) return {};
    const at::Tensor to = bytes_of(received), from = bytes_of(sent);
    const int64_t bytes = from.numel() / size();
    if (!sent.is_cpu()) {
      const std::vector<int64_t> each(static_cast<size_t>(size()), bytes);
      return exchange_natively("all-to-all", to, from, each, each);
    }
    const auto part = [=](const at::Tensor& whole, int r) { return whole.narrow(0, r * bytes, bytes); };
    std::memcpy(part(to, rank()).data_ptr(), part(from, rank()).data_ptr(), bytes);
    return exchange(
        "all-to-all", [=](int r) { return part(from, r); }, [=](int r) { return part(to, r); });
  }

  Pending pass_on(const at::Tensor& received, const at::Tensor& sent) override {
    check_apart("pass_on", received, sent);
    if (sent.numel() == 0) return {};
    const int next = (rank() + 1) % size(), previous = (rank() - 1 + size()) % size();
    std::vector<at::Tensor> to{bytes_of(received)}, from{bytes_of(sent)};
    if (!sent.is_cpu()) {
      std::vector<int64_t> takes(static_cast<size_t>(size())), gives(takes);
      takes[static_cast<size_t>(previous)] = gives[static_cast<size_t>(next)] = from[0].numel();
      return exchange_natively("pass-on", to[0], from[0], takes, gives);
    }
    const int tag = next_tag();
    std::vector<WorkPtr> works;
    meeting("pass-on", rank(), store_.get(), [&] {
      works.push_back(gloo_->recv(to, previous, tag));
      works.push_back(gloo_->send(from, next, tag));
    });
    return Pending(std::make_unique<Transfer>("pass-on", link_, std::move(works), std::vector<int>{previous, next}));
  }

  void barrier() override { sum(0); }  // nobody has every rank's number before every rank has come

  std::shared_ptr<ProcessGroup> subgroup(const std::vector<int>& ranks, const std::string& name) override {
    int place_in_group = -1;
    for (size_t i = 0; i < ranks.size(); ++i) {
      FT_CHECK(ranks[i] >= 0 && ranks[i] < size() && (i == 0 || ranks[i - 1] < ranks[i]), "subgroup: ascending ranks");
      if (ranks[i] == rank()) place_in_group = static_cast<int>(i);
    }
    std::shared_ptr<ProcessGroup> made;
    if (place_in_group >= 0 && ranks.size() == 1) {
      made = single();
    } else if (place_in_group >= 0) {
      BackendPlace place = place_;
      place.rank = place_in_group;
      place.size = static_cast<int>(ranks.size());
      // With a number and the first rank: groups of one name, made after each other or side by side, would meet at each
      // other's addresses.
      const std::string prefix = name + "-" + std::to_string(num_subgroups_) + "-" + std::to_string(ranks.front());
      made = std::make_shared<C10dGroup>(c10::make_intrusive<c10d::PrefixStore>(prefix, store_), place);
    }
    ++num_subgroups_;
    // A rank that has connected may leave before its peer has looked: Gloo's peer then waits for it until the timeout.
    barrier();
    return made;
  }

  void report_failure(const std::string& message) noexcept override {
    try {
      store_->set(kFailureKey, "rank " + std::to_string(rank()) + ": " + message);
    } catch (const std::exception&) {  // rank 0 went before
    }
  }

  bool may_speak(bool lost_another) noexcept override {
    try {
      if (lost_another && store_->check({kFailureKey})) return false;
      return store_->add(kSpeakerKey, 1) == 1 || !lost_another;
    } catch (const std::exception&) {  // rank 0, which holds the store, is what was lost
      return true;
    }
  }

  // Rank 0 holds the store: were it to go first, the others could no longer learn who has spoken.
  void leave() noexcept override {
    try {
      store_->add(kLeftKey, 1);
      const auto end = std::chrono::steady_clock::now() + kLeaveTime;
      while (rank() == 0 && store_->add(kLeftKey, 0) < size() && std::chrono::steady_clock::now() < end)
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    } catch (const std::exception&) {  // rank 0 went before
    }
  }

 private:
  // To every peer sending(peer), from every peer into receiving(peer). Nearest successor first, so that no rank is
  // everybody's first.
  Pending exchange(const char* what, const std::function<at::Tensor(int)>& sending,
                   const std::function<at::Tensor(int)>& receiving, std::function<void()> then = {}) {
    const int tag = next_tag();
    std::vector<WorkPtr> works;
    std::vector<int> peers;
    meeting(what, rank(), store_.get(), [&] {
      for (int step = 1; step < size(); ++step) {
        const int source = (rank() - step + size()) % size();
        std::vector<at::Tensor> tensors{receiving(source)};
        works.push_back(gloo_->recv(tensors, source, tag));
        peers.push_back(source);
      }
      for (int step = 1; step < size(); ++step) {
        const int target = (rank() + step) % size();
        std::vector<at::Tensor> tensors{sending(target)};
        works.push_back(gloo_->send(tensors, target, tag));
        peers.push_back(target);
      }
    });
    return Pending(std::make_unique<Transfer>(what, link_, std::move(works), std::move(peers), std::move(then)));
  }

  // NCCL's streams. A gather for the unit to come does not wait for the gradients of the unit before.
  enum class Stream { gather, rest };

  // Runs what the backend of the tensor's device brings itself.
  template <class Start>
  Pending native(const char* what, Start start, const at::Tensor& tensor, Stream stream = Stream::rest) {
    std::vector<WorkPtr> works{meeting(
        what, rank(), store_.get(), [&] { return start(tensor.is_cpu() ? *gloo_ : nccl(tensor.device(), stream)); })};
    return Pending(std::make_unique<Transfer>(what, link_, std::move(works)));
  }

  void check_apart(const char* what, const at::Tensor& received, const at::Tensor& sent) const {
    FT_CHECK(received.numel() == sent.numel() && received.scalar_type() == sent.scalar_type() &&
                 received.is_contiguous() && sent.is_contiguous() &&
                 (sent.numel() == 0 || received.data_ptr() != sent.data_ptr()),
             std::string(what) + ": contiguous, alike, and apart from each other");
  }

  // NCCL's all-to-all is a group of sends and receives, of none where the count is 0: it cannot lock up as single ones
  // might.
  Pending exchange_natively(const char* what, at::Tensor to, at::Tensor from, std::vector<int64_t> takes,
                            std::vector<int64_t> gives) {
    return native(
        what, [&](c10d::Backend& b) { return b.alltoall_base(to, from, takes, gives); }, to);
  }

  Pending all_reduce(const at::Tensor& tensor, c10d::ReduceOp::RedOpType op) {
    FT_CHECK(tensor.is_contiguous(), "all_reduce: contiguous");
    if (tensor.numel() == 0) return {};
    std::vector<at::Tensor> tensors{tensor};
    c10d::AllreduceOptions options;
    options.reduceOp = op;
    return native(
        "all-reduce", [&](c10d::Backend& b) { return b.allreduce(tensors, options); }, tensor);
  }

  // A communicator for each stream, made at its first collective, which every rank comes to in the same order.
  c10d::Backend& nccl(at::Device device, Stream stream) {
    const bool gather = stream == Stream::gather;
    BackendPtr& backend = gather ? nccl_gather_ : nccl_;
    if (!backend) {
      BackendPlace place = place_;
      place.device = device.index();
      const char* prefix = gather ? "nccl-gather" : "nccl";
      backend = make_nccl_backend(c10::make_intrusive<c10d::PrefixStore>(prefix, store_), place);
    }
    return *backend;
  }

  int next_tag() { return tag_ = (tag_ + 1) & 0x7fffffff; }

  StorePtr store_;
  BackendPlace place_;
  Link link_;
  BackendPtr gloo_, nccl_gather_, nccl_;
  int tag_ = 0;
  int num_subgroups_ = 0;  // the same on every rank, as subgroup() is collective
  std::unique_ptr<HostWatch> watch_;
};

// Ends the process from the watch's thread: the one that computes waits for the machine that has gone, and would do so
// until the time-out. What is being saved stays as a kill would leave it.
[[noreturn]] void leave_at_once(const std::string& what, bool speak) {
  const Error error = Error(ErrorKind::comm, what)
                          .help(
                              "FTENGINE_HOST_TIMEOUT is how many seconds of silence are taken for that; see "
                              "docs/troubleshooting.md#nccl-and-gloo");
  log_info(error.what());
  if (under_launcher() || speak) report_fatal(error);
  _exit(1);
}

// Never fails: without a watch, a machine that vanishes is found by the collectives' time-out.
std::unique_ptr<HostWatch> watch_hosts(c10d::Store& store, const RankEnvironment& environment,
                                       const std::string& own_address, std::chrono::seconds timeout) {
  // Where all hear of it from rank 0, or all lose rank 0, one rank a machine speaks at most.
  HostWatchOptions options{
      .rank = environment.rank,
      .timeout = timeout,
      .gone = [first = environment.local_rank == 0](auto& what, bool told) { leave_at_once(what, first && !told); }};
  try {
    if (environment.rank > 0) {
      const std::string meeting_point = store.get_to_str(kWatchKey);
      if (meeting_point.empty()) return nullptr;
      return std::make_unique<HostWatch>(options, meeting_point, environment.master_addr);
    }
    auto watch = std::make_unique<HostWatch>(options, is_loopback(own_address) ? "" : own_address);
    store.set(kWatchKey, watch->meeting_point());
    return watch;
  } catch (const std::exception& error) {
    log_warning(std::string("machines that vanish will be noticed by parallel.timeout alone: ") + first_line(error));
    if (environment.rank == 0) store.set(kWatchKey, "");
    return nullptr;
  }
}

// The socket that the launcher has bound for rank 0 already: no port can be lost in between, and no rank comes too
// early. Else one of loopback alone where all ranks are on this machine; or none: the store listens everywhere.
std::optional<int> listening_socket(const std::string& address, const RankEnvironment& environment) {
  if (const char* text = std::getenv("FTENGINE_STORE_FD"); text && *text) return std::atoi(text);
  if (!environment.one_machine() || address.rfind("127.", 0) != 0) return std::nullopt;
  int port = environment.master_port;
  return listen_on_loopback(port);
}

// A process has one place among the ranks; main asks for it when it ends with an error.
std::weak_ptr<ProcessGroup>& connected_group() {
  static std::weak_ptr<ProcessGroup> group;
  return group;
}

// Where rank 0's store is, and this rank's address on the way there.
struct Way {
  std::string master, address;
};

Way way_to_rank_0(const RankEnvironment& environment) {
  std::string master = environment.master_addr;
  auto address = local_address_towards(master, environment.master_port);
  if (!address && environment.one_machine())  // a name of this machine's that nobody resolves
    address = local_address_towards(master = "127.0.0.1", environment.master_port);
  if (!address)
    throw Error(ErrorKind::comm, "cannot resolve '" + master + "'")
        .at("environment")
        .key("MASTER_ADDR")
        .help("name the machine of rank 0 by an address that this machine can reach");
  return {master, *address};
}

}  // namespace

std::shared_ptr<ProcessGroup> ProcessGroup::connected() { return connected_group().lock(); }

std::shared_ptr<ProcessGroup> ProcessGroup::connect(const RankEnvironment& environment, std::chrono::seconds timeout) {
  if (environment.world_size == 1) return single();
  const std::chrono::seconds silence = host_timeout();
  std::signal(SIGPIPE, SIG_IGN);  // a store that is gone is to arrive as an exception
  // c10d warns on stderr where an address has no name; what matters arrives as an exception.
  if (!std::getenv("TORCH_CPP_LOG_LEVEL")) FLAGS_caffe2_log_level = c10::GLOG_ERROR;
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(environment.master_port);
  // torchrun keeps a store of its own at that port, for each start of its ranks anew.
  const char* agents = std::getenv("TORCHELASTIC_USE_AGENT_STORE");
  const bool agents_store = agents && std::string(agents) == "True";
  options.isServer = environment.rank == 0 && !agents_store;
  options.numWorkers = environment.world_size;
  options.timeout = timeout;
  Way way = way_to_rank_0(environment);
  if (options.isServer) options.masterListenFd = listening_socket(way.address, environment);
  // Where rank 0's machine takes its own name for loopback, others would look for it on their own.
  if (!environment.one_machine() && is_loopback(way.address)) way.address = network_address().value_or(way.address);
  BackendPlace place{environment.rank, environment.world_size, environment.local_rank, way.address, timeout};
  if (const char* interface = std::getenv("GLOO_SOCKET_IFNAME"); interface && *interface)
    place.address = "if:" + std::string(interface);
  try {
    const StorePtr store = meeting("meeting the other ranks", environment.rank, nullptr, [&]() -> StorePtr {
      StorePtr store = c10::make_intrusive<c10d::TCPStore>(way.master, options);
      const char* attempt = std::getenv("TORCHELASTIC_RESTART_COUNT");
      if (agents_store)
        store =
            c10::make_intrusive<c10d::PrefixStore>("/worker/attempt_" + std::string(attempt ? attempt : "0"), store);
      return store;
    });
    const auto group = std::make_shared<C10dGroup>(store, place);
    group->barrier();  // as in subgroup: nobody leaves before all have met
    if (!environment.one_machine() && silence.count() > 0)
      group->keep(watch_hosts(*store, environment, way.address, silence));
    connected_group() = group;
    return group;
  } catch (Error& error) {
    error.context("rank " + std::to_string(environment.rank) + " of " + std::to_string(environment.world_size) +
                  " meeting the others at " + way.master + ":" + std::to_string(environment.master_port) + " over " +
                  place.address);
    throw;
  }
}

}  // namespace ft
