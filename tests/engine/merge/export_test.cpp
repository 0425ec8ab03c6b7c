#include <cstring>
#include <limits>
#include <map>

#include "engine/formats/gguf.h"
#include "engine/formats/json.h"
#include "engine/formats/tensor_source.h"
#include "engine/merge/gguf_model.h"
#include "engine/merge/merge.h"
#include "engine/quant/nf4.h"
#include "engine/tensor/half.h"
#include "tests/engine/merge/merge_run.h"

namespace ft {
namespace {

namespace fs = std::filesystem;
using test::TemporaryDirectory;

fs::path foreign(const std::string& name) { return fs::path(FT_GOLDEN_DIR) / "foreign" / name; }

std::vector<float> values_of(const SafetensorsFile& file, const TensorEntry& entry) {
  std::string bytes(entry.bytes(), '\0');
  file.read(entry, 0, std::as_writable_bytes(std::span(bytes)));
  std::vector<float> values(static_cast<size_t>(entry.numel()));
  to_fp32(entry.dtype, bytes.data(), entry.numel(), values.data());
  return values;
}

// A reader of GGUF that knows no more than a test needs.
class Gguf {
 public:
  struct Tensor {
    std::vector<uint64_t> dims;
    uint32_t type = 0;
    uint64_t offset = 0;
  };

  explicit Gguf(const fs::path& path) : bytes_(test::slurp(path)) {
    EXPECT_EQ(take<uint32_t>(), 0x46554747u);
    EXPECT_EQ(take<uint32_t>(), 3u);
    const auto count = take<uint64_t>(), keys = take<uint64_t>();
    for (uint64_t i = 0; i < keys; ++i) {
      const std::string key = string();
      this->keys[key] = value(take<uint32_t>());
    }
    for (uint64_t i = 0; i < count; ++i) {
      Tensor& tensor = tensors[string()];
      tensor.dims.resize(take<uint32_t>());
      for (uint64_t& dim : tensor.dims) dim = take<uint64_t>();
      tensor.type = take<uint32_t>();
      tensor.offset = take<uint64_t>();
      EXPECT_EQ(tensor.offset % 32, 0u);
    }
    at_ = (at_ + 31) / 32 * 32;
    for (auto& [name, tensor] : tensors) tensor.offset += at_;
  }

  std::vector<float> values(const std::string& name) const {
    const Tensor& tensor = tensors.at(name);
    uint64_t n = 1;
    for (const uint64_t dim : tensor.dims) n *= dim;
    std::vector<float> result(n);
    const char* from = bytes_.data() + tensor.offset;
    if (tensor.type == 0) std::memcpy(result.data(), from, n * 4);
    if (tensor.type == 1) to_fp32(DType::f16, from, static_cast<int64_t>(n), result.data());
    if (tensor.type == 8)
      for (uint64_t i = 0; i < n; ++i) {
        float scale = 0;
        to_fp32(DType::f16, from + i / 32 * 34, 1, &scale);
        result[i] = scale * static_cast<float>(static_cast<int8_t>(from[i / 32 * 34 + 2 + i % 32]));
      }
    return result;
  }

  std::map<std::string, std::string> keys;
  std::map<std::string, Tensor> tensors;

 private:
  template <typename T>
  T take() {
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  std::string string() {
    const auto size = take<uint64_t>();
    at_ += size;
    return bytes_.substr(at_ - size, size);
  }
  std::string value(uint32_t type) {
    if (type == 8) return string();
    if (type == 4) return std::to_string(take<uint32_t>());
    if (type == 5) return std::to_string(take<int32_t>());
    if (type == 6) return std::to_string(take<float>());
    if (type == 7) return std::to_string(take<uint8_t>());
    const auto inner = take<uint32_t>();
    const auto count = take<uint64_t>();
    std::string text = std::to_string(count) + ":";
    for (uint64_t i = 0; i < count; ++i) text += value(inner) + "|";
    return text;
  }

  std::string bytes_;
  size_t at_ = 0;
};

TEST(Export, WritesADcpThatIsReadBackEqual) {
  const TemporaryDirectory directory;
  // Small shards: several files.
  const MergeReport report =
      merge({.input = foreign("model"), .output = directory / "out", .shard_size = 6000, .format = MergeFormat::dcp});
  EXPECT_GT(report.files.size(), 4u);
  EXPECT_TRUE(fs::exists(directory / "out/pytorch_model_fsdp_0/.metadata"));
  merge({.input = directory / "out", .output = directory / "back"});
  merge({.input = foreign("model"), .output = directory / "plain"});
  EXPECT_EQ(test::slurp(directory / "back/model.safetensors"), test::slurp(directory / "plain/model.safetensors"));
  const TensorSource source = open_tensor_source(directory / "out/pytorch_model_fsdp_0");
  EXPECT_EQ(source.find("lm_head.weight")->pieces[0].offset % 2, 0u);
}

TEST(Export, WritesGgufInF16WithRotaryRowsInterleaved) {
  const TemporaryDirectory directory;
  merge({.input = foreign("model"), .output = directory / "out", .format = MergeFormat::gguf, .threads = 2});
  const Gguf gguf(directory / "out/model.gguf");
  EXPECT_EQ(gguf.keys.at("general.architecture"), "llama");
  EXPECT_EQ(gguf.keys.at("llama.attention.head_count"), "2");
  EXPECT_EQ(gguf.keys.at("llama.attention.head_count_kv"), "1");
  EXPECT_EQ(gguf.keys.at("llama.rope.dimension_count"), "8");
  const SafetensorsFile model(foreign("model/model.safetensors"));
  EXPECT_EQ(gguf.tensors.size(), model.entries().size());
  EXPECT_EQ(gguf.tensors.at("blk.1.ffn_up.weight").dims, (std::vector<uint64_t>{16, 24}));
  EXPECT_EQ(gguf.tensors.at("blk.0.attn_norm.weight").type, 0u);
  const auto rounded = [](std::vector<float> x) {
    std::vector<uint16_t> half(x.size());
    from_fp32(x.data(), static_cast<int64_t>(x.size()), DType::f16, half.data());
    to_fp32(DType::f16, half.data(), static_cast<int64_t>(x.size()), x.data());
    return x;
  };
  EXPECT_EQ(gguf.values("blk.1.ffn_down.weight"),
            rounded(values_of(model, *model.find("model.layers.1.mlp.down_proj.weight"))));
  EXPECT_EQ(gguf.values("output.weight"), rounded(values_of(model, *model.find("lm_head.weight"))));
  EXPECT_EQ(gguf.values("output_norm.weight"), values_of(model, *model.find("model.norm.weight")));
  // Heads of 8 rows: row 2j of the file is row j of the head, row 2j + 1 row 4 + j.
  const std::vector<float> query = rounded(values_of(model, *model.find("model.layers.0.self_attn.q_proj.weight")));
  const std::vector<float> got = gguf.values("blk.0.attn_q.weight");
  for (int head = 0; head < 2; ++head)
    for (int row = 0; row < 8; ++row)
      for (int column = 0; column < 16; ++column)
        EXPECT_EQ(got[static_cast<size_t>((head * 8 + row) * 16 + column)],
                  query[static_cast<size_t>((head * 8 + row / 2 + (row % 2) * 4) * 16 + column)]);
}

TEST(Export, EncodesQ8AsGgufDoes) {
  const SafetensorsFile file(foreign("q8_0.safetensors"));
  const std::vector<float> x = values_of(file, *file.find("x"));
  std::string want(file.find("q8_0")->bytes(), '\0'), got(want.size(), '\0');
  file.read(*file.find("q8_0"), 0, std::as_writable_bytes(std::span(want)));
  EXPECT_TRUE(quantize_q8_0(x.data(), static_cast<int64_t>(x.size()), reinterpret_cast<std::byte*>(got.data())));
  EXPECT_EQ(got, want);
  std::vector<float> bad(32, 1.f);
  bad[7] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(quantize_q8_0(bad.data(), 32, reinterpret_cast<std::byte*>(got.data())));
}

TEST(Export, WritesGgufInQ8WhereRowsAreLongEnough) {
  const TemporaryDirectory directory;
  test::write_run(directory / "run", test::golden("base_bf16"));
  fs::remove(directory / "run/tokenizer.json");
  test::write_checkpoint(directory / "run", 3, test::golden_adapter(), 2);
  merge({.input = directory / "run", .output = directory / "out", .format = MergeFormat::gguf_q8_0});
  merge({.input = directory / "run", .output = directory / "plain", .dtype = DType::f32});
  const Gguf gguf(directory / "out/model.gguf");
  const SafetensorsFile model(directory / "plain/model.safetensors");
  EXPECT_EQ(gguf.tensors.at("blk.0.ffn_up.weight").type, 8u) << "rows of 32";
  EXPECT_EQ(gguf.tensors.at("blk.0.ffn_down.weight").type, 1u) << "rows of 48";
  const std::vector<float> want = values_of(model, *model.find("model.layers.0.mlp.up_proj.weight"));
  const std::vector<float> got = gguf.values("blk.0.ffn_up.weight");
  for (size_t i = 0; i < want.size(); ++i) {
    float most = 0;
    for (size_t k = i / 32 * 32; k < i / 32 * 32 + 32; ++k) most = std::max(most, std::abs(want[k]));
    EXPECT_NEAR(got[i], want[i], most / 127 * 0.51f + most * 1e-3f);
  }
}

TEST(Export, WritesYarnIntoGgufWithWhatItSays) {
  const TemporaryDirectory directory;
  fs::copy(foreign("model"), directory / "in", fs::copy_options::recursive);
  Value config = read_json(directory / "in/config.json");
  config.set("rope_parameters", Value::map({{"rope_type", "yarn"},
                                            {"rope_theta", 1e4},
                                            {"factor", 4.0},
                                            {"original_max_position_embeddings", 64},
                                            {"attention_factor", 0.5},
                                            {"beta_fast", 4.0},
                                            {"beta_slow", 2}}));
  test::spill(directory / "in/config.json", write_json(config));
  merge({.input = directory / "in", .output = directory / "out", .format = MergeFormat::gguf});
  const Gguf gguf(directory / "out/model.gguf");
  const std::string scaling = "llama.rope.scaling.";
  EXPECT_EQ(gguf.keys.at(scaling + "type"), "yarn");
  EXPECT_EQ(gguf.keys.at(scaling + "factor"), std::to_string(4.f));
  EXPECT_EQ(gguf.keys.at(scaling + "original_context_length"), "64");
  EXPECT_EQ(gguf.keys.at(scaling + "yarn_attn_factor"), std::to_string(0.5f));
  EXPECT_EQ(gguf.keys.at(scaling + "yarn_beta_fast"), std::to_string(4.f));
  EXPECT_EQ(gguf.keys.at(scaling + "yarn_beta_slow"), std::to_string(2.f));
}

// A tiny Gemma 3 of six layers: one's norms, windows and rotation as the config of a directory says them.
Value write_gemma(const fs::path& folder) {
  fs::create_directories(folder);
  std::vector<TensorEntry> entries;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    entries.push_back({.name = name + ".weight", .dtype = DType::f32, .shape = std::move(shape)});
  };
  add("model.embed_tokens", {21, 32});
  for (int i = 0; i < 6; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    for (const char* norm :
         {"input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"})
      add(layer + norm, {32});
    for (const char* norm : {"self_attn.q_norm", "self_attn.k_norm"}) add(layer + norm, {16});
    for (const char* linear : {"self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"})
      add(layer + linear, {32, 32});
    for (const char* linear : {"self_attn.k_proj", "self_attn.v_proj"}) add(layer + linear, {16, 32});
  }
  add("model.norm", {32});
  SafetensorsWriter writer(folder / "model.safetensors", entries);
  float next = 0;
  for (const TensorEntry& entry : writer.entries()) {
    std::vector<float> values(static_cast<size_t>(entry.numel()));
    for (float& value : values) value = (next = next > 1 ? -0.99f : next + 0.0625f);
    writer.append(std::as_bytes(std::span(values)));
  }
  writer.finish();
  Value config = parse_json(R"({"model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"], "hidden_size": 32,
    "intermediate_size": 32, "num_hidden_layers": 6, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
    "query_pre_attn_scalar": 16, "vocab_size": 21, "max_position_embeddings": 64, "sliding_window": 8,
    "attn_logit_softcapping": null, "final_logit_softcapping": null, "rms_norm_eps": 1e-6,
    "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "sliding_attention",
                    "sliding_attention", "full_attention"],
    "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
                        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}})",
                            "config.json");
  test::spill(folder / "config.json", write_json(config));
  return config;
}

// Names are those of gguf's table for the architecture (tests/golden/written.py gguf holds all of them to it).
TEST(Export, WritesGemmaIntoGgufWithItsNormsOffset) {
  const TemporaryDirectory directory;
  write_gemma(directory / "in");
  test::spill(directory / "in/tokenizer.json",
              R"({"normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
                  "model": {"type": "BPE", "byte_fallback": true, "unk_token": "<unk>",
                            "vocab": {"<unk>": 0, "a": 1, "b": 2, "ab": 3}, "merges": [["a", "b"]]}})");
  merge({.input = directory / "in", .output = directory / "out", .format = MergeFormat::gguf_q8_0, .threads = 2});
  const Gguf gguf(directory / "out/model.gguf");
  for (const auto& [key, value] :
       std::map<std::string, std::string>{{"general.architecture", "gemma3"},
                                          {"gemma3.attention.sliding_window", "8"},
                                          {"gemma3.attention.key_length", "16"},
                                          {"gemma3.rope.freq_base", std::to_string(1e6f)},
                                          {"gemma3.rope.scaling.type", "linear"},
                                          {"gemma3.rope.scaling.factor", std::to_string(8.f)},
                                          {"tokenizer.ggml.model", "llama"},
                                          {"tokenizer.ggml.add_space_prefix", "0"}})
    EXPECT_EQ(gguf.keys.at(key), value) << key;
  EXPECT_FALSE(gguf.keys.contains("gemma3.final_logit_softcapping"));
  const SafetensorsFile model(directory / "in/model.safetensors");
  EXPECT_EQ(gguf.tensors.size(), model.entries().size());
  for (const auto& [theirs, ours] :
       std::map<std::string, std::string>{{"input_layernorm", "attn_norm"},
                                          {"post_attention_layernorm", "post_attention_norm"},
                                          {"pre_feedforward_layernorm", "ffn_norm"},
                                          {"post_feedforward_layernorm", "post_ffw_norm"},
                                          {"self_attn.k_norm", "attn_k_norm"}}) {
    std::vector<float> want = values_of(model, *model.find("model.layers.5." + theirs + ".weight"));
    for (float& value : want) value += 1;
    EXPECT_EQ(gguf.values("blk.5." + ours + ".weight"), want);
  }
  EXPECT_EQ(gguf.tensors.at("blk.5.attn_q.weight").type, 8u);
}

TEST(Export, RefusesAGemmaThatLlamaCppWouldComputeOtherwise) {
  const TemporaryDirectory directory;
  const Value config = write_gemma(directory / "in");
  const MergeOptions options{.input = directory / "in", .output = directory / "out", .format = MergeFormat::gguf};
  const auto with = [&](const char* key, Value value) {
    Value changed = config;
    changed.set(key, std::move(value));
    test::spill(directory / "in/config.json", write_json(changed));
  };
  with("query_pre_attn_scalar", 17);
  EXPECT_ERROR(merge(options), config, "query_pre_attn_scalar");
  with("layer_types", Value::list({"sliding_attention", "full_attention"}));
  EXPECT_ERROR(merge(options), config, "layer_types");
  with("attn_logit_softcapping", 50.0);
  EXPECT_ERROR(merge(options), config, "attn_logit_softcapping");
  with("tie_word_embeddings", false);
  EXPECT_ERROR(merge(options), config, "tie_word_embeddings");
  with("rope_parameters", Value::map({{"sliding_attention", Value::map({{"rope_theta", 5000.0}})}}));
  EXPECT_ERROR(merge(options), config, "rope_local_base_freq");
  EXPECT_FALSE(fs::exists(directory / "out"));
}

TEST(Export, RefusesByNameWhatGgufHasNoPlaceFor) {
  const TemporaryDirectory directory;
  fs::copy(foreign("model"), directory / "in", fs::copy_options::recursive);
  Value config = read_json(directory / "in/config.json");
  const auto with = [&](const char* key, Value value) {
    Value changed = config;
    changed.set(key, std::move(value));
    test::spill(directory / "in/config.json", write_json(changed));
  };
  const MergeOptions options{.input = directory / "in", .output = directory / "out", .format = MergeFormat::gguf};
  with("model_type", "mamba");
  EXPECT_ERROR(merge(options), config, "got 'mamba'");
  with("rope_parameters", Value::map({{"rope_type", "longrope"}, {"rope_theta", 1e4}}));
  EXPECT_ERROR(merge(options), config, "got 'longrope'");
  for (const auto& [key, value] : {std::pair("mscale", Value(0.7)), {"truncate", Value(false)}}) {
    with("rope_parameters", Value::map({{"rope_type", "yarn"}, {"factor", 4.0}, {key, value}}));
    EXPECT_ERROR(merge(options), config, key);
  }
  with("num_attention_heads", 4);
  EXPECT_ERROR(merge(options), shape, "heads of");
  test::spill(directory / "in/config.json", write_json(config));
  test::spill(directory / "in/tokenizer.json", R"({"model": {"type": "Unigram", "vocab": []}})");
  EXPECT_ERROR(merge(options), config, "type Unigram");
  test::spill(directory / "in/tokenizer.json",
              R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "pre_tokenizer": {"type": "Digits"}})");
  EXPECT_ERROR(merge(options), config, "splits texts");
  fs::remove(directory / "in/tokenizer.json");
  const auto pieces = [&](const char* name) {
    fs::copy_file(fs::path(FT_GOLDEN_DIR) / "sentencepiece" / name / "tokenizer.model",
                  directory / "in/tokenizer.model", fs::copy_options::overwrite_existing);
  };
  pieces("llama");
  test::spill(directory / "in/tokenizer_config.json", R"({"added_tokens_decoder": {"-5": {"content": "<x>"}}})");
  GgufKeys keys;
  add_gguf_tokenizer(keys, companion_files(directory / "in"), 600);  // an id that no table has is left out
  fs::remove(directory / "in/tokenizer_config.json");
  pieces("unigram");
  EXPECT_ERROR(merge(options), config, "a Unigram model is not what llama.cpp's tokenizer 'llama' does");
  pieces("bpe_rules");
  EXPECT_ERROR(merge(options), config, "a model without byte fallback is not what");
  EXPECT_ERROR(merge({.input = directory / "in", .dtype = DType::f32, .format = MergeFormat::gguf_q8_0}), config,
               "--dtype");
  EXPECT_FALSE(fs::exists(directory / "out"));
}

TEST(Export, PutsTheTokenizerIntoGguf) {
  const TemporaryDirectory directory;
  fs::copy(foreign("model"), directory / "in", fs::copy_options::recursive);
  test::spill(directory / "in/tokenizer.json",
              R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
                  "pre_tokenizer": {"type": "ByteLevel"}, "added_tokens": [{"id": 3, "content": "<s>", "special": true}]})");
  test::spill(directory / "in/tokenizer_config.json",
              R"({"bos_token": {"content": "<s>"}, "chat_template": "{{ x }}"})");
  merge({.input = directory / "in", .output = directory / "out", .format = MergeFormat::gguf});
  const Gguf gguf(directory / "out/model.gguf");
  EXPECT_EQ(gguf.keys.at("tokenizer.ggml.model"), "gpt2");
  EXPECT_EQ(gguf.keys.at("tokenizer.ggml.pre"), "gpt-2");
  EXPECT_TRUE(gguf.keys.at("tokenizer.ggml.tokens").starts_with("21:a|b|ab|<s>|[PAD4]|"));
  EXPECT_TRUE(gguf.keys.at("tokenizer.ggml.token_type").starts_with("21:1|1|1|3|5|"));
  EXPECT_EQ(gguf.keys.at("tokenizer.ggml.merges"), "1:a b|");
  EXPECT_EQ(gguf.keys.at("tokenizer.ggml.bos_token_id"), "3");
  EXPECT_EQ(gguf.keys.at("tokenizer.chat_template"), "{{ x }}");
}

// Against what llama.cpp's converter makes of the same folder (tests/golden/gguf_pieces.py), but for add_space_prefix
// and the kind of user-defined pieces, which it does not say.
TEST(Export, PutsASentencePieceModelIntoGguf) {
  const Value golden = read_json(fs::path(FT_GOLDEN_DIR) / "gguf_pieces.json");
  const Value tokens = read_json(fs::path(FT_GOLDEN_DIR) / "sentencepiece_tokens.json");
  for (const auto& [name, keys] : golden.as_map()) {
    SCOPED_TRACE(name);
    const TemporaryDirectory directory;
    fs::copy(foreign("model"), directory / "in", fs::copy_options::recursive);
    const Value& made = tokens.at(name);
    fs::copy_file(fs::path(FT_GOLDEN_DIR) / "sentencepiece" / made.at("model").as_string() / "tokenizer.model",
                  directory / "in/tokenizer.model");
    for (const auto& [file, content] : made.at("saved").as_map())
      test::spill(directory / "in" / file, write_json(content));
    GgufKeys written;
    add_gguf_tokenizer(written, companion_files(directory / "in"), keys.at("vocab_size").as_integer());
    GgufWriter(directory / "out.gguf", written, {}).finish();
    const Gguf gguf(directory / "out.gguf");
    for (const auto& [key, value] : keys.at("keys").as_map()) EXPECT_EQ(gguf.keys.at(key), value.as_string()) << key;
    EXPECT_EQ(gguf.keys.at("tokenizer.ggml.add_space_prefix"), name == "llama_eos_marks" ? "0" : "1");
    EXPECT_EQ(gguf.keys.at("tokenizer.ggml.bos_token_id"), "1");
    EXPECT_EQ(gguf.keys.at("tokenizer.ggml.eos_token_id"), std::to_string(made.at("new").at("<|end|>").as_integer()));
  }
}

// What is dequantized of it is what our NF4 of the base's own values gives; and quantizing that which bitsandbytes
// quantized gives its codes again.
TEST(Export, WritesNf4AsBitsandbytesStoresIt) {
  const TemporaryDirectory directory;
  merge({.input = foreign("bnb_nf4"), .output = directory / "plain", .dtype = DType::f32});
  EXPECT_EQ(read_json(directory / "plain/config.json").find("quantization_config"), nullptr);
  merge({.input = directory / "plain",
         .output = directory / "nf4",
         .shard_size = 60'000,
         .format = MergeFormat::nf4,
         .threads = 2});
  EXPECT_TRUE(fs::exists(directory / "nf4/model.safetensors.index.json"));
  const ModelDirectory plain(directory / "plain"), quantized(directory / "nf4");
  EXPECT_EQ(quantized.tensors().size(), plain.tensors().size());
  size_t weights = 0;
  for (const TensorEntry* entry : plain.tensors()) {
    const size_t numel = static_cast<size_t>(entry->numel());
    std::vector<float> values(numel), got(numel);
    plain.read(entry->name, 0, std::as_writable_bytes(std::span(values)));
    quantized.read(entry->name, 0, std::as_writable_bytes(std::span(got)));
    const BnbWeight* weight = quantized.quantized(entry->name);
    if (!weight) {
      EXPECT_EQ(got, values) << entry->name;
      continue;
    }
    ++weights;
    EXPECT_TRUE(weight->has_records() && weight->double_quant());
    const nf4::Quantized ours =
        nf4::quantize(DType::f32, reinterpret_cast<const std::byte*>(values.data()), entry->numel(), true);
    std::vector<uint8_t> records(ours.records.size());
    quantized.read_records(*weight, 0, nf4::num_groups(entry->numel()), records.data());
    EXPECT_EQ(records, ours.records) << entry->name;
    EXPECT_EQ(weight->nested_offset(), ours.offset);
  }
  EXPECT_EQ(weights, 7u);
  EXPECT_EQ(read_json(directory / "nf4/config.json").at("quantization_config").at("bnb_4bit_quant_type").as_string(),
            "nf4");
  test::write_run(directory / "run", test::golden("base_bf16"));
  test::write_checkpoint(directory / "run", 3, test::golden_adapter(), 1);
  EXPECT_ERROR(merge({.input = directory / "run", .output = directory / "x", .format = MergeFormat::nf4}), config,
               "four bits would lose");
  EXPECT_FALSE(fs::exists(directory / "x"));
}

}  // namespace
}  // namespace ft
