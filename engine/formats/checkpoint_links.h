#pragma once
/// `latest` and `best` in a run directory: links to checkpoints beside them, so that RUN/best names one wherever a
/// checkpoint is wanted. Rank 0 makes them when a checkpoint is whole; anybody reads them. One thread.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace ft {

inline constexpr const char* kLatestLink = "latest";
inline constexpr const char* kBestLink = "best";  ///< the one of the lowest validation loss
/// In a checkpoint's header: the validation loss of its weights, where it was measured.
inline constexpr const char* kValidationLoss = "val_loss";

/// Points `latest` at a checkpoint that is whole, and `best` too where it has a validation loss that is below that of
/// the checkpoint which `best` names, or that one is gone. Each link changes at once, never to stand for nothing.
/// @return the links that could not be set, with the reason: their place is taken by what is no link, or the file
/// system has none.
std::vector<std::string> link_checkpoint(const std::filesystem::path& checkpoint);

/// The checkpoint that a link of a run names; nothing where there is no such link or it leads nowhere.
std::optional<std::filesystem::path> linked_checkpoint(const std::filesystem::path& run_directory, const char* link);

/// RUN/best as RUN/checkpoint-200; every other path as it is given.
std::filesystem::path without_link(const std::filesystem::path& path);

}  // namespace ft
