// The functions that transformers gives a chat template.
#include <ctime>

#include "engine/template/evaluator.h"
#include "engine/template/python_text.h"

namespace ft::jinja {
namespace {

Datum raise_exception(Evaluator&, const Call& call) {
  const Bound args(call, "raise_exception", {"message"}, 1);
  raise("TemplateError", args[0].is_none() ? "" : to_str(args[0]));
}

Datum range(Evaluator&, const Call& call) {
  if (!call.named.empty()) type_error("range() takes no keyword arguments");
  if (call.args.empty() || call.args.size() > 3)
    type_error(call.args.empty() ? "range expected at least 1 argument, got 0"
                                 : "range expected at most 3 arguments, got " + std::to_string(call.args.size()));
  for (const Datum& arg : call.args)
    if (arg.is_undefined()) type_error("'Undefined' object cannot be interpreted as an integer");
  int64_t values[3] = {0, 0, 1};
  if (call.args.size() == 1)
    values[1] = want_int(call.args[0]);
  else
    for (size_t i = 0; i < call.args.size(); ++i) values[i] = want_int(call.args[i]);
  if (values[2] == 0) raise("ValueError", "range() arg 3 must not be zero");
  constexpr int64_t kFarthest = int64_t{1} << 60;
  for (const int64_t value : values)
    if (value > kFarthest || value < -kFarthest)
      raise("OverflowError", "range() with numbers of more than 60 bits, which this engine lacks");
  const Datum made = Datum::range(values[0], values[1], values[2]);
  constexpr int64_t kMost = 100000;  // jinja2.sandbox.MAX_RANGE
  if (made.range().size() > kMost)
    raise("OverflowError", "Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).");
  return made;
}

Datum make_dict(Evaluator& evaluator, const Call& call) {
  // dict(…) and namespace(…) read the same arguments, but a dict may have keys that begin with "_"
  (void)evaluator;
  DictObject made;
  if (call.args.size() > 1) type_error("dict expected at most 1 argument, got " + std::to_string(call.args.size()));
  if (!call.args.empty() && call.args[0].is(Kind::dict)) {
    made.items = call.args[0].entries().items;
  } else if (!call.args.empty()) {
    if (call.args[0].is_undefined()) use_undefined(call.args[0]);
    for (const Datum& pair : iterate(call.args[0])) {
      const std::vector<Datum> items = iterate(pair);
      if (items.size() != 2)
        raise("ValueError",
              "dictionary update sequence element has length " + std::to_string(items.size()) + "; 2 is required");
      check_hashable(items[0]);
      made.set(items[0], items[1]);
    }
  }
  for (const auto& [name, value] : call.named) made.set(Datum::string(name), value);
  return Datum::dict(std::move(made.items));
}

/// datetime.strftime: what C's does not know of a time without a zone is empty.
Datum strftime_now(Evaluator& evaluator, const Call& call) {
  const Bound args(call, "strftime_now", {"format"}, 1);
  if (!args[0].is_string()) type_error("strftime() argument 1 must be str, not " + type_name(args[0]));
  std::tm clock{};
  if (evaluator.now().empty()) {
    const std::time_t now = std::time(nullptr);
    localtime_r(&now, &clock);
  } else {
    std::string stated = evaluator.now().substr(0, 19);
    if (stated.size() > 10 && stated[10] == 'T') stated[10] = ' ';
    const char* end = strptime(stated.c_str(), stated.size() > 10 ? "%Y-%m-%d %H:%M:%S" : "%Y-%m-%d", &clock);
    if (!end || *end) raise("ValueError", "now: got " + repr(evaluator.now()) + ", want 'YYYY-MM-DD HH:MM:SS'");
    clock.tm_isdst = -1;
    std::tm settled = clock;
    settled.tm_isdst = 0;
    timegm(&settled);  // the day of the week and of the year
    clock.tm_wday = settled.tm_wday;
    clock.tm_yday = settled.tm_yday;
  }
  std::string out;
  const std::string& format = args[0].str();
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 >= format.size()) {
      out += format[i];
      continue;
    }
    std::string one(1, '%');
    if (std::string_view("-_0^#").find(format[i + 1]) != std::string_view::npos && i + 2 < format.size())
      one += format[++i];
    one += format[++i];
    if (one == "%z" || one == "%Z") continue;
    if (one == "%f") {
      out += "000000";
      continue;
    }
    char text[256];
    out.append(text, std::strftime(text, sizeof text, one.c_str(), &clock));
  }
  return Datum::string(std::move(out));
}

Datum lacking(Evaluator&, const Call&) {
  raise("NotImplementedError", "cycler, joiner and lipsum are not supported in chat templates by this engine");
}

}  // namespace

std::vector<std::pair<std::string, Datum>> global_functions() {
  std::vector<std::pair<std::string, Datum>> out;
  const auto add = [&](const char* name, std::function<Datum(Evaluator&, const Call&)> body) {
    out.emplace_back(name, Datum::function(name, std::move(body)));
  };
  add("raise_exception", raise_exception);
  add("range", range);
  add("dict", make_dict);
  add("strftime_now", strftime_now);
  add("namespace", [](Evaluator& evaluator, const Call& call) { return evaluator.make_namespace(call); });
  for (const char* name : {"cycler", "joiner", "lipsum"}) add(name, lacking);
  return out;
}

}  // namespace ft::jinja
