#include "engine/merge/merge.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <chrono>
#include <cmath>
#include <map>
#include <thread>

#include "engine/device/memory.h"
#include "engine/error/error.h"
#include "engine/formats/file.h"
#include "engine/formats/json.h"
#include "engine/merge/adapter_writer.h"
#include "engine/merge/foreign_input.h"
#include "engine/merge/gguf_model.h"
#include "engine/merge/merge_source.h"
#include "engine/merge/model_writer.h"
#include "engine/merge/nf4_writer.h"
#include "engine/merge/output_directory.h"

namespace ft {
namespace {

namespace fs = std::filesystem;

constexpr const char* kIndex = "model.safetensors.index.json";

int thread_count(int wanted) {
  constexpr int kMost = 16;  // past it the disk is what is waited for
  return wanted > 0 ? wanted : std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMost);
}

// Tells the caller how far the bytes are.
class Counter {
 public:
  Counter(uint64_t total, const MergeCallback& callback) : callback_(callback) { progress_.bytes_total = total; }

  void operator()(uint64_t bytes, const std::string& tensor) {
    progress_.bytes_done += bytes;
    progress_.tensor = tensor;
    if (callback_) callback_(progress_);
  }

 private:
  MergeProgress progress_;
  const MergeCallback& callback_;
};

bool is_gguf(MergeFormat format) { return format == MergeFormat::gguf || format == MergeFormat::gguf_q8_0; }

GgufType gguf_type(const MergeOptions& options) {
  if (options.format == MergeFormat::gguf_q8_0) return GgufType::q8_0;
  const DType dtype = options.dtype.value_or(DType::f16);
  return dtype == DType::f32 ? GgufType::f32 : dtype == DType::bf16 ? GgufType::bf16 : GgufType::f16;
}

// What tensors are read as: a GGUF file's encoding starts from fp32.
MergeOptions reading(MergeOptions options) {
  if (is_gguf(options.format)) options.dtype = DType::f32;
  return options;
}

fs::path run_output(const MergeOptions& options, const MergeSource& source) {
  if (!options.output.empty()) return options.output;
  const char* kind = options.adapter_only ? "adapter-" : "merged-";
  return source.run_directory() / (kind + std::to_string(source.checkpoint().step()));
}

fs::path foreign_output(const MergeOptions& options) {
  if (!options.output.empty()) return options.output;
  fs::path input = fs::absolute(options.input).lexically_normal();
  if (!input.has_filename()) input = input.parent_path();
  return input.string() + "-merged";
}

void put(const fs::path& directory, const std::string& name, const std::string& text, MergeReport& report) {
  write_text(directory / name, text);
  report.files.push_back(name);
}

void copy_companions(const MergeInput& source, const fs::path& directory, MergeReport& report) {
  for (const fs::path& file : source.companions()) {
    copy_whole(file, directory / file.filename());
    report.files.push_back(file.filename());
  }
}

// config.json, tokenizer files: what stands beside the weights.
void put_companions(const MergeInput& source, const Value& config, const fs::path& directory, MergeReport& report) {
  put(directory, "config.json", write_json(config, 2) + "\n", report);
  copy_companions(source, directory, report);
}

void put_gguf(const MergeOptions& options, const MergeInput& source, const fs::path& to, const MergeCallback& progress,
              MergeReport& report) {
  const GgufModel model = gguf_model(source, gguf_type(options));
  report.bytes = 0;
  for (const GgufPart& part : model.parts) report.bytes += part.tensor.bytes();
  OutputDirectory output(to, report.bytes);
  Counter counter(report.bytes, progress);
  write_gguf(source, model, output.temporary() / "model.gguf", thread_count(options.threads), std::ref(counter));
  report.files.push_back("model.gguf");
  output.commit();
  report.output = output.path();
}

void put_model(const MergeOptions& options, const MergeInput& source, const fs::path& to, const MergeCallback& progress,
               MergeReport& report) {
  const std::vector<MergeShard> shards = deal_shards(source.tensors(), options.shard_size);
  OutputDirectory output(to, report.bytes);
  const fs::path& directory = output.temporary();
  Counter counter(report.bytes, progress);
  const int threads = thread_count(options.threads);
  Value config = merged_config(source.config(), source.tensors());
  if (options.format == MergeFormat::nf4) {
    config = nf4_config(source);
    std::map<std::string, std::string> files;
    report.bytes = 0;  // four bits and their scales are less than what the progress counted
    for (const MergeShard& shard : shards) {
      for (const std::string& name : write_nf4_shard(source, shard, directory, threads, std::ref(counter)))
        files[name] = shard.file;
      report.bytes += fs::file_size(directory / shard.file);
      report.files.push_back(shard.file);
    }
    if (shards.size() > 1)
      put(directory, kIndex, index_text(files, report.parameters, static_cast<int64_t>(report.bytes)), report);
  } else if (options.format == MergeFormat::dcp) {
    for (const std::string& file : write_dcp(source, shards, directory / kDcpFolder, threads, std::ref(counter)))
      report.files.push_back(std::string(kDcpFolder) + "/" + file);
  } else {
    for (const MergeShard& shard : shards) {
      write_shard(source, shard, directory, threads, std::ref(counter));
      report.files.push_back(shard.file);
    }
    if (shards.size() > 1) put(directory, kIndex, index_text(shards), report);
  }
  put_companions(source, config, directory, report);
  output.commit();
  report.output = output.path();
}

void merge_model(const MergeOptions& options, const MergeInput& source, const fs::path& to,
                 const MergeCallback& progress, MergeReport& report) {
  for (const MergeTensor& tensor : source.tensors()) {
    report.bytes += tensor.bytes();
    report.parameters += tensor.numel();
    report.folded += tensor.lora.has_value();
  }
  if (is_gguf(options.format))
    put_gguf(options, source, to, progress, report);
  else
    put_model(options, source, to, progress, report);
}

void merge_adapter(const MergeOptions& options, const MergeSource& source, const MergeCallback& progress,
                   MergeReport& report) {
  const std::vector<TensorEntry> entries = adapter_tensors(source, options.dtype);
  for (const TensorEntry& entry : entries) {
    report.bytes += static_cast<uint64_t>(entry.numel()) * byte_size(entry.dtype);
    report.parameters += entry.numel();
  }
  OutputDirectory output(run_output(options, source), report.bytes);
  Counter counter(report.bytes, progress);
  write_adapter(source, entries, output.temporary(), std::ref(counter));
  report.files.push_back("adapter_model.safetensors");
  put(output.temporary(), "adapter_config.json",
      write_json(minimal_adapter_config(source.adapter(), source.base_model()), 2) + "\n", report);
  // New tokens are known by them alone.
  if (source.base() && source.base()->growth()) copy_companions(source, output.temporary(), report);
  output.commit();
  report.output = output.path();
}

[[noreturn]] void refuse_gguf_of_dequantized() {
  throw Error(ErrorKind::config, "dequantized weights do not go into GGUF at once")
      .key("--base")
      .help("merge with --format huggingface first, and then what came of it");
}

void check_options(const MergeOptions& options) {
  if (options.dtype && !is_weight_dtype(*options.dtype))
    throw Error(ErrorKind::config, std::string("got ") + to_string(*options.dtype) + ", want fp32, fp16 or bf16")
        .key("--dtype");
  if (options.shard_size == 0) throw Error(ErrorKind::config, "got 0, want at least one byte").key("--shard-size");
  if (options.adapter_only && options.format != MergeFormat::huggingface)
    throw Error(ErrorKind::config, "an adapter alone is written as PEFT reads it").key("--format");
  if (is_gguf(options.format) && options.base == MergeBase::dequantized) refuse_gguf_of_dequantized();
  if (options.format == MergeFormat::gguf_q8_0 && options.dtype)
    throw Error(ErrorKind::config, "Q8_0 says what matrices are stored as").key("--dtype");
  if (options.adapter_only && options.base == MergeBase::dequantized)
    throw Error(ErrorKind::config, "an adapter alone has no base weights").key("--base");
}

void merge_run(const MergeOptions& options, const MergeCallback& progress, MergeReport& report) {
  const MergeSource source(reading(options));
  report.step = source.checkpoint().step();
  report.source = "step " + std::to_string(report.step);
  if (options.adapter_only) {
    merge_adapter(options, source, progress, report);
    return;
  }
  if (source.dequantizes() && is_gguf(options.format)) refuse_gguf_of_dequantized();
  if (source.dequantizes() && !options.base)
    report.note =
        "LoRA began by LoftQ, as a correction of the base in four bits: it is folded into that base dequantized";
  merge_model(options, source, run_output(options, source), progress, report);
}

void merge_foreign(const MergeOptions& options, const fs::path& path, const MergeCallback& progress,
                   MergeReport& report) {
  const auto refuse = [&](const char* flag, const char* message) {
    throw Error(ErrorKind::config, message).at(options.input.string()).key(flag);
  };
  if (options.adapter_only) refuse("--adapter-only", "is for runs of ftengine");
  if (options.base == MergeBase::dequantized) refuse("--base", "is for runs of ftengine");
  const ForeignInput input(path, reading(options));
  report.source = "from " + input.kind();
  merge_model(options, input, foreign_output(options), progress, report);
}

}  // namespace

MergeReport merge(const MergeOptions& options, const MergeCallback& progress) {
  const auto begin = std::chrono::steady_clock::now();
  check_options(options);
  MergeReport report;
  const bool own = fs::exists(options.input / "run.json") || fs::exists(options.input / "manifest.json");
  if (const auto foreign = own ? std::nullopt : find_foreign(options.input))
    merge_foreign(options, *foreign, progress, report);
  else
    merge_run(options, progress, report);
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  report.peak_bytes = static_cast<uint64_t>(read_host_memory().peak_resident);
  return report;
}

uint64_t parse_bytes(const std::string& text) {
  const auto refuse = [&]() -> Error {
    return Error(ErrorKind::config, "got '" + text + "', want a size such as 5GB, 500MB or 2GiB");
  };
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) throw refuse();
  std::string unit(end, text.data() + text.size());
  unit.erase(0, unit.find_first_not_of(' ') == std::string::npos ? unit.size() : unit.find_first_not_of(' '));
  std::transform(unit.begin(), unit.end(), unit.begin(), [](unsigned char c) { return std::toupper(c); });
  constexpr std::pair<const char*, double> kUnits[] = {
      {"", 1},      {"B", 1},        {"KB", 1e3},     {"MB", 1e6},     {"GB", 1e9},
      {"TB", 1e12}, {"KIB", 0x1p10}, {"MIB", 0x1p20}, {"GIB", 0x1p30}, {"TIB", 0x1p40}};
  for (const auto& [name, factor] : kUnits)
    if (unit == name) {
      const double bytes = number * factor;
      if (!(bytes >= 1) || bytes > 0x1p62) throw refuse();
      return static_cast<uint64_t>(std::llround(bytes));
    }
  throw refuse();
}

}  // namespace ft
