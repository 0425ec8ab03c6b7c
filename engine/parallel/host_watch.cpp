#include "engine/parallel/host_watch.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <sstream>

#include "engine/error/error.h"

namespace ft {
namespace {

constexpr std::chrono::seconds kComing{10};  // for a connection to a rank that has just been heard of
constexpr const char* kNoAddress = "-";

/// The machine, as people and its administrators know it.
std::string named(const std::string& host, const std::string& address) {
  return host == address ? host : host + " (" + address + ")";
}

/// "rank 3", "ranks 2 and 3", "ranks 2, 3 and 5"
std::string rank_list(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < ranks.size(); ++i)
    text += (i == 0 ? "" : i + 1 == ranks.size() ? " and " : ", ") + std::to_string(ranks[i]);
  return text;
}

std::string gone_text(const std::string& machine, const std::vector<int>& ranks, std::chrono::seconds timeout) {
  return machine + ", with " + rank_list(ranks) + ", has not answered for " + std::to_string(timeout.count()) +
         " s: the machine or its network is down";
}

/// So that nobody who merely finds the port is taken for a rank.
std::string random_token() {
  std::random_device source;
  std::ostringstream text;
  text << std::hex;
  for (int i = 0; i < 4; ++i) text << source();
  return text.str();
}

}  // namespace

std::chrono::seconds host_timeout() {
  constexpr int kOtherwise = 6, kMost = 120;
  const char* text = std::getenv("FTENGINE_HOST_TIMEOUT");
  if (!text || !*text) return std::chrono::seconds(kOtherwise);
  int seconds = -1;
  const char* const end = text + std::char_traits<char>::length(text);
  const auto read = std::from_chars(text, end, seconds);
  if (read.ptr != end || seconds < 0 || seconds > kMost)
    throw Error(ErrorKind::config, std::string("got '") + text + "', want seconds, from 0 to " + std::to_string(kMost))
        .at("environment")
        .key("FTENGINE_HOST_TIMEOUT")
        .help("0: machines that vanish are noticed by parallel.timeout alone");
  return std::chrono::seconds(seconds);
}

HostWatch::HostWatch(HostWatchOptions options, const std::string& address)
    : options_(std::move(options)), token_(random_token()), wake_(eventfd(0, EFD_CLOEXEC)) {
  int port = 0;
  listener_ = listen_at(address, port);
  meeting_point_ =
      (address.empty() ? kNoAddress : address) + (" " + std::to_string(port)) + " " + token_ + " " + host_name();
  thread_ = std::thread([this] { watch_all(); });
}

HostWatch::HostWatch(HostWatchOptions options, const std::string& meeting_point, const std::string& otherwise)
    : options_(std::move(options)), meeting_point_(meeting_point), wake_(eventfd(0, EFD_CLOEXEC)) {
  std::string address;
  int port = 0;
  std::istringstream(meeting_point) >> address >> port >> token_ >> rank_0_host_;
  if (address == kNoAddress) address = otherwise;
  rank_0_ = Connection::to(address, port, std::chrono::steady_clock::now() + kComing);
  if (!rank_0_ || !rank_0_.send(token_ + " " + std::to_string(options_.rank) + " " + host_name()))
    throw Error(ErrorKind::comm, "cannot reach rank 0 at " + address + ", port " + std::to_string(port));
  rank_0_.expect_answers(options_.timeout);
  thread_ = std::thread([this] { watch_rank_0(); });
}

HostWatch::~HostWatch() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto n = ::write(wake_.get(), &one, sizeof one);
  if (thread_.joinable()) thread_.join();
}

void HostWatch::watch_all() {
  std::vector<Watched> ranks;
  while (true) {
    std::vector<pollfd> news{{wake_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
    for (const Watched& one : ranks) news.push_back({one.connection.descriptor(), POLLIN, 0});
    if (poll(news.data(), news.size(), -1) < 0 && errno != EINTR) return;
    if (news[0].revents) return;
    for (Watched& one : ranks) {
      const auto line = one.connection.receive();
      if (line && one.rank < 0) introduce(one, *line);
    }
    const auto lost = std::find_if(ranks.begin(), ranks.end(),
                                   [](const Watched& one) { return one.rank > 0 && one.connection.vanished(); });
    if (lost != ranks.end()) {
      const std::string machine = lost->host;
      std::vector<int> there;
      for (const Watched& one : ranks)
        if (one.host == machine) there.push_back(one.rank);
      std::sort(there.begin(), there.end());
      const std::string what = gone_text(machine, there, options_.timeout);
      for (Watched& one : ranks)
        if (one.host != machine) one.connection.send(what);
      return options_.gone(what, false);
    }
    // A rank that has left has closed its connection, which is no news here.
    std::erase_if(ranks, [](const Watched& one) { return one.connection.closed(); });
    if (news[1].revents) welcome(ranks);
  }
}

void HostWatch::welcome(std::vector<Watched>& ranks) {
  Connection connection = Connection::accept(listener_);
  if (!connection) return;
  connection.expect_answers(options_.timeout);
  ranks.push_back({std::move(connection)});
}

void HostWatch::introduce(Watched& one, const std::string& line) const {
  std::string token, host;
  int rank = -1;
  std::istringstream(line) >> token >> rank >> host;
  if (token != token_ || rank < 1) return;
  one.rank = rank;
  one.host = named(host, one.connection.peer());
}

void HostWatch::watch_rank_0() {
  while (rank_0_) {
    pollfd news[] = {{wake_.get(), POLLIN, 0}, {rank_0_.descriptor(), POLLIN, 0}};
    if (poll(news, 2, -1) < 0 && errno != EINTR) return;
    if (news[0].revents) return;
    if (const auto told = rank_0_.receive()) return options_.gone(*told, true);
    if (rank_0_.vanished())
      return options_.gone(gone_text(named(rank_0_host_, rank_0_.peer()), {0}, options_.timeout), false);
  }
}

}  // namespace ft
