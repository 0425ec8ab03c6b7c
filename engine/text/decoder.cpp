#include "engine/text/decoder.h"

#include <memory>

#include "engine/error/error.h"
#include "engine/text/byte_level.h"
#include "engine/text/find.h"
#include "engine/text/unicode.h"

namespace ft {
namespace {

using Tokens = Decoder::Tokens;

std::string replaced(std::string_view text, std::string_view old, std::string_view fresh) {
  std::string out;
  size_t done = 0;
  for (size_t at; !old.empty() && (at = text.find(old, done)) != std::string_view::npos; done = at + old.size()) {
    out += text.substr(done, at - done);
    out += fresh;
  }
  out += text.substr(done);
  return out;
}

void byte_level_step(Tokens& tokens) {
  std::string bytes;
  for (const std::string& token : tokens) bytes += byte_level::unspell(token);
  tokens = {unicode::to_valid(bytes)};
}

int byte_of_escape(const std::string& token) {
  constexpr size_t kSize = 6;  // <0x0A>
  if (token.size() != kSize || !token.starts_with("<0x") || token.back() != '>') return -1;
  const std::string digits = token.substr(3, 2);
  if (digits.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos)
    return static_cast<int>(std::stoul(digits, nullptr, 16));
  if (digits[0] == '+' && std::isxdigit(static_cast<unsigned char>(digits[1])))  // Rust's from_str_radix takes a sign
    return static_cast<int>(std::stoul(digits.substr(1), nullptr, 16));
  return -1;
}

void byte_fallback_step(Tokens& tokens) {
  Tokens out;
  std::string bytes;
  const auto flush = [&] {
    if (bytes.empty()) return;
    if (unicode::find_invalid(bytes) == std::string::npos) {
      out.push_back(bytes);
    } else {
      out.insert(out.end(), bytes.size(), "\uFFFD");
    }
    bytes.clear();
  };
  for (std::string& token : tokens) {
    if (const int byte = byte_of_escape(token); byte >= 0) {
      bytes += static_cast<char>(byte);
    } else {
      flush();
      out.push_back(std::move(token));
    }
  }
  flush();
  tokens = std::move(out);
}

void fuse_step(Tokens& tokens) {
  std::string all;
  for (const std::string& token : tokens) all += token;
  tokens = {std::move(all)};
}

/// Takes up to `start` of the content from the front and `stop` from the back.
void strip(std::string& token, const std::string& content, int64_t start, int64_t stop) {
  const std::string_view text(token);
  size_t begin = 0, end = text.size();
  for (; start > 0 && text.substr(begin).starts_with(content); --start) begin += content.size();
  for (; stop > 0 && text.substr(begin, end - begin).ends_with(content); --stop) end -= content.size();
  token = std::string(text.substr(begin, end - begin));
}

/// The clean-up of English text that BERT's tokenizer did.
std::string cleaned(std::string text) {
  constexpr const char* kRules[][2] = {{" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
                                       {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
                                       {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [old, fresh] : kRules) text = replaced(text, old, fresh);
  return text;
}

void word_piece(Tokens& tokens, const std::string& prefix, bool cleanup) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    std::string& token = tokens[i];
    if (i > 0) token = token.starts_with(prefix) ? token.substr(prefix.size()) : " " + token;
    if (cleanup) token = cleaned(std::move(token));
  }
}

void metaspace(Tokens& tokens, const std::string& mark, bool prepended) {
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = replaced(tokens[i], mark, i == 0 && prepended ? "" : " ");
}

void bpe(Tokens& tokens, const std::string& suffix) {
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = replaced(tokens[i], suffix, i + 1 == tokens.size() ? "" : " ");
}

void ctc(Tokens& tokens, const std::string& pad, const std::string& delimiter, bool cleanup) {
  Tokens out;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0 && tokens[i] == tokens[i - 1]) continue;
    std::string token = replaced(tokens[i], pad, "");
    if (cleanup) token = replaced(cleaned(std::move(token)), delimiter, " ");
    if (!token.empty()) out.push_back(std::move(token));
  }
  tokens = std::move(out);
}

std::function<void(Tokens&)> replace_step(const Value& tree) {
  const auto finder = std::make_shared<const Finder>(Finder::parse(tree.at("pattern")));
  return [finder, content = tree.at("content").as_string()](Tokens& tokens) {
    for (std::string& token : tokens) {
      std::string out;
      finder->each(token, [&](size_t begin, size_t end, bool match) {
        out += match ? content : token.substr(begin, end - begin);
      });
      token = std::move(out);
    }
  };
}

}  // namespace

Decoder::Decoder(const Value& tree) : by_spaces_(tree.is_null()) {
  if (!by_spaces_) add(tree);
}

void Decoder::add(const Value& tree) {
  const std::string type = tree.get("type", "");
  if (type == "Sequence") {
    for (const Value& part : tree.at("decoders").as_list()) add(part);
  } else if (type == "ByteLevel") {
    steps_.emplace_back(byte_level_step);
  } else if (type == "ByteFallback") {
    steps_.emplace_back(byte_fallback_step);
  } else if (type == "Fuse") {
    steps_.emplace_back(fuse_step);
  } else if (type == "Replace") {
    steps_.push_back(replace_step(tree));
  } else if (type == "Strip") {
    steps_.emplace_back(
        [content = tree.get("content", ""), start = tree.get("start", 0), stop = tree.get("stop", 0)](Tokens& tokens) {
          for (std::string& token : tokens)
            if (!content.empty()) strip(token, content, start, stop);
        });
  } else if (type == "Metaspace") {
    const bool prepended = tree.get("prepend_scheme", "always") != "never" && tree.get("add_prefix_space", true);
    steps_.emplace_back([mark = tree.get("replacement", "▁"), prepended](Tokens& t) { metaspace(t, mark, prepended); });
  } else if (type == "WordPiece") {
    steps_.emplace_back([prefix = tree.get("prefix", "##"), cleanup = tree.get("cleanup", true)](Tokens& tokens) {
      word_piece(tokens, prefix, cleanup);
    });
  } else if (type == "BPEDecoder") {
    steps_.emplace_back([suffix = tree.get("suffix", "</w>")](Tokens& tokens) { bpe(tokens, suffix); });
  } else if (type == "CTC") {
    steps_.emplace_back([pad = tree.get("pad_token", "<pad>"), delimiter = tree.get("word_delimiter_token", "|"),
                         cleanup = tree.get("cleanup", true)](Tokens& t) { ctc(t, pad, delimiter, cleanup); });
  } else {
    throw Error(ErrorKind::format, (type.empty() ? "a decoder without a type" : type) + " is not implemented")
        .key("decoder");
  }
}

std::string Decoder::decode(Tokens tokens) const {
  for (const auto& step : steps_) step(tokens);
  std::string out;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (by_spaces_ && i > 0) out += ' ';
    out += tokens[i];
  }
  return out;
}

}  // namespace ft
