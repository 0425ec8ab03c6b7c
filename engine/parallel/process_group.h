#pragma once
/// The ranks of a run and what they say to each other: c10d behind a small interface. CPU tensors travel by Gloo, CUDA
/// tensors by NCCL (the CUDA plugin), gathers on a stream of their own; one rank alone needs neither. Made once by main
/// or a test (connect), held by the run.
///
/// Rank rule: everything but rank(), size() and what a failing rank calls is collective: every rank calls it, in the
/// same order. Thread rule: one thread issues collectives, the one that walks the schedule; waiting elsewhere is not
/// allowed. A rank that dies closes its connections, and every wait on it throws Error(comm) at once; the timeout is
/// for a network that goes quiet.

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/parallel/rank_environment.h"

namespace ft {

/// A collective on its way. Its tensors must stay as they are until wait() returns. Move-only. Destroying it without a
/// wait abandons the collective, which only a run that ends may do.
class Pending {
 public:
  /// What an implementation hands out. wait() is called at most once.
  struct Work {
    virtual ~Work() = default;
    virtual void wait() = 0;
  };

  Pending() = default;  ///< done already
  explicit Pending(std::unique_ptr<Work> work) : work_(std::move(work)) {}

  /// Returns when the result may be used: on the CPU now, on a GPU by work queued on the current stream from now on.
  /// Idempotent.   @throws Error(comm)
  void wait();
  bool done() const { return work_ == nullptr; }  ///< true once waited for

 private:
  std::unique_ptr<Work> work_;
};

class ProcessGroup {
 public:
  /// Meets the other ranks: rank 0 listens at master_addr:master_port, the others come to it. Collective.
  /// GLOO_SOCKET_IFNAME names the network interface; without it, loopback is used when master_addr is loopback, else
  /// the interface that this machine's host name resolves to.
  /// @param timeout how long to wait for a rank that is not heard of, here and in every collective.
  /// @throws Error(comm)
  static std::shared_ptr<ProcessGroup> connect(const RankEnvironment& environment, std::chrono::seconds timeout);
  /// One rank alone: collectives copy, or do nothing.
  static std::shared_ptr<ProcessGroup> single();

  virtual ~ProcessGroup() = default;
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }

  /// whole[r] = rank r's `mine`, for every r. Returns at once. Bytes move as integers, whatever the dtype.
  /// @param whole [size * n], contiguous, any dtype.
  /// @param mine [n], same dtype and device; may be this rank's own slice of `whole`, and then nothing is copied.
  virtual Pending all_gather_into(const at::Tensor& whole, const at::Tensor& mine) = 0;
  /// mine = sum over ranks of their whole[rank()], in rank order (on GPUs in NCCL's). Returns at once; CPUs add in
  /// wait().
  /// @param mine [n] fp32 contiguous.   @param whole [size * n] fp32 contiguous, unchanged.
  virtual Pending reduce_scatter_sum(const at::Tensor& mine, const at::Tensor& whole) = 0;
  /// In place; the same bits on every rank. fp32, fp64 or int64, contiguous. Returns at once.
  virtual Pending all_reduce_sum(const at::Tensor& tensor) = 0;
  virtual Pending all_reduce_max(const at::Tensor& tensor) = 0;
  /// Every rank's tensor becomes root's. Contiguous, any dtype; bytes move as integers. Returns at once.
  virtual Pending broadcast(const at::Tensor& tensor, int root) = 0;
  /// received[r] = rank r's sent[rank()], for every r. Returns at once. Bytes move as integers, whatever the dtype.
  /// @param received,sent [size * n] contiguous, apart from each other, any dtype.
  virtual Pending all_to_all(const at::Tensor& received, const at::Tensor& sent) = 0;
  /// One step round the ring: `sent` goes to the next rank, the previous one's comes into `received`. Returns at once.
  /// @param received,sent alike, contiguous, apart from each other, any dtype.
  virtual Pending pass_on(const at::Tensor& received, const at::Tensor& sent) = 0;
  /// Returns when every rank has come here.
  virtual void barrier() = 0;

  /// A group of some of this group's ranks, ascending, or nullptr on a rank that is not among them. Collective over
  /// this whole group. @param name unique among this group's subgroups, the same on all of its ranks.
  virtual std::shared_ptr<ProcessGroup> subgroup(const std::vector<int>& ranks, const std::string& name) = 0;

  /// Each rank's text, by rank. Waits.
  std::vector<std::string> all_gather_text(const std::string& text);
  /// Root's text, on every rank. Waits.
  std::string broadcast_text(const std::string& text, int root = 0);
  /// Sum over ranks in fp64, added in rank order: the same bits on every rank. Waits.
  double sum(double value);
  /// Largest over ranks. Waits.
  double max(double value);

  /// Leaves a note why this rank goes, which the others put into their Error(comm). Best effort, never throws, not
  /// collective.
  virtual void report_failure(const std::string& message) noexcept {}
  /// True for the first rank that asks: the one that tells the user, where no supervisor picks among the ranks. A rank
  /// that merely lost another which has reported its failure gets false. Best effort, never throws, not collective.
  virtual bool may_speak(bool lost_another) noexcept { return true; }
  /// The last call of a rank that ends with an error: rank 0 waits here, for seconds at most, until the others have
  /// come too, since what they ask about failures is held by rank 0. Never throws.
  virtual void leave() noexcept {}
  /// The group that connect() made in this process and that is still held, or nullptr.
  static std::shared_ptr<ProcessGroup> connected();

 protected:
  ProcessGroup(int rank, int size) : rank_(rank), size_(size) {}

 private:
  int rank_, size_;
};

}  // namespace ft
