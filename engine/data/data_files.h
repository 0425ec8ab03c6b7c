#pragma once
/// Which files a data set is read from. Every rank lists them alike: names are sorted. Pure functions of the disk.

#include <filesystem>
#include <vector>

#include "engine/schema/value.h"

namespace ft {

struct DataFile {
  std::filesystem::path path;
  double weight = 1;  ///< how often an epoch reads its rows: 2 reads each twice, 0.5 a half of them
};

/// @param given what a plan's `path` says: a file, a glob ("data/*.jsonl.gz"), or a directory, whose data files are
/// taken with those of the directories below (of one that Hugging Face's save_to_disk wrote those that its state.json
/// lists); or a list of these, each as it is or { path = …, weight = …, part = … }. A part, "train", "validation" or
/// "test", is a directory's files whose names or folders speak of that split.
/// @throws Error(config) for a path without files, a weight of 0 or less, and without a part for a directory that holds
/// the files of several splits (train-….jsonl beside test-….jsonl)
std::vector<DataFile> list_data_files(const Value& given);

}  // namespace ft
