#include "engine/data/text_source.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>

#include "engine/error/error.h"

namespace ft {
namespace {

constexpr size_t kBlock = 256 << 10;
constexpr std::string_view kGzip = "\x1F\x8B", kZstandard = "\x28\xB5\x2F\xFD", kByteOrderMark = "\xEF\xBB\xBF";

/// RFC 1952; members may follow one another, as bgzip and `cat a.gz b.gz` make them.
class GzipDecoder : public Decoder {
 public:
  GzipDecoder() {
    constexpr int kWindowOfGzip = 15 + 16;
    FT_CHECK(inflateInit2(&stream_, kWindowOfGzip) == Z_OK, "zlib does not start");
  }
  ~GzipDecoder() override { inflateEnd(&stream_); }

  bool decode(Bytes& in, char*& out, size_t& room, std::string& why) override {
    if (ended_) inflateReset(&stream_);
    ended_ = false;
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data));
    stream_.avail_in = static_cast<uInt>(in.size);
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = static_cast<uInt>(room);
    const int status = inflate(&stream_, Z_NO_FLUSH);
    in = {in.data + (in.size - stream_.avail_in), stream_.avail_in};
    out += room - stream_.avail_out;
    room = stream_.avail_out;
    ended_ = status == Z_STREAM_END;
    if (status == Z_OK || status == Z_STREAM_END || status == Z_BUF_ERROR) return true;
    why = stream_.msg ? stream_.msg : "zlib gives " + std::to_string(status);
    return false;
  }
  bool between_members() const override { return ended_; }

 private:
  z_stream stream_{};
  bool ended_ = false;
};

/// RFC 8878; frames may follow one another.
class ZstandardDecoder : public Decoder {
 public:
  ZstandardDecoder() : stream_(ZSTD_createDStream()) { FT_CHECK(stream_ != nullptr, "libzstd does not start"); }
  ~ZstandardDecoder() override { ZSTD_freeDStream(stream_); }

  bool decode(Bytes& in, char*& out, size_t& room, std::string& why) override {
    ZSTD_inBuffer from{in.data, in.size, 0};
    ZSTD_outBuffer to{out, room, 0};
    const size_t left = ZSTD_decompressStream(stream_, &to, &from);
    in = {in.data + from.pos, in.size - from.pos};
    out += to.pos;
    room -= to.pos;
    if (ZSTD_isError(left)) return why = ZSTD_getErrorName(left), false;
    ended_ = left == 0;
    return true;
  }
  bool between_members() const override { return ended_; }

 private:
  ZSTD_DStream* stream_;
  bool ended_ = false;
};

}  // namespace

TextSource::TextSource(std::filesystem::path path) : file_(std::move(path)), buffer_(kBlock) {
  char head[4] = {};
  const size_t size = std::min<size_t>(sizeof head, file_.size());
  file_.read(0, std::as_writable_bytes(std::span(head, size)));
  const std::string_view begin(head, size);
  if (begin.starts_with(kGzip)) decoder_ = std::make_unique<GzipDecoder>();
  if (begin.starts_with(kZstandard)) decoder_ = std::make_unique<ZstandardDecoder>();
  if (decoder_) raw_.resize(kBlock);
  if (refill() && std::string_view(buffer_.data(), end_).starts_with(kByteOrderMark)) at_ = kByteOrderMark.size();
}

TextSource::~TextSource() = default;

size_t TextSource::read_file(char* out, size_t room) {
  const size_t size = std::min<uint64_t>(room, file_.size() - offset_);
  file_.read(offset_, std::as_writable_bytes(std::span(out, size)));
  offset_ += size;
  return size;
}

size_t TextSource::decode(char* out, size_t room) {
  const size_t asked = room;
  const auto fail = [&](const std::string& why) {
    throw Error(ErrorKind::format, "its compressed bytes are damaged: " + why).at(file_.path().string());
  };
  while (room == asked) {
    if (raw_at_ == raw_end_) {
      raw_at_ = 0;
      raw_end_ = read_file(raw_.data(), raw_.size());
    }
    if (raw_end_ == 0 && decoder_->between_members()) return 0;
    Decoder::Bytes in{raw_.data() + raw_at_, raw_end_ - raw_at_};
    const size_t before = in.size;
    std::string why;
    if (!decoder_->decode(in, out, room, why)) fail(why);
    raw_at_ = raw_end_ - in.size;
    if (before == 0 && room == asked) fail("they end too soon");
  }
  return asked - room;
}

bool TextSource::refill() {
  at_ = 0;
  end_ = decoder_ ? decode(buffer_.data(), buffer_.size()) : read_file(buffer_.data(), buffer_.size());
  return end_ > 0;
}

bool TextSource::line(std::string& out) {
  out.clear();
  if (peek() < 0) return false;
  while (at_ < end_ || refill()) {
    const char* const begin = buffer_.data() + at_;
    const auto* feed = static_cast<const char*>(std::memchr(begin, '\n', end_ - at_));
    const size_t size = feed ? static_cast<size_t>(feed - begin) : end_ - at_;
    check_row_size(out.size() + size, file_.path().string());
    out.append(begin, size);
    at_ += size + (feed ? 1 : 0);
    if (feed) break;
  }
  if (out.ends_with('\r')) out.pop_back();
  return true;
}

void check_row_size(size_t bytes, const std::string& place) {
  if (bytes <= kMostRowBytes) return;
  throw Error(ErrorKind::format, "a row of more than " + std::to_string(kMostRowBytes >> 20) + " MiB")
      .at(place)
      .help("a data file has a row on each line; is this another kind of file?");
}

}  // namespace ft
