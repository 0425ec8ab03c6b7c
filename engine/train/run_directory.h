#pragma once
/// The directory of a run: a fresh one, guarded by a lock while the run lasts, with everything in it that merging,
/// resuming and a reader need, before step 1. Rank 0 alone makes it; the others are told the path. One thread.

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "engine/schema/value.h"

namespace ft {

/// run.json: what this run was made from. The versions of ftengine, LibTorch and the compiler are added.
struct RunRecord {
  std::string base_model;              ///< absolute path of the Hugging Face directory; empty: built from a config
  std::string model_fingerprint;       ///< ModelDirectory::fingerprint()
  std::vector<std::string> quantized;  ///< names of the parameters kept as NF4
  bool double_quant = false;
  std::string compute;  ///< dtype that "auto" came to
  uint64_t seed = 0;
  int world_size = 1;
  std::vector<std::pair<std::string, std::filesystem::path>> data;  ///< by split; each file's XXH3 is recorded
  std::vector<std::string> command;                                 ///< argv
  Value grown;  ///< tables with rows for new tokens, as Growth::read reads it; null without

  Value to_value() const;
};

/// What is written before step 1.
struct RunContents {
  Value plan;
  Value config;                                            ///< config.json
  Value adapter_config;                                    ///< adapter_config.json; null without an adapter
  std::vector<std::filesystem::path> companions;           ///< tokenizer files and the like, copied by name
  std::vector<std::pair<std::string, std::string>> texts;  ///< files that take the place of companions: name, content
  RunRecord record;
};

class RunDirectory {
 public:
  /// Makes a fresh numbered directory: the first of base-1, base-2, … after those that exist, by mkdir, so that two
  /// runs that start together never share one.   @throws Error(io)
  static RunDirectory create_numbered(const std::filesystem::path& base);
  /// Takes exactly this directory, and makes it where it is absent.
  /// @throws Error(config) when it holds a run, naming its files, or when another process holds its lock.
  static RunDirectory create_at(const std::filesystem::path& path);
  /// Goes on in the directory of an earlier run.   @throws Error(config) when it holds no run, or is locked.
  static RunDirectory reopen(const std::filesystem::path& path);

  ~RunDirectory();  ///< gives the lock back
  RunDirectory(RunDirectory&& other) noexcept;
  RunDirectory& operator=(RunDirectory&&) = delete;

  const std::filesystem::path& path() const { return path_; }  ///< absolute
  /// Writes plan.json, config.json, adapter_config.json, companions and last run.json.   @throws Error(io)
  void write(const RunContents& contents) const;

 private:
  explicit RunDirectory(std::filesystem::path path);

  std::filesystem::path path_;
  int lock_ = -1;
};

}  // namespace ft
