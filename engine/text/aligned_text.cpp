#include "engine/text/aligned_text.h"

#include "engine/text/unicode.h"

namespace ft {
namespace {

bool continues(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

size_t char_size(std::string_view text, size_t at) {
  size_t end = at;
  unicode::next_char(text, end);
  return end - at;
}

}  // namespace

std::vector<uint32_t> characters(std::string_view text) {
  std::vector<uint32_t> out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) out.push_back(unicode::next_char(text, at));
  return out;
}

AlignedText::Ends AlignedText::source(size_t begin, size_t end) const {
  end = std::min(end, text_.size());
  begin = std::min(begin, end);
  if (ends_) {
    if (begin < end) return {ends_[begin].begin, std::max(ends_[begin].begin, ends_[end - 1].end)};
    const uint32_t at = begin > 0 ? ends_[begin - 1].end : source_begin_;
    return {at, at};
  }
  while (begin > 0 && begin < text_.size() && continues(text_[begin])) --begin;
  while (end < text_.size() && continues(text_[end])) ++end;
  return {base_ + static_cast<uint32_t>(begin), base_ + static_cast<uint32_t>(end)};
}

AlignedText AlignedText::slice(size_t begin, size_t end) const {
  AlignedText out = *this;
  out.text_ = text_.substr(begin, end - begin);
  if (ends_) {
    out.ends_ = ends_ + begin;
    if (begin < end) out.source_begin_ = ends_[begin].begin;
  } else {
    out.base_ = out.source_begin_ = base_ + static_cast<uint32_t>(begin);
  }
  return out;
}

std::vector<AlignedText::Ends> AlignedText::written_ends() const {
  if (ends_) return {ends_, ends_ + text_.size()};
  std::vector<Ends> out;
  out.reserve(text_.size());
  for (size_t at = 0; at < text_.size();) {
    const size_t size = char_size(text_, at);
    const auto begin = base_ + static_cast<uint32_t>(at);
    out.insert(out.end(), size, Ends{begin, begin + static_cast<uint32_t>(size)});
    at += size;
  }
  return out;
}

void AlignedText::take(Buffer buffer) {
  buffer_ = std::make_shared<const Buffer>(std::move(buffer));
  text_ = buffer_->text;
  ends_ = buffer_->ends.data();
}

void AlignedText::transform(const std::vector<Change>& changes, size_t skipped) {
  const std::vector<Ends> old = written_ends();
  Buffer out;
  out.text.reserve(text_.size());
  out.ends.reserve(text_.size());
  size_t at = 0;
  const auto pass = [&](size_t count) {
    for (; count > 0 && at < text_.size(); --count) at += char_size(text_, at);
  };
  pass(skipped);
  for (const auto& [c, change] : changes) {
    Ends ends{source_begin_, source_begin_};
    if (change > 0 && at > 0) ends = old[at - 1];
    if (change <= 0 && !old.empty()) ends = old[std::min(at, old.size() - 1)];
    if (change <= 0) pass(1 + static_cast<size_t>(-change));
    const size_t before = out.text.size();
    unicode::append_utf8(out.text, c);
    out.ends.insert(out.ends.end(), out.text.size() - before, ends);
  }
  take(std::move(out));
}

void AlignedText::prepend(std::string_view text) {
  if (text_.empty()) return;
  const std::vector<Ends> old = written_ends();
  Buffer out;
  out.text.reserve(text.size() + text_.size());
  out.text = text;
  out.text += text_;
  out.ends.reserve(out.text.size());
  out.ends.assign(text.size(), old[0]);
  out.ends.insert(out.ends.end(), old.begin(), old.end());
  take(std::move(out));
}

void AlignedText::replace(const std::vector<TextMatch>& matches, std::string_view content) {
  const std::vector<Ends> old = written_ends();
  Buffer out;
  size_t done = 0;
  const auto copy = [&](size_t end) {
    out.text += text_.substr(done, end - done);
    out.ends.insert(out.ends.end(), old.begin() + static_cast<std::ptrdiff_t>(done),
                    old.begin() + static_cast<std::ptrdiff_t>(end));
    done = end;
  };
  bool changed = false;
  for (const TextMatch& m : matches) {
    if (!m.match) continue;
    changed = true;
    copy(m.begin);
    out.text += content;
    out.ends.insert(out.ends.end(), content.size(), m.end > 0 ? old[m.end - 1] : Ends{source_begin_, source_begin_});
    done = m.end;
  }
  if (!changed) return;
  copy(text_.size());
  take(std::move(out));
}

void AlignedText::rewrite(std::string text, const std::vector<uint32_t>& starts, uint32_t end) {
  Buffer out;
  out.ends.resize(text.size());
  uint32_t stop = end;
  for (size_t i = text.size(); i-- > 0;) {
    if (i + 1 < text.size() && starts[i + 1] != starts[i]) stop = starts[i + 1];
    out.ends[i] = source(starts[i], stop);
  }
  out.text = std::move(text);
  take(std::move(out));
}

void AlignedText::filter_marked(const std::vector<bool>& kept) {
  const std::vector<Ends> old = written_ends();
  Buffer out;
  size_t i = 0;
  for (size_t at = 0; at < text_.size(); ++i) {
    const size_t size = char_size(text_, at);
    if (kept[i]) {
      out.text += text_.substr(at, size);
      out.ends.insert(out.ends.end(), old.begin() + static_cast<std::ptrdiff_t>(at),
                      old.begin() + static_cast<std::ptrdiff_t>(at + size));
    }
    at += size;
  }
  take(std::move(out));
}

}  // namespace ft
