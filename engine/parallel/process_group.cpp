#include "engine/parallel/process_group.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "engine/error/error.h"

namespace ft {
namespace {

/// One rank alone.
class SingleGroup : public ProcessGroup {
 public:
  SingleGroup() : ProcessGroup(0, 1) {}
  Pending all_gather_into(const at::Tensor& whole, const at::Tensor& mine) override { return copy(whole, mine); }
  Pending reduce_scatter_sum(const at::Tensor& mine, const at::Tensor& whole) override { return copy(mine, whole); }
  Pending all_reduce_sum(const at::Tensor&) override { return {}; }
  Pending all_reduce_max(const at::Tensor&) override { return {}; }
  Pending broadcast(const at::Tensor&, int root) override {
    FT_CHECK(root == 0, "broadcast from a rank that is not there");
    return {};
  }
  Pending all_to_all(const at::Tensor& received, const at::Tensor& sent) override { return copy(received, sent); }
  Pending pass_on(const at::Tensor& received, const at::Tensor& sent) override { return copy(received, sent); }
  void barrier() override {}
  std::shared_ptr<ProcessGroup> subgroup(const std::vector<int>& ranks, const std::string&) override {
    return ranks.empty() ? nullptr : std::make_shared<SingleGroup>();
  }

 private:
  static Pending copy(const at::Tensor& to, const at::Tensor& from) {
    FT_CHECK(to.numel() == from.numel() && to.scalar_type() == from.scalar_type(), "one rank's part is the whole");
    if (to.data_ptr() == from.data_ptr() || to.numel() == 0) return {};
    if (to.is_cpu()) {
      std::memmove(to.data_ptr(), from.data_ptr(), to.nbytes());  // as integers, as between ranks
    } else {
      to.view(at::kByte).copy_(from.view(at::kByte));
    }
    return {};
  }
};

}  // namespace

void Pending::wait() {
  if (const auto work = std::move(work_)) work->wait();
}

std::shared_ptr<ProcessGroup> ProcessGroup::single() { return std::make_shared<SingleGroup>(); }

std::vector<std::string> ProcessGroup::all_gather_text(const std::string& text) {
  const at::Tensor sizes = at::zeros({size()}, at::kLong);
  int64_t* const size_of = sizes.data_ptr<int64_t>();
  size_of[rank()] = static_cast<int64_t>(text.size());
  all_gather_into(sizes, sizes.narrow(0, rank(), 1)).wait();
  const int64_t widest = *std::max_element(size_of, size_of + size());
  std::vector<std::string> texts(size());
  if (widest == 0) return texts;
  const at::Tensor whole = at::zeros({size() * widest}, at::kByte);
  char* const bytes = static_cast<char*>(whole.data_ptr());
  std::memcpy(bytes + rank() * widest, text.data(), text.size());
  all_gather_into(whole, whole.narrow(0, rank() * widest, widest)).wait();
  for (int r = 0; r < size(); ++r) texts[r].assign(bytes + r * widest, size_of[r]);
  return texts;
}

std::string ProcessGroup::broadcast_text(const std::string& text, int root) {
  const at::Tensor length = at::zeros({1}, at::kLong);
  *length.data_ptr<int64_t>() = static_cast<int64_t>(text.size());
  broadcast(length, root).wait();
  const int64_t bytes = *length.data_ptr<int64_t>();
  if (bytes == 0) return {};
  const at::Tensor buffer = at::zeros({bytes}, at::kByte);
  if (rank() == root) std::memcpy(buffer.data_ptr(), text.data(), text.size());
  broadcast(buffer, root).wait();
  return {static_cast<const char*>(buffer.data_ptr()), static_cast<size_t>(bytes)};
}

namespace {

at::Tensor gather_numbers(ProcessGroup& group, double value) {
  const at::Tensor values = at::zeros({group.size()}, at::kDouble);
  values.data_ptr<double>()[group.rank()] = value;
  group.all_gather_into(values, values.narrow(0, group.rank(), 1)).wait();
  return values;
}

}  // namespace

double ProcessGroup::sum(double value) {
  const at::Tensor values = gather_numbers(*this, value);
  double total = 0;
  for (int r = 0; r < size(); ++r) total += values.data_ptr<double>()[r];
  return total;
}

double ProcessGroup::max(double value) {
  const at::Tensor values = gather_numbers(*this, value);
  return *std::max_element(values.data_ptr<double>(), values.data_ptr<double>() + size());
}

}  // namespace ft
