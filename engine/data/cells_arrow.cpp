#include <arrow/array.h>
#include <arrow/extension_type.h>
#include <arrow/util/float16.h>

#include <set>
#include <utility>

#include "engine/data/arrow_cells.h"
#include "engine/data/text_source.h"
#include "engine/error/error.h"

namespace ft {
namespace {

using arrow::Type;

/// What an element of a list counts, whatever it is: a list of nulls has a length and no bytes.
constexpr size_t kBytesOfElement = 16;

/// Part of a type that is read as a map.
std::string unreadable_fields(const arrow::DataType& type) {
  std::set<std::string> names;
  for (const auto& field : type.fields()) {
    if (!names.insert(field->name()).second) return "struct with two fields '" + field->name() + "'";
    if (std::string part = unreadable_part(*field->type()); !part.empty()) return part;
  }
  return "";
}

/// Copies a row's cells, and counts what they come to.
struct Cells {
  size_t& bytes;
  const std::string& place;

  void count(size_t more) {
    bytes += more;
    check_row_size(bytes, place);
  }

  Value text(std::string_view value) {
    count(value.size());
    return std::string(value);
  }

  template <class Lists>
  Value list(const arrow::Array& array, int64_t i) {
    const auto& lists = static_cast<const Lists&>(array);
    const auto begin = static_cast<int64_t>(lists.value_offset(i));
    const auto size = static_cast<int64_t>(lists.value_length(i));
    Value::List out;
    count(kBytesOfElement * static_cast<size_t>(size));  // before anything is allocated: elements may lie nowhere
    out.reserve(static_cast<size_t>(size));
    for (int64_t k = 0; k < size; ++k) out.push_back(read(*lists.values(), begin + k));
    return out;
  }

  Value object(const arrow::Array& array, int64_t i) {
    const auto& structs = static_cast<const arrow::StructArray&>(array);
    Value::Map out;
    out.reserve(static_cast<size_t>(structs.num_fields()));
    for (int k = 0; k < structs.num_fields(); ++k)
      out.emplace_back(array.type()->field(k)->name(), read(*structs.field(k), i));
    return out;
  }

  /// A key that stands twice has its last value, as in JSON.
  Value entries(const arrow::Array& array, int64_t i) {
    const auto& maps = static_cast<const arrow::MapArray&>(array);
    Value out = Value::map();
    for (int64_t k = maps.value_offset(i); k < maps.value_offset(i + 1); ++k)
      out.set(read(*maps.keys(), k).as_string(), read(*maps.items(), k));
    return out;
  }

  template <class Numbers>
  Value integer(const arrow::Array& array, int64_t i) {
    const auto value = static_cast<const Numbers&>(array).Value(i);
    if (!std::in_range<int64_t>(value)) return static_cast<double>(value);
    return static_cast<int64_t>(value);
  }

  template <class Numbers>
  Value number(const arrow::Array& array, int64_t i) {
    return static_cast<double>(static_cast<const Numbers&>(array).Value(i));
  }

  Value nested(const arrow::Array& array, int64_t i);
  Value read(const arrow::Array& array, int64_t i);
};

Value Cells::nested(const arrow::Array& array, int64_t i) {
  switch (array.type_id()) {
    case Type::LIST:
      return list<arrow::ListArray>(array, i);
    case Type::LARGE_LIST:
      return list<arrow::LargeListArray>(array, i);
    case Type::FIXED_SIZE_LIST:
      return list<arrow::FixedSizeListArray>(array, i);
    case Type::LIST_VIEW:
      return list<arrow::ListViewArray>(array, i);
    case Type::LARGE_LIST_VIEW:
      return list<arrow::LargeListViewArray>(array, i);
    case Type::STRUCT:
      return object(array, i);
    case Type::MAP:
      return entries(array, i);
    case Type::DICTIONARY: {
      const auto& codes = static_cast<const arrow::DictionaryArray&>(array);
      return read(*codes.dictionary(), codes.GetValueIndex(i));
    }
    case Type::EXTENSION:
      return read(*static_cast<const arrow::ExtensionArray&>(array).storage(), i);
    default:
      FT_CHECK(false, "a cell of type " + array.type()->ToString());
  }
}

Value Cells::read(const arrow::Array& array, int64_t i) {
  count(1);
  if (array.type_id() == Type::NA || array.IsNull(i)) return {};
  switch (array.type_id()) {
    case Type::STRING:
      return text(static_cast<const arrow::StringArray&>(array).GetView(i));
    case Type::LARGE_STRING:
      return text(static_cast<const arrow::LargeStringArray&>(array).GetView(i));
    case Type::STRING_VIEW:
      return text(static_cast<const arrow::StringViewArray&>(array).GetView(i));
    case Type::BOOL:
      return static_cast<const arrow::BooleanArray&>(array).Value(i);
    case Type::INT8:
      return integer<arrow::Int8Array>(array, i);
    case Type::INT16:
      return integer<arrow::Int16Array>(array, i);
    case Type::INT32:
      return integer<arrow::Int32Array>(array, i);
    case Type::INT64:
      return integer<arrow::Int64Array>(array, i);
    case Type::UINT8:
      return integer<arrow::UInt8Array>(array, i);
    case Type::UINT16:
      return integer<arrow::UInt16Array>(array, i);
    case Type::UINT32:
      return integer<arrow::UInt32Array>(array, i);
    case Type::UINT64:
      return integer<arrow::UInt64Array>(array, i);
    case Type::HALF_FLOAT:
      return arrow::util::Float16::FromBits(static_cast<const arrow::HalfFloatArray&>(array).Value(i)).ToDouble();
    case Type::FLOAT:
      return number<arrow::FloatArray>(array, i);
    case Type::DOUBLE:
      return number<arrow::DoubleArray>(array, i);
    default:
      return nested(array, i);
  }
}

}  // namespace

std::string unreadable_part(const arrow::DataType& type) {
  switch (type.id()) {
    case Type::NA:
    case Type::BOOL:
    case Type::INT8:
    case Type::INT16:
    case Type::INT32:
    case Type::INT64:
    case Type::UINT8:
    case Type::UINT16:
    case Type::UINT32:
    case Type::UINT64:
    case Type::HALF_FLOAT:
    case Type::FLOAT:
    case Type::DOUBLE:
    case Type::STRING:
    case Type::LARGE_STRING:
    case Type::STRING_VIEW:
      return "";
    case Type::LIST:
    case Type::LARGE_LIST:
    case Type::FIXED_SIZE_LIST:
    case Type::LIST_VIEW:
    case Type::LARGE_LIST_VIEW:
    case Type::STRUCT:
      return unreadable_fields(type);
    case Type::MAP: {
      const auto& map = static_cast<const arrow::MapType&>(type);
      const Type::type key = map.key_type()->id();
      if (key != Type::STRING && key != Type::LARGE_STRING && key != Type::STRING_VIEW) return type.ToString();
      return unreadable_part(*map.item_type());
    }
    case Type::DICTIONARY:
      return unreadable_part(*static_cast<const arrow::DictionaryType&>(type).value_type());
    case Type::EXTENSION:
      return unreadable_part(*static_cast<const arrow::ExtensionType&>(type).storage_type());
    default:
      return type.ToString();
  }
}

Value cell(const arrow::Array& array, int64_t i, size_t& bytes, const std::string& place) {
  return Cells{bytes, place}.read(array, i);
}

}  // namespace ft
