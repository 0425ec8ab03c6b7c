#include "engine/merge/gguf_model.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <numbers>
#include <optional>
#include <span>
#include <string_view>

#include "engine/device/parallel_for.h"
#include "engine/error/error.h"
#include "engine/formats/safetensors.h"
#include "engine/merge/gguf_gemma.h"
#include "engine/merge/tensor_stream.h"
#include "engine/tensor/half.h"

namespace ft {
namespace {

using Names = std::pair<std::string_view, std::string_view>;

constexpr Names kTop[] = {{"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"}, {"lm_head", "output"}};
constexpr Names kLayer[] = {{"input_layernorm", "attn_norm"},    {"post_attention_layernorm", "ffn_norm"},
                            {"self_attn.q_proj", "attn_q"},      {"self_attn.k_proj", "attn_k"},
                            {"self_attn.v_proj", "attn_v"},      {"self_attn.o_proj", "attn_output"},
                            {"self_attn.q_norm", "attn_q_norm"}, {"self_attn.k_norm", "attn_k_norm"},
                            {"mlp.gate_proj", "ffn_gate"},       {"mlp.up_proj", "ffn_up"},
                            {"mlp.down_proj", "ffn_down"}};

// "blk.3.attn_q.weight", or "" for a name that is not known.   @param module what stands behind "model.layers."
std::string gguf_layer_name(std::string_view module, std::string_view suffix, bool gemma) {
  int layer = 0;
  const std::from_chars_result read = std::from_chars(module.data(), module.data() + module.size(), layer);
  if (read.ec != std::errc() || read.ptr == module.data() + module.size() || *read.ptr != '.') return "";
  module.remove_prefix(static_cast<size_t>(read.ptr + 1 - module.data()));
  const std::span<const Names> tables[] = {kGemmaLayer, kLayer};
  for (const std::span<const Names> table : gemma ? std::span(tables) : std::span(tables).subspan(1))
    for (const auto& [theirs, ours] : table)
      if (module == theirs) return "blk." + std::to_string(layer) + "." + std::string(ours) + std::string(suffix);
  return "";
}

// @param gemma its norms are called otherwise, and llama.cpp reads neither biases nor a head of it
std::string gguf_name(const std::string& name, bool gemma) {
  constexpr std::string_view kLayers = "model.layers.";
  const size_t dot = name.rfind('.');
  const std::string_view suffix = dot == std::string::npos ? std::string_view() : std::string_view(name).substr(dot);
  const std::string_view module = std::string_view(name).substr(0, dot);
  if (suffix == ".weight" || (suffix == ".bias" && !gemma)) {
    for (const auto& [theirs, ours] : kTop)
      if (module == theirs && !(gemma && theirs == "lm_head")) return std::string(ours) + std::string(suffix);
    if (module.starts_with(kLayers)) {
      const std::string found = gguf_layer_name(module.substr(kLayers.size()), suffix, gemma);
      if (!found.empty()) return found;
    }
  }
  throw Error(ErrorKind::config, "has no name in GGUF, or none that is known here")
      .key(name)
      .help("--format huggingface");
}

// What a config calls it, and how llama.cpp's file of the architecture does.
struct Shape {
  explicit Shape(const Value& config)
      : heads(config.at("num_attention_heads").as_integer()),
        kv_heads(config.get("num_key_value_heads", heads)),
        head_dim(config.get("head_dim", config.at("hidden_size").as_integer() / std::max<int64_t>(heads, 1))) {
    if (heads < 1 || kv_heads < 1 || head_dim < 2)
      throw Error(ErrorKind::config, "got " + std::to_string(heads) + " attention heads").key("num_attention_heads");
  }
  int64_t heads, kv_heads, head_dim;
};

std::string architecture_of(const Value& config) {
  const std::string type = config.get("model_type", "");
  if (type == "llama" || type == "mistral") return "llama";
  if (type == "qwen2" || type == "qwen3") return type;
  if (std::string gemma = gemma_architecture(type); !gemma.empty()) return gemma;
  throw Error(ErrorKind::config,
              "got '" + type + "', want gemma2, gemma3_text, llama, mistral, qwen2 or qwen3 for GGUF")
      .key("model_type")
      .help("--format huggingface, and llama.cpp's own converter from there");
}

const Value* rope_of(const Value& config) {
  for (const char* key : {"rope_parameters", "rope_scaling"})
    if (const Value* rope = config.find(key); rope && rope->is_map()) return rope;
  return nullptr;
}

std::string rope_type(const Value* rope) {
  return !rope ? "default" : rope->get("rope_type", rope->get("type", "default").c_str());
}

// The factors by which llama3 slows low frequencies (transformers, modeling_rope_utils.py): llama.cpp wants them
// stored.
std::vector<float> llama3_factors(const Value& rope, double theta, int64_t head_dim) {
  const double factor = rope.at("factor").as_number(), low = rope.get("low_freq_factor", 1.0),
               high = rope.get("high_freq_factor", 4.0), old = rope.at("original_max_position_embeddings").as_number();
  std::vector<float> factors;
  for (int64_t i = 0; i < head_dim; i += 2) {
    const double length =
        2 * std::numbers::pi * std::pow(theta, static_cast<double>(i) / static_cast<double>(head_dim));
    if (length < old / high) {
      factors.push_back(1);
    } else if (length > old / low) {
      factors.push_back(static_cast<float>(factor));
    } else {
      const double smooth = (old / length - low) / (high - low);
      factors.push_back(static_cast<float>(1 / ((1 - smooth) / factor + smooth)));
    }
  }
  return factors;
}

// What yarn has beside its factor, under the keys of llama.cpp's converter; what its kernel does not know is refused.
void put_yarn(GgufKeys& keys, const Value& rope, const std::string& prefix) {
  constexpr std::pair<const char*, const char*> kFactors[] = {
      {"attention_factor", "yarn_attn_factor"}, {"beta_fast", "yarn_beta_fast"}, {"beta_slow", "yarn_beta_slow"}};
  for (const auto& [theirs, ours] : kFactors)
    if (const Value* stated = rope.find(theirs); stated && stated->is_number())
      keys.put(prefix + ours, static_cast<float>(stated->as_number()));
  if (const Value* length = rope.find("original_max_position_embeddings"); length && length->is_integer())
    keys.put(prefix + "original_context_length", static_cast<uint32_t>(length->as_integer()));
  for (const char* key : {"mscale", "mscale_all_dim"})
    if (rope.get(key, 0.0) != 0)
      throw Error(ErrorKind::config, "has no key in GGUF for this architecture")
          .key(std::string("rope_parameters.") + key);
  if (!rope.get("truncate", true))
    throw Error(ErrorKind::config, "got false, want true for GGUF").key("rope_parameters.truncate");
}

void put_rope(GgufModel& model, const Value& config, const std::string& prefix, const Shape& shape) {
  const Value* rope = rope_of(config);
  const double theta =
      rope && rope->find("rope_theta") ? rope->at("rope_theta").as_number() : config.get("rope_theta", 1e4);
  model.keys.put(prefix + "rope.dimension_count", static_cast<uint32_t>(shape.head_dim));
  model.keys.put(prefix + "rope.freq_base", static_cast<float>(theta));
  const std::string type = rope_type(rope);
  if (type == "linear" || type == "yarn") {
    model.keys.put(prefix + "rope.scaling.type", type);
    model.keys.put(prefix + "rope.scaling.factor", static_cast<float>(rope->at("factor").as_number()));
    if (type == "yarn") put_yarn(model.keys, *rope, prefix + "rope.scaling.");
  } else if (type == "llama3") {
    GgufPart part{{"rope_freqs.weight", GgufType::f32, {shape.head_dim / 2}}};
    part.values = llama3_factors(*rope, theta, shape.head_dim);
    model.parts.push_back(std::move(part));
  } else if (type != "default") {
    throw Error(ErrorKind::config, "got '" + type + "', want default, linear, yarn or llama3 for GGUF")
        .key("rope_type");
  }
}

uint32_t file_type(GgufType type) {  // llama.cpp, enum llama_ftype
  switch (type) {
    case GgufType::f32:
      return 0;
    case GgufType::f16:
      return 1;
    case GgufType::q8_0:
      return 7;
    case GgufType::bf16:
      return 32;
  }
  return 0;
}

uint32_t positive(const Value& config, const char* key) { return static_cast<uint32_t>(config.at(key).as_integer()); }

void put_config(GgufModel& model, const Value& config, GgufType type) {
  const std::string architecture = architecture_of(config), prefix = architecture + ".";
  const Shape shape(config);
  GgufKeys& keys = model.keys;
  keys.put("general.architecture", architecture);
  keys.put("general.type", "model");
  keys.put("general.file_type", file_type(type));
  keys.put("general.quantization_version", uint32_t{2});
  keys.put(prefix + "block_count", positive(config, "num_hidden_layers"));
  keys.put(prefix + "context_length", positive(config, "max_position_embeddings"));
  keys.put(prefix + "embedding_length", positive(config, "hidden_size"));
  keys.put(prefix + "feed_forward_length", positive(config, "intermediate_size"));
  keys.put(prefix + "attention.head_count", static_cast<uint32_t>(shape.heads));
  keys.put(prefix + "attention.head_count_kv", static_cast<uint32_t>(shape.kv_heads));
  keys.put(prefix + "attention.key_length", static_cast<uint32_t>(shape.head_dim));
  keys.put(prefix + "attention.value_length", static_cast<uint32_t>(shape.head_dim));
  keys.put(prefix + "attention.layer_norm_rms_epsilon", static_cast<float>(config.get("rms_norm_eps", 1e-6)));
  keys.put(prefix + "vocab_size", positive(config, "vocab_size"));
  put_rope(model, config, prefix, shape);
  if (architecture.starts_with("gemma")) put_gemma(keys, config);
}

// Heads whose rows llama's file has in another order: pairs of the rotation beside each other, not in two halves.
int64_t heads_to_interleave(const std::string& name, const std::string& architecture, const Shape& shape) {
  if (architecture != "llama") return 0;
  if (name.find(".self_attn.q_proj.") != std::string::npos) return shape.heads;
  return name.find(".self_attn.k_proj.") != std::string::npos ? shape.kv_heads : 0;
}

GgufType type_of(const MergeTensor& tensor, GgufType wanted) {
  if (tensor.shape.size() < 2) return GgufType::f32;
  return wanted == GgufType::q8_0 && tensor.shape.back() % kQ8Block != 0 ? GgufType::f16 : wanted;
}

// Encodes rows of a tensor.
class RowEncoder {
 public:
  RowEncoder(const TensorStream& stream, const GgufPart& part) : stream_(stream), part_(part) {
    const std::vector<int64_t>& shape = part.tensor.shape;
    rows_ = shape.empty() ? 1 : shape[0];
    columns_ = part.from->numel() / std::max<int64_t>(rows_, 1);
    // A vector's elements are rows of one: they go together, unless their order changes.
    if (shape.size() < 2 && part.heads == 0) std::swap(rows_, columns_);
  }
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  size_t row_bytes() const {
    return static_cast<size_t>(part_.tensor.bytes()) / static_cast<size_t>(std::max<int64_t>(rows_, 1));
  }

  void encode(int64_t row, int64_t count, std::byte* out) const {
    std::vector<float> values(static_cast<size_t>(count * columns_));
    if (part_.heads == 0) {
      stream_.chunk(row * columns_, count * columns_, reinterpret_cast<std::byte*>(values.data()));
    } else {
      for (int64_t i = 0; i < count; ++i)
        stream_.chunk(source_row(row + i) * columns_, columns_,
                      reinterpret_cast<std::byte*>(values.data() + i * columns_));
    }
    const auto numel = static_cast<int64_t>(values.size());
    if (part_.shift != 0)
      for (float& value : values) value += part_.shift;
    if (part_.tensor.type != GgufType::q8_0) {
      const DType dtype = part_.tensor.type == GgufType::f32   ? DType::f32
                          : part_.tensor.type == GgufType::f16 ? DType::f16
                                                               : DType::bf16;
      from_fp32(values.data(), numel, dtype, out);
    } else if (!quantize_q8_0(values.data(), numel, out)) {
      throw Error(ErrorKind::format, "holds NaN or infinity, which Q8_0 cannot").key(part_.from->name);
    }
  }

 private:
  // Row (head, pair j, which i of the two) of the file is row (head, i, j) of the model.
  int64_t source_row(int64_t row) const {
    const int64_t head_rows = rows_ / part_.heads, half = head_rows / 2;
    const int64_t head = row / head_rows, in_head = row % head_rows;
    return head * head_rows + (in_head % 2) * half + in_head / 2;
  }

  const TensorStream& stream_;
  const GgufPart& part_;
  int64_t rows_ = 0, columns_ = 0;
};

}  // namespace

GgufModel gguf_model(const MergeInput& input, GgufType type) {
  GgufModel model;
  const std::string architecture = architecture_of(input.config());
  const bool gemma = architecture.starts_with("gemma");
  const Value config = gemma ? gemma_config(input.config()) : input.config();
  put_config(model, config, type);
  const Shape shape(config);
  for (const MergeTensor& tensor : input.tensors()) {
    if (tensor.name.ends_with(".rotary_emb.inv_freq")) continue;  // a buffer of old checkpoints
    if (tensor.target != DType::f32 || tensor.shape.size() > 2 || tensor.numel() == 0)
      throw Error(ErrorKind::config, std::string("is ") + to_string(tensor.stored) + " " + shape_text(tensor.shape) +
                                         ", want a weight of one or two dims for GGUF")
          .key(tensor.name);
    GgufPart part{{gguf_name(tensor.name, gemma), type_of(tensor, type), tensor.shape}, &tensor};
    if (gemma && tensor.name.ends_with("norm.weight")) part.shift = 1;  // its norms multiply by 1 + weight
    part.heads = heads_to_interleave(tensor.name, architecture, shape);
    if (part.heads > 0 && tensor.shape[0] != part.heads * shape.head_dim)
      throw Error(ErrorKind::shape, "has " + std::to_string(tensor.shape[0]) + " rows, want " +
                                        std::to_string(part.heads) + " heads of " + std::to_string(shape.head_dim))
          .key(tensor.name);
    model.parts.push_back(std::move(part));
  }
  add_gguf_tokenizer(model.keys, input.companions(), config.at("vocab_size").as_integer());
  return model;
}

void write_gguf(const MergeInput& input, const GgufModel& model, const std::filesystem::path& path, int threads,
                const std::function<void(uint64_t, const std::string&)>& wrote) {
  std::vector<GgufTensor> table;
  for (const GgufPart& part : model.parts) table.push_back(part.tensor);
  GgufWriter writer(path, model.keys, std::move(table));
  std::vector<std::byte> block;
  for (const GgufPart& part : model.parts) {
    if (!part.from) {
      writer.append(std::as_bytes(std::span(part.values)));
      writer.end_tensor();
      continue;
    }
    const TensorStream stream(input, *part.from, threads);
    const RowEncoder encoder(stream, part);
    constexpr int64_t kChunk = 1 << 16, kBlock = 1 << 22;  // elements a thread encodes at once, and of one block
    const int64_t chunk = std::max<int64_t>(1, kChunk / encoder.columns());
    const int64_t rows_at_once = std::max<int64_t>(1, kBlock / encoder.columns());
    for (int64_t row = 0; row < encoder.rows(); row += rows_at_once) {
      const int64_t rows = std::min(rows_at_once, encoder.rows() - row);
      block.resize(static_cast<size_t>(rows) * encoder.row_bytes());
      parallel_for(static_cast<size_t>((rows + chunk - 1) / chunk), {threads, /*at_a_time=*/1}, [&](int64_t i) {
        const int64_t first = i * chunk;
        encoder.encode(row + first, std::min(chunk, rows - first),
                       block.data() + static_cast<size_t>(first) * encoder.row_bytes());
      });
      writer.append(block);
      wrote(block.size(), part.from->name);
    }
    writer.end_tensor();
  }
  writer.finish();
}

}  // namespace ft
