#include "engine/data/batch.h"

#include <algorithm>

#include "engine/data/packing.h"
#include "engine/data/token_rows.h"
#include "engine/error/error.h"

namespace ft {
namespace {

/// Writes one document at `begin` of row-major arrays; the last token of a document has no target.
void put_document(const TokenRows& rows, int64_t document, int64_t begin, Batch& batch) {
  rows.check_mapped(document);
  const auto ids = rows.ids(document), labels = rows.labels(document);
  for (size_t t = 0; t < ids.size(); ++t) {
    const size_t at = static_cast<size_t>(begin) + t;
    batch.tokens[at] = ids[t];
    batch.positions[at] = static_cast<int64_t>(t);
    if (t + 1 == ids.size()) break;
    batch.targets[at] = labels[t + 1];
    batch.num_targets += labels[t + 1] != kIgnoreLabel;
  }
}

}  // namespace

Batch make_batch(const TokenRows& rows, const Packing& packing, std::span<const int64_t> row_ids, int64_t pad_id,
                 int64_t multiple) {
  static const std::vector<int64_t> kNoDocuments;
  const auto documents_of = [&](int64_t id) -> const std::vector<int64_t>& {
    FT_CHECK(id < packing.size(), "packed row " + std::to_string(id) + " of " + std::to_string(packing.size()));
    return id < 0 ? kNoDocuments : packing.rows[static_cast<size_t>(id)];
  };
  Batch batch;
  batch.rows = static_cast<int64_t>(row_ids.size());
  batch.row_ids.assign(row_ids.begin(), row_ids.end());
  batch.length = 1;  // a micro batch of rows of no weight still runs, so that ranks stay in step
  for (const int64_t id : row_ids) {
    int64_t used = 0;
    for (const int64_t document : documents_of(id)) used += rows.length(document);
    batch.length = std::max(batch.length, (used + multiple - 1) / multiple * multiple);
  }
  const auto size = static_cast<size_t>(batch.rows * batch.length);
  batch.tokens.assign(size, pad_id);
  batch.targets.assign(size, kIgnoreLabel);
  batch.positions.assign(size, 0);
  for (int64_t r = 0; r < batch.rows; ++r) {
    std::vector<int64_t>& lengths = batch.documents.emplace_back();
    int64_t at = r * batch.length;
    const int64_t end = at + batch.length;
    for (const int64_t document : documents_of(row_ids[static_cast<size_t>(r)])) {
      put_document(rows, document, at, batch);
      lengths.push_back(rows.length(document));
      at += rows.length(document);
    }
    if (at < end) lengths.push_back(end - at);
    for (int64_t t = 0; at < end; ++at, ++t) batch.positions[static_cast<size_t>(at)] = t;
  }
  return batch;
}

}  // namespace ft
