#pragma once
/// The handle RowSource: the rows of a data set, with the one it stands on. Used by lua/bind only.

#include "engine/data/row_stream.h"
#include "engine/schema/value.h"

namespace ft {

struct RowCursor {
  RowStream stream;
  Value row{};
};

}  // namespace ft
