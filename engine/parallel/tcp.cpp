#include "engine/parallel/tcp.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>

#include "engine/error/error.h"

namespace ft {
namespace {

using Clock = std::chrono::steady_clock;
using Addresses = std::unique_ptr<addrinfo, void (*)(addrinfo*)>;

constexpr size_t kMostUnread = 1 << 20;  // of a line: more is none of our messages

Addresses addresses_of(const char* host, int port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = host ? 0 : AI_PASSIVE;
  addrinfo* found = nullptr;
  if (getaddrinfo(host, std::to_string(port).c_str(), &hints, &found) != 0) found = nullptr;
  return {found, found ? freeaddrinfo : [](addrinfo*) {}};
}

int port_of(int fd) {
  sockaddr_storage place{};
  socklen_t length = sizeof place;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&place), &length) != 0) return 0;
  return ntohs(place.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(place).sin6_port
                                           : reinterpret_cast<const sockaddr_in&>(place).sin_port);
}

Fd listening(const addrinfo& address) {
  Fd fd(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fd;
  const int yes = 1, no = 0;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);  // connections of a run that has ended may linger
  if (address.ai_family == AF_INET6) setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
  constexpr int kWaiting = 1024;
  if (bind(fd.get(), address.ai_addr, address.ai_addrlen) != 0 || listen(fd.get(), kWaiting) != 0) fd.reset();
  return fd;
}

// Nobody there, or no way there, as opposed to one who is there and hangs up.
bool means_vanished(int error) {
  return error == ETIMEDOUT || error == EHOSTUNREACH || error == ENETUNREACH || error == EHOSTDOWN ||
         error == ENETDOWN || error == ENONET;
}

int milliseconds_until(Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1 << 30));
}

Fd connected(const addrinfo& address, Clock::time_point deadline) {
  Fd fd(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fd;
  if (::connect(fd.get(), address.ai_addr, address.ai_addrlen) == 0) return fd;
  pollfd ready{fd.get(), POLLOUT, 0};
  int error = errno;
  socklen_t length = sizeof error;
  // One that gets no answer at all is asked anew after a while: the machine may have come up since.
  const auto patience = std::min(deadline, Clock::now() + std::chrono::seconds(5));
  if (error == EINPROGRESS && poll(&ready, 1, milliseconds_until(patience)) == 1)
    getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  if (error != 0) fd.reset();
  return fd;
}

}  // namespace

void Fd::reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

std::string host_name() {
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  return name[0] ? name : "?";
}

Fd listen_at(const std::string& address, int& port) {
  const Addresses found = addresses_of(address.empty() ? nullptr : address.c_str(), port);
  int error = EADDRNOTAVAIL;
  // An IPv6 socket of all addresses serves IPv4 too; where the system has none, IPv4 alone.
  for (const int family : {AF_INET6, AF_INET})
    for (const addrinfo* one = found.get(); one; one = one->ai_next) {
      if (one->ai_family != family) continue;
      Fd fd = listening(*one);
      error = errno;
      if (!fd) continue;
      port = port_of(fd.get());
      return fd;
    }
  throw Error(ErrorKind::io, "cannot listen on " + (address.empty() ? "this machine's addresses" : address) + ", " +
                                 (port ? "port " + std::to_string(port) : "any port") + ": " + std::strerror(error));
}

Connection::Connection(Fd fd) : fd_(std::move(fd)) {
  if (!fd_) return;
  fcntl(fd_.get(), F_SETFL, O_NONBLOCK);
  sockaddr_storage place{};
  socklen_t length = sizeof place;
  char text[NI_MAXHOST];
  if (getpeername(fd_.get(), reinterpret_cast<sockaddr*>(&place), &length) == 0 &&
      getnameinfo(reinterpret_cast<sockaddr*>(&place), length, text, sizeof text, nullptr, 0, NI_NUMERICHOST) == 0)
    peer_ = text;
  if (peer_.rfind("::ffff:", 0) == 0) peer_.erase(0, 7);  // IPv4, come to an IPv6 socket
}

Connection Connection::accept(const Fd& listener) {
  return Connection(Fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)));
}

Connection Connection::to(const std::string& host, int port, Clock::time_point deadline) {
  constexpr std::chrono::milliseconds kPause{200};
  while (true) {
    const Addresses found = addresses_of(host.c_str(), port);
    for (const addrinfo* one = found.get(); one; one = one->ai_next)
      if (Connection made(connected(*one, deadline)); made) return made;
    if (Clock::now() + kPause >= deadline) return {};
    std::this_thread::sleep_for(kPause);
  }
}

void Connection::expect_answers(std::chrono::seconds within) {
  const int on = 1, each = 1, probes = static_cast<int>(std::clamp<int64_t>(within.count(), 1, 127));
  const unsigned most_ms = static_cast<unsigned>(within.count() * 1000);
  setsockopt(fd_.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  setsockopt(fd_.get(), IPPROTO_TCP, TCP_KEEPIDLE, &each, sizeof each);
  setsockopt(fd_.get(), IPPROTO_TCP, TCP_KEEPINTVL, &each, sizeof each);
  setsockopt(fd_.get(), IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
  // For what was sent and is not acknowledged, during which no questions are asked.
  setsockopt(fd_.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, &most_ms, sizeof most_ms);
}

bool Connection::send(const std::string& line) {
  const std::string text = line + "\n";
  size_t sent = 0;
  while (fd_ && sent < text.size()) {
    const ssize_t n = ::send(fd_.get(), text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (n > 0) {
      sent += static_cast<size_t>(n);
    } else if (errno != EINTR) {
      return false;
    }
  }
  return sent == text.size();
}

std::optional<std::string> Connection::receive() {
  char buffer[4096];
  while (fd_) {
    const ssize_t got = ::recv(fd_.get(), buffer, sizeof buffer, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    if (got > 0) {
      read_.append(buffer, static_cast<size_t>(got));
      if (read_.size() <= kMostUnread) continue;
    }
    vanished_ = got < 0 && means_vanished(errno);
    fd_.reset();
  }
  const size_t end = read_.find('\n');
  if (end == std::string::npos) return std::nullopt;
  std::string line = read_.substr(0, end);
  read_.erase(0, end + 1);
  return line;
}

std::optional<std::string> Connection::receive(Clock::time_point deadline) {
  while (true) {
    if (auto line = receive()) return line;
    if (!fd_ || Clock::now() >= deadline) return std::nullopt;
    pollfd ready{fd_.get(), POLLIN, 0};
    poll(&ready, 1, milliseconds_until(deadline));
  }
}

}  // namespace ft
