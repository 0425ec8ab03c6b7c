#include "engine/parallel/node_link.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "engine/formats/json.h"
#include "engine/parallel/host_watch.h"
#include "engine/parallel/rank_environment.h"
#include "engine/parallel/tcp.h"

namespace ft {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kFirstWait{600}, kWaitForOthers{60};
constexpr std::chrono::seconds kEndOfRanks{30};  // beyond the grace that every supervisor gives its ranks

/// One line. Ranks' last words may be bytes of any kind.
std::string message(const Value& value) {
  std::string text = write_json(value);
  try {
    parse_json(text, "message");
  } catch (const Error&) {
    for (char& c : text)
      if (static_cast<unsigned char>(c) >= 0x80) c = '?';
  }
  return text;
}

/// The next message; nothing where there is none, or where what has come is none of ours.
std::optional<Value> read(const std::optional<std::string>& line) {
  if (!line) return std::nullopt;
  try {
    Value value = parse_json(*line, "another launcher's message");
    if (value.is_map()) return value;
  } catch (const Error&) {
  }
  return std::nullopt;
}

int number(const Value& value, const char* key, int otherwise) {
  const Value* found = value.find(key);
  return found && found->is_integer() ? static_cast<int>(found->as_integer()) : otherwise;
}
bool yes(const Value& value, const char* key) {
  const Value* found = value.find(key);
  return found && found->is_bool() && found->as_bool();
}
std::string text(const Value& value, const char* key) {
  const Value* found = value.find(key);
  return found && found->is_string() ? found->as_string() : "";
}

Value as_value(const Ending& ending) {
  return Value::map(
      {{"exit_code", ending.exit_code}, {"weight", ending.weight}, {"again", ending.again}, {"text", ending.text}});
}

Ending as_ending(const Value& value) {
  return {.exit_code = number(value, "exit_code", 1),
          .weight = number(value, "weight", 0),
          .again = yes(value, "again"),
          .text = text(value, "text")};
}

std::chrono::seconds wait_of(const NodeOptions& options, bool with_fewer) {
  if (options.wait_seconds > 0) return std::chrono::seconds(options.wait_seconds);
  return with_fewer ? kWaitForOthers : kFirstWait;
}

void expect_answers(Connection& connection) {
  if (const auto silence = host_timeout(); silence.count() > 0) connection.expect_answers(silence);
}

/// The launcher on the node of rank 0, to which the others come.
class FirstNode : public NodeLink {
 public:
  explicit FirstNode(const NodeOptions& options) : NodeLink(options) {
    int port = options.port;
    listener_ = listen_at("", port);
  }

  bool first() const override { return true; }

  NodePlace meet(int nproc, const NodePlace& told, int min_ranks) override {
    nodes_.clear();
    stopping_ = false;
    const auto deadline = Clock::now() + wait_of(options_, min_ranks > 0);
    std::vector<Node> coming;
    while (static_cast<int>(nodes_.size()) + 1 < options_.count && Clock::now() < deadline) {
      std::vector<pollfd> news = descriptors();
      news.push_back({listener_.get(), POLLIN, 0});
      for (const Node& one : coming) news.push_back({one.connection.descriptor(), POLLIN, 0});
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
      poll(news.data(), news.size(), static_cast<int>(std::max<int64_t>(0, left.count())));
      greet(coming);
      // One that comes and goes again is not there.
      for (Node& one : nodes_) one.connection.receive();
      std::erase_if(nodes_, [](const Node& one) { return one.connection.closed(); });
    }
    return begin(nproc, told, min_ranks);
  }

  std::vector<pollfd> descriptors() const override {
    std::vector<pollfd> all;
    for (const Node& one : nodes_)
      if (!one.ending && one.connection) all.push_back({one.connection.descriptor(), POLLIN, 0});
    return all;
  }

  bool stop_wanted() override {
    bool failing = false;
    for (Node& one : nodes_) {
      listen_to(one);
      failing = failing || one.failing;
    }
    if (failing) tell_failing();
    return failing;
  }

  void tell_failing() override {
    if (std::exchange(stopping_, true)) return;
    for (Node& one : nodes_)
      if (!one.ending) one.connection.send(message(Value::map({{"stop", true}})));
  }

  Verdict conclude(const Ending& here, bool may_restart) override {
    if (here.exit_code != 0) tell_failing();
    std::optional<Clock::time_point> deadline;
    while (std::any_of(nodes_.begin(), nodes_.end(), [](const Node& one) { return !one.ending; })) {
      // Those that train on have all the time they need; those that are to stop, so long.
      if ((stop_wanted() || stopping_) && !deadline) deadline = Clock::now() + kEndOfRanks;
      if (deadline && Clock::now() >= *deadline) break;
      std::vector<pollfd> news = descriptors();
      constexpr int kLookAgain = 500;
      if (!news.empty()) poll(news.data(), news.size(), kLookAgain);
    }
    return judge(here, may_restart);
  }

 private:
  struct Node {
    Connection connection;
    int node = -1;
    int nproc = 0;
    std::string host{};
    bool failing = false;
    std::optional<Ending> ending{};

    std::string name() const { return "node " + std::to_string(node) + " (" + host + ")"; }
  };

  void greet(std::vector<Node>& coming) {
    if (Connection connection = Connection::accept(listener_); connection) {
      expect_answers(connection);
      coming.push_back({std::move(connection)});
    }
    for (Node& one : coming) {
      const auto hello = read(one.connection.receive());
      if (!hello) continue;
      one.node = number(*hello, "node", -1);
      one.nproc = number(*hello, "nproc", 0);
      one.host = text(*hello, "host");
      const int nodes = number(*hello, "nodes", 0);
      if (one.node < 1 || one.node >= options_.count || one.nproc < 1 || nodes != options_.count) {
        one.connection.send(message(Value::map(
            {{"refused", "it says --nnodes " + std::to_string(nodes) + " --node-rank " + std::to_string(one.node) +
                             ", but the first node says --nnodes " + std::to_string(options_.count)}})));
        one.connection = Connection();
        continue;
      }
      std::erase_if(nodes_, [&](const Node& before) { return before.node == one.node; });  // it was started anew
      nodes_.push_back(std::move(one));
      one.connection = Connection();
    }
    std::erase_if(coming, [](const Node& one) { return one.connection.closed(); });
  }

  NodePlace begin(int nproc, const NodePlace& told, int min_ranks) {
    std::sort(nodes_.begin(), nodes_.end(), [](const Node& a, const Node& b) { return a.node < b.node; });
    NodePlace place = told;
    place.first_rank = 0;
    place.world_size = nproc;
    place.nodes = 1 + static_cast<int>(nodes_.size());
    for (const Node& one : nodes_) place.world_size += one.nproc;
    if (place.nodes < options_.count && (min_ranks == 0 || place.world_size < min_ranks)) {
      const Error error = absent(min_ranks);
      for (Node& one : nodes_) one.connection.send(message(Value::map({{"given_up", error.message()}})));
      throw error;
    }
    int next = nproc;
    for (Node& one : nodes_) {
      one.connection.send(message(Value::map({{"first_rank", next},
                                              {"world_size", place.world_size},
                                              {"nodes", place.nodes},
                                              {"master_port", place.master_port},
                                              {"restart_in", place.restart_in}})));
      next += one.nproc;
    }
    return place;
  }

  Error absent(int min_ranks) const {
    std::string missing;
    for (int node = 1; node < options_.count; ++node)
      if (std::none_of(nodes_.begin(), nodes_.end(), [&](const Node& one) { return one.node == node; }))
        missing += (missing.empty() ? "" : ", ") + std::to_string(node);
    return Error(ErrorKind::comm, "waited " + std::to_string(wait_of(options_, min_ranks > 0).count()) + " s at port " +
                                      std::to_string(options_.port) + " for node " + missing + " of " +
                                      std::to_string(options_.count))
        .help(
            "start the same command there with --node-rank and --master-addr; --node-wait is how many seconds "
            "launchers wait for each other");
  }

  static void listen_to(Node& one) {
    while (!one.ending) {
      const auto said = read(one.connection.receive());
      if (said && said->find("ended")) {
        one.ending = as_ending(said->at("ended"));
        one.failing = one.failing || one.ending->exit_code != 0;
      } else if (said) {
        one.failing = one.failing || yes(*said, "failing");
      } else {
        if (one.connection.closed()) lose(one);
        return;
      }
    }
  }

  static void lose(Node& one) {
    one.failing = true;
    one.ending = Ending{.exit_code = 1,
                        .weight = 2,
                        .text = one.name() + (one.connection.vanished()
                                                  ? " has not answered for " + std::to_string(host_timeout().count()) +
                                                        " s: the machine or its network is down"
                                                  : ": its launcher was killed, or the machine went down")};
  }

  Verdict judge(const Ending& here, bool may_restart) {
    const Ending* blamed = &here;
    const Node* where = nullptr;
    bool again = here.exit_code == 0 || here.again;
    for (Node& one : nodes_) {
      if (!one.ending) {
        one.ending = Ending{.exit_code = 1, .weight = 2, .text = one.name() + ": its ranks did not stop"};
      }
      if (one.ending->exit_code == 0) continue;
      again = again && one.ending->again;
      if (blamed->exit_code == 0 || one.ending->weight > blamed->weight) blamed = &*one.ending, where = &one;
    }
    const Verdict verdict{.again = blamed->exit_code != 0 && again && may_restart,
                          .exit_code = blamed->exit_code,
                          .text = where && blamed->weight > 0 && blamed->text.rfind("node ", 0) != 0
                                      ? where->name() + ": " + blamed->text
                                      : blamed->text};
    for (Node& one : nodes_)
      one.connection.send(message(Value::map({{"again", verdict.again}, {"exit_code", verdict.exit_code}})));
    return verdict;
  }

  Fd listener_;
  std::vector<Node> nodes_;
  bool stopping_ = false;
};

/// The launcher on any other node.
class OtherNode : public NodeLink {
 public:
  explicit OtherNode(const NodeOptions& options) : NodeLink(options) {}

  bool first() const override { return false; }

  NodePlace meet(int nproc, const NodePlace&, int) override {
    // The first node decides when enough have come: it is waited for somewhat longer than it waits.
    const auto deadline = Clock::now() + wait_of(options_, false) + std::chrono::seconds(10);
    stopping_ = false;
    while (true) {
      link_ = Connection::to(options_.host, options_.port, deadline);
      if (link_) {
        expect_answers(link_);
        link_.send(message(
            Value::map({{"node", options_.node}, {"nodes", options_.count}, {"nproc", nproc}, {"host", host_name()}})));
        const auto answer = read(link_.receive(deadline));
        if (answer && answer->find("refused"))
          throw Error(ErrorKind::config, "node 0 refuses this node: " + text(*answer, "refused"))
              .help("give every node the same --nnodes, and a --node-rank of its own below it");
        if (answer && answer->find("given_up"))
          throw Error(ErrorKind::comm, "node 0 has given up: it " + text(*answer, "given_up"));
        if (answer)
          return {.first_rank = number(*answer, "first_rank", 0),
                  .world_size = number(*answer, "world_size", 0),
                  .nodes = number(*answer, "nodes", 0),
                  .master_port = number(*answer, "master_port", 0),
                  .restart_in = text(*answer, "restart_in")};
      }
      // A node 0 that hangs up is on its way out, or is being started again.
      if (Clock::now() >= deadline)
        throw Error(ErrorKind::comm, "node 0 did not answer at " + options_.host + ":" + std::to_string(options_.port))
            .help(
                "start the same command there with --node-rank 0; --node-wait is how many seconds launchers wait for "
                "each other; nodes that the others go on without are called at their next start");
    }
  }

  std::vector<pollfd> descriptors() const override {
    if (!link_) return {};
    return {{link_.descriptor(), POLLIN, 0}};
  }

  bool stop_wanted() override {
    while (const auto line = link_.receive()) take(*line);
    return stop_ || link_.closed();
  }

  void tell_failing() override {
    if (!std::exchange(stopping_, true)) link_.send(message(Value::map({{"failing", true}})));
  }

  Verdict conclude(const Ending& here, bool may_restart) override {
    link_.send(message(Value::map({{"ended", as_value(here)}})));
    while (!verdict_ && !link_.closed())
      if (const auto line = link_.receive(Clock::now() + std::chrono::hours(1))) take(*line);
    Verdict verdict = verdict_.value_or(
        Verdict{.again = here.exit_code != 0 && here.again && may_restart, .exit_code = here.exit_code});
    verdict.text = here.weight > 0 ? here.text : "";
    if (here.exit_code != 0) verdict.exit_code = here.exit_code;  // a signal that came here, for one
    verdict_.reset();
    stop_ = false;
    link_ = Connection();
    return verdict;
  }

 private:
  void take(const std::string& line) {
    const auto said = read(line);
    if (!said) return;
    stop_ = stop_ || yes(*said, "stop");
    if (said->find("again"))
      verdict_ = Verdict{.again = yes(*said, "again"), .exit_code = number(*said, "exit_code", 1)};
  }

  Connection link_;
  std::optional<Verdict> verdict_;
  bool stopping_ = false, stop_ = false;
};

/// Fills in what the flags leave open from a launcher that has started one task a node.
NodeOptions whole(NodeOptions options) {
  constexpr int kPort = 29500;  // torchrun's
  const auto place = options.node < 0 || options.host.empty() ? RankEnvironment::from_env() : std::nullopt;
  if (place && place->world_size == options.count) {
    if (options.node < 0) options.node = place->rank;
    if (options.host.empty()) options.host = place->master_addr;
    if (options.port == 0) options.port = place->master_port;
  }
  if (options.port == 0) options.port = kPort;
  if (options.node >= options.count)
    throw Error(ErrorKind::config,
                "--node-rank " + std::to_string(options.node) + " with --nnodes " + std::to_string(options.count))
        .help("nodes count from 0");
  if (options.node < 0)
    throw Error(ErrorKind::config, "--nnodes " + std::to_string(options.count) + " without --node-rank")
        .help("say which node this is, from 0; srun and mpirun with one task a node say it themselves");
  if (options.host.empty())
    throw Error(ErrorKind::config, "--nnodes " + std::to_string(options.count) + " without --master-addr")
        .help("name the first node by an address that all nodes reach");
  return options;
}

}  // namespace

std::unique_ptr<NodeLink> NodeLink::make(const NodeOptions& options) {
  const NodeOptions all = whole(options);
  if (all.node == 0) return std::make_unique<FirstNode>(all);
  return std::make_unique<OtherNode>(all);
}

}  // namespace ft
