// Filters on sequences (jinja2/filters.py).
#include <algorithm>
#include <map>

#include "engine/template/evaluator.h"
#include "engine/template/python_text.h"

namespace ft::jinja {
namespace {

/// environment.getitem(…) along "a.b.0".
class AttributePath {
 public:
  explicit AttributePath(const Datum& attribute) {
    if (attribute.is_none()) return;
    if (!attribute.is_string()) {
      parts_.push_back(attribute);
      return;
    }
    for (const std::string_view part : split_at(attribute.str(), ".", -1)) {
      constexpr size_t kMostDigits = 18;
      const bool number =
          part.size() <= kMostDigits && is_all(part, "decimal") && part.find_first_not_of("0123456789") == part.npos;
      parts_.push_back(number ? Datum::integer(std::stoll(std::string(part))) : Datum::string(std::string(part)));
    }
  }

  Datum of(Evaluator& evaluator, Datum item, const Datum* otherwise = nullptr) const {
    for (const Datum& part : parts_) {
      item = evaluator.item(item, part);
      if (otherwise && !otherwise->is_none() && item.is_undefined()) item = *otherwise;
    }
    return item;
  }

 private:
  std::vector<Datum> parts_;
};

Datum sort_key(const Datum& value, bool case_sensitive) {
  return !case_sensitive && value.is_string() ? Datum::string(lower(value.str())) : value;
}

Datum generator(std::vector<Datum> items) { return Datum::sequence(Kind::iterator, std::move(items), "generator"); }

/// Sorts as Python does: stable, also under `reverse`. Merge sort by hand, since a comparison may raise.
void sort_by_keys(std::vector<std::pair<Datum, Datum>>& items, bool reverse) {
  const auto before = [&](const auto& a, const auto& b) {
    return reverse ? compare(b.first, a.first, "<") < 0 : compare(a.first, b.first, "<") < 0;
  };
  std::vector<std::pair<Datum, Datum>> merged(items.size());
  for (size_t width = 1; width < items.size(); width *= 2) {
    for (size_t low = 0; low < items.size(); low += 2 * width) {
      const size_t middle = std::min(low + width, items.size()), high = std::min(low + 2 * width, items.size());
      size_t left = low, right = middle;
      for (size_t to = low; to < high; ++to) {
        const bool take_right = right < high && (left == middle || before(items[right], items[left]));
        merged[to] = take_right ? items[right++] : items[left++];
      }
    }
    items.swap(merged);
  }
}

std::vector<Datum> sorted(Evaluator& evaluator, const std::vector<Datum>& values, const Datum& attribute, bool reverse,
                          bool case_sensitive) {
  std::vector<AttributePath> paths;
  if (attribute.is_string())
    for (const std::string_view part : split_at(attribute.str(), ",", -1))
      paths.emplace_back(Datum::string(std::string(part)));
  else
    paths.emplace_back(attribute);
  std::vector<std::pair<Datum, Datum>> items;
  for (const Datum& value : values) {
    std::vector<Datum> key;
    for (const AttributePath& path : paths) key.push_back(sort_key(path.of(evaluator, value), case_sensitive));
    items.emplace_back(Datum::list(std::move(key)), value);
  }
  sort_by_keys(items, reverse);
  std::vector<Datum> out;
  for (auto& [key, value] : items) out.push_back(std::move(value));
  return out;
}

Datum sort(Evaluator& evaluator, const Datum& value, const Call& call) {
  const Bound args(call, "do_sort", {"reverse", "case_sensitive", "attribute"});
  return Datum::list(sorted(evaluator, iterate(value), args.get(2, Datum::none()), args.flag(0), args.flag(1)));
}

Datum dictsort(Evaluator&, const Datum& value, const Call& call) {
  const Bound args(call, "do_dictsort", {"case_sensitive", "by", "reverse"});
  const std::string by = args.has(1) ? to_str(args[1]) : "key";
  if (by != "key" && by != "value") raise("FilterArgumentError", "You can only sort by either \"key\" or \"value\"");
  if (value.is_undefined()) use_undefined(value);
  if (!value.is(Kind::dict)) raise("AttributeError", repr(type_name(value)) + " object has no attribute 'items'");
  std::vector<std::pair<Datum, Datum>> items;
  for (const auto& [key, item] : value.entries().items)
    items.emplace_back(sort_key(by == "key" ? key : item, args.flag(0)), Datum::list({key, item}, Kind::tuple));
  sort_by_keys(items, args.flag(2));
  std::vector<Datum> out;
  for (auto& [key, item] : items) out.push_back(std::move(item));
  return Datum::list(std::move(out));
}

Datum join(Evaluator& evaluator, const Datum& value, const Call& call) {
  const Bound args(call, "do_join", {"d", "attribute"});
  const std::string separator = args.has(0) ? to_str(args[0]) : "";
  std::vector<Datum> items = iterate(value);
  if (args.has(1) && !args[1].is_none()) {
    const AttributePath path(args[1]);
    for (Datum& item : items) item = path.of(evaluator, item);
  }
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    const std::string piece = to_str(items[i]);
    spend_bytes(static_cast<int64_t>(piece.size() + separator.size()));
    if (i > 0) out += separator;
    out += piece;
  }
  return Datum::string(std::move(out));
}

Datum first(Evaluator&, const Datum& value, const Call&) {
  if (value.is(Kind::iterator)) {  // takes one item, no more
    SequenceObject& sequence = value.sequence();
    if (sequence.at < sequence.items.size()) return sequence.items[sequence.at++];
  } else if (const std::vector<Datum> items = iterate(value); !items.empty()) {
    return items.front();
  }
  return Datum::undefined("No first item, sequence was empty.");
}

std::vector<Datum> reversed_items(const Datum& value) {
  if (value.is(Kind::iterator)) type_error("'" + type_name(value) + "' object is not reversible");
  std::vector<Datum> items = iterate(value);
  std::reverse(items.begin(), items.end());
  return items;
}

Datum last(Evaluator&, const Datum& value, const Call&) {
  const std::vector<Datum> items = reversed_items(value);
  return items.empty() ? Datum::undefined("No last item, sequence was empty.") : items.front();
}

Datum length(Evaluator&, const Datum& value, const Call&) { return Datum::integer(length_of(value)); }
Datum list(Evaluator&, const Datum& value, const Call&) { return Datum::list(iterate(value)); }

Datum items(Evaluator&, const Datum& value, const Call&) {
  std::vector<Datum> out;
  if (!value.is_undefined()) {
    if (!value.is(Kind::dict)) type_error("Can only get item pairs from a mapping.");
    for (const auto& [key, item] : value.entries().items) out.push_back(Datum::list({key, item}, Kind::tuple));
  }
  return generator(std::move(out));
}

Datum reverse(Evaluator&, const Datum& value, const Call&) {
  if (value.is_string()) return slice(value, Datum::none(), Datum::none(), Datum::integer(-1));
  try {
    std::vector<Datum> out = iterate(value);
    std::reverse(out.begin(), out.end());
    return Datum::sequence(Kind::iterator, std::move(out), "list_reverseiterator");
  } catch (const Fault& fault) {
    if (fault.type != "TypeError") throw;
    raise("FilterArgumentError", "argument must be iterable");
  }
}

Datum map(Evaluator& evaluator, const Datum& value, const Call& call) {
  if (!truth(value)) return generator({});
  std::vector<Datum> out;
  if (call.args.empty() && !call.named.empty()) {
    const Bound args(call, "map", {"attribute", "default"});
    if (!args.has(0)) raise("FilterArgumentError", "map requires a filter argument");
    const AttributePath path(args[0]);
    const Datum otherwise = args.get(1, Datum::none());
    for (const Datum& item : iterate(value)) out.push_back(path.of(evaluator, item, &otherwise));
  } else {
    if (call.args.empty()) raise("FilterArgumentError", "map requires a filter argument");
    const Call rest{{call.args.begin() + 1, call.args.end()}, call.named};
    const std::string name = to_str(call.args[0]);
    for (const Datum& item : iterate(value)) out.push_back(evaluator.filter(name, item, rest));
  }
  return generator(std::move(out));
}

template <bool wanted, bool by_attribute>
Datum select(Evaluator& evaluator, const Datum& value, const Call& call) {
  constexpr size_t kSkipped = by_attribute ? 1 : 0;
  if (!truth(value)) return generator({});
  std::vector<Datum> out;
  const std::vector<Datum> items = iterate(value);
  if (items.empty()) return generator({});
  if (call.args.size() < kSkipped) raise("FilterArgumentError", "Missing parameter for attribute name");
  const AttributePath path(by_attribute ? call.args[0] : Datum::none());
  const bool tested = call.args.size() > kSkipped;
  const std::string name = tested ? to_str(call.args[kSkipped]) : "";
  Call rest;
  if (tested) rest = {{call.args.begin() + static_cast<std::ptrdiff_t>(kSkipped) + 1, call.args.end()}, call.named};
  for (const Datum& item : items) {
    const Datum seen = path.of(evaluator, item);
    if ((tested ? evaluator.test(name, seen, rest) : truth(seen)) == wanted) out.push_back(item);
  }
  return generator(std::move(out));
}

Datum unique(Evaluator& evaluator, const Datum& value, const Call& call) {
  const Bound args(call, "do_unique", {"case_sensitive", "attribute"});
  const AttributePath path(args.get(1, Datum::none()));
  std::vector<Datum> seen, out;
  for (const Datum& item : iterate(value)) {
    const Datum key = sort_key(path.of(evaluator, item), args.flag(0));
    check_hashable(key);
    if (std::any_of(seen.begin(), seen.end(), [&](const Datum& old) { return equal(old, key); })) continue;
    seen.push_back(key);
    out.push_back(item);
  }
  return generator(std::move(out));
}

template <bool most>
Datum extreme(Evaluator& evaluator, const Datum& value, const Call& call) {
  const Bound args(call, most ? "do_max" : "do_min", {"case_sensitive", "attribute"});
  const AttributePath path(args.get(1, Datum::none()));
  const std::vector<Datum> items = iterate(value);
  if (items.empty()) return Datum::undefined("No aggregated item, sequence was empty.");
  Datum best = items[0], best_key = sort_key(path.of(evaluator, best), args.flag(0));
  for (size_t i = 1; i < items.size(); ++i) {
    Datum key = sort_key(path.of(evaluator, items[i]), args.flag(0));
    const int order = most ? compare(key, best_key, ">") : -compare(key, best_key, "<");
    if (order <= 0) continue;
    best = items[i];
    best_key = std::move(key);
  }
  return best;
}

Datum sum(Evaluator& evaluator, const Datum& value, const Call& call) {
  const Bound args(call, "do_sum", {"attribute", "start"});
  const AttributePath path(args.get(0, Datum::none()));
  Datum total = args.get(1, Datum::integer(0));
  if (total.is_string()) type_error("sum() can't sum strings [use ''.join(seq) instead]");
  for (const Datum& item : iterate(value)) total = arithmetic("+", total, path.of(evaluator, item));
  return total;
}

Datum groupby(Evaluator& evaluator, const Datum& value, const Call& call) {
  const Bound args(call, "do_groupby", {"attribute", "default", "case_sensitive"}, 1);
  const AttributePath path(args[0]);
  const Datum otherwise = args.get(1, Datum::none());
  std::vector<std::pair<Datum, Datum>> items;
  for (const Datum& item : iterate(value))
    items.emplace_back(sort_key(path.of(evaluator, item, &otherwise), args.flag(2)), item);
  sort_by_keys(items, false);
  std::vector<Datum> out;
  for (size_t i = 0; i < items.size();) {
    std::vector<Datum> group;
    const size_t begin = i;
    for (; i < items.size() && equal(items[i].first, items[begin].first); ++i) group.push_back(items[i].second);
    Datum key = path.of(evaluator, group[0], &otherwise);
    out.push_back(Datum::list({std::move(key), Datum::list(std::move(group))}, Kind::tuple));
  }
  return Datum::list(std::move(out));
}

Datum batch(Evaluator&, const Datum& value, const Call& call) {
  const Bound args(call, "do_batch", {"linecount", "fill_with"}, 1);
  const int64_t size = want_int(args[0]);
  std::vector<Datum> out, group;
  for (const Datum& item : iterate(value)) {
    if (static_cast<int64_t>(group.size()) == size) out.push_back(Datum::list(std::exchange(group, {})));
    group.push_back(item);
  }
  if (!group.empty()) {
    if (args.has(1) && !args[1].is_none() && static_cast<int64_t>(group.size()) < size) {
      spend_product(size, sizeof(Datum));
      group.resize(static_cast<size_t>(size), args[1]);
    }
    out.push_back(Datum::list(std::move(group)));
  }
  return generator(std::move(out));
}

Datum slices(Evaluator&, const Datum& value, const Call& call) {
  const Bound args(call, "do_slice", {"slices", "fill_with"}, 1);
  const std::vector<Datum> items = iterate(value);
  const int64_t count = want_int(args[0]);
  if (count == 0) raise("ZeroDivisionError", "integer division or modulo by zero");
  spend_product(std::max<int64_t>(count, 0), sizeof(Datum));
  std::vector<Datum> out;
  const auto size = static_cast<int64_t>(items.size());
  for (int64_t i = 0, at = 0; i < count; ++i) {
    const int64_t end = at + size / count + (i < size % count);
    std::vector<Datum> group(items.begin() + at, items.begin() + end);
    if (args.has(1) && !args[1].is_none() && i >= size % count) group.push_back(args[1]);
    out.push_back(Datum::list(std::move(group)));
    at = end;
  }
  return generator(std::move(out));
}

}  // namespace

Filter find_list_filter(std::string_view name) {
  static const std::map<std::string_view, Filter> filters{{"batch", batch},
                                                          {"count", length},
                                                          {"dictsort", dictsort},
                                                          {"first", first},
                                                          {"groupby", groupby},
                                                          {"items", items},
                                                          {"join", join},
                                                          {"last", last},
                                                          {"length", length},
                                                          {"list", list},
                                                          {"map", map},
                                                          {"max", extreme<true>},
                                                          {"min", extreme<false>},
                                                          {"reject", select<false, false>},
                                                          {"rejectattr", select<false, true>},
                                                          {"reverse", reverse},
                                                          {"select", select<true, false>},
                                                          {"selectattr", select<true, true>},
                                                          {"slice", slices},
                                                          {"sort", sort},
                                                          {"sum", sum},
                                                          {"unique", unique}};
  const auto found = filters.find(name);
  return found == filters.end() ? nullptr : found->second;
}

}  // namespace ft::jinja
