#pragma once
/// Small TCP connections beside the collectives: the watch over machines (host_watch.h), launchers of several nodes
/// (node_link.h), and the socket that rank 0's store takes over. Lines of text, one a message. A connection is one
/// thread's.

#include <chrono>
#include <optional>
#include <string>
#include <utility>

namespace ft {

/// A file descriptor that closes itself.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    reset();
    fd_ = std::exchange(other.fd_, -1);
    return *this;
  }
  ~Fd() { reset(); }
  void reset();
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

/// This machine's name as its system says it, "?" where it has none.
std::string host_name();

/// Listens on an address of this machine, or for "" on all of them, at a port, or for 0 at a free one, which is then
/// set.   @throws Error(io)
Fd listen_at(const std::string& address, int& port);

/// One end of a connection.
class Connection {
 public:
  Connection() = default;
  /// Takes the next one that has come to `listener`; none where it has gone again.
  static Connection accept(const Fd& listener);
  /// Asks for one, time and again until `deadline`: the other side may not listen yet.
  /// @return none where nobody answered
  static Connection to(const std::string& host, int port, std::chrono::steady_clock::time_point deadline);

  /// From now on the system asks the other machine each second whether it is there, and gives the connection up when
  /// it has not answered for so long. The other machine's system answers, whatever its processes do or have to wait
  /// for.
  void expect_answers(std::chrono::seconds within);

  /// Sends a line, which holds no line break, without waiting. False where it could not.
  bool send(const std::string& line);
  /// The next whole line, without waiting; nothing where there is none yet, or ever.
  std::optional<std::string> receive();
  /// The next whole line, waited for until `deadline`.
  std::optional<std::string> receive(std::chrono::steady_clock::time_point deadline);

  /// The other side has closed it, or it broke; set by receive().
  bool closed() const { return !fd_; }
  /// It broke because the other machine no longer answers.
  bool vanished() const { return vanished_; }
  /// The other side's address, without its port.
  std::string peer() const { return peer_; }
  int descriptor() const { return fd_.get(); }
  explicit operator bool() const { return static_cast<bool>(fd_); }

 private:
  explicit Connection(Fd fd);

  Fd fd_;
  std::string read_, peer_;
  bool vanished_ = false;
};

}  // namespace ft
