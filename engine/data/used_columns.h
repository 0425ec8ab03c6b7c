#pragma once
/// Which columns of a Parquet or Arrow file a data set's rows are made of. A pure function; its result is asked once a
/// column and file.

#include <memory>

#include "engine/data/column_rows.h"
#include "engine/schema/value.h"

namespace ft {

class ChatTemplate;

/// The fields that the data set's kind may read of a row, those that the plan names (as a field, or in a format as
/// {name}), and those that the template reads.
/// @param split a plan's data set: `kind`, and the keys of its kind
/// @param chat null where no template is rendered
UsesColumn used_columns(const Value& split, std::shared_ptr<const ChatTemplate> chat);

}  // namespace ft
