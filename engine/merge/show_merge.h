#pragma once
/// A merge that a person watches: the bar, then the line that says what was written. Called by `ftengine merge` and at
/// the end of a run with save.final = "huggingface"; from one thread of rank 0.

#include <memory>

#include "engine/device/terminal.h"
#include "engine/merge/merge.h"

namespace ft {

/// Merges, and shows it on `terminal`.   @throws as merge()
MergeReport show_merge(const MergeOptions& options, const std::shared_ptr<Terminal>& terminal);

}  // namespace ft
