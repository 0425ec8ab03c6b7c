"""What the engine writes, as others read it: trains, merges and exports tiny models by the program and compares their logits.

    written.py models [NAME …]   every model type (the configs of models.py and experts.py): LoRA of two steps, on one rank and two
    written.py grown             the same with added tokens: tied and untied, whole and under each adapter that covers them
    written.py nf4               NF4 written for bitsandbytes, nested; what bitsandbytes wrote, nested, flat, FP4, bf16-packed
    written.py gguf              F16 and Q8_0 as gguf reads them, names as its own table has them

    --program build/release/ftengine      --keep DIR: leave everything there

models and grown load the adapter in peft and the merged directory in transformers, fp32, and hold: peft's and transformers'
logits to each other (merging is exact but for rounding), the engine's own forward to transformers' by `ftengine parity`, and
`ftengine eval` of run and merged directory to transformers' loss. Exit code 1 when a bound is missed.
"""
import argparse, json, os, shutil, subprocess, sys, tempfile, warnings
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
HERE = os.path.dirname(os.path.abspath(__file__))
LOGITS, LOSS = 1e-5, 2e-6  # of logits' largest value, relative; fp32
ROWS, LENGTH = 4, 20
SIZES = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=131,
             bos_token_id=None, eos_token_id=None, pad_token_id=None)
failed = []

RECIPE = """local ft = require "ft"
local plan = ft.plan {
  model = ft.hf { %(model)s, compute = "fp32"%(options)s }, %(adapter)s
  data = { train = ft.tokenized { "rows.jsonl", seq_len = %(length)d, pack = false, shuffle = false } },
  parallel = "%(profile)s", optimizer = ft.adamw { lr = 1e-2, schedule = ft.constant {} },
  batch = { total = 4, micro = 2 }, epochs = 2, save = { dir = "%(out)s" },
}
local run = plan:start()
for step, window in run:steps() do
  local tokens, loss = run:sum(window:tokens()), 0
  for batch in window:each() do loss = loss + run:backward(batch, tokens) end
  run:update()
  run:log { step = step, loss = run:sum(loss) }
end
run:finish()
"""


def quoted(text):
    return json.dumps(text)


class Bench:
    def __init__(self, program, folder):
        self.program, self.folder = os.path.abspath(program), folder

    def at(self, *names):
        return os.path.join(self.folder, *names)

    def ft(self, *words):
        done = subprocess.run([self.program, *words], capture_output=True, text=True, cwd=self.folder)
        if done.returncode != 0:
            raise RuntimeError(f"ftengine {' '.join(words)}: exit code {done.returncode}\n{done.stderr}")
        return done.stdout

    def rows(self, vocab, of=()):
        """Ids by a formula; those of `of` are strewn in."""
        ids = torch.tensor([(i * 7 + (i * i) % 11 + 3) % vocab for i in range(ROWS * LENGTH)])
        for i, token in enumerate(of):
            ids[3 + i::9] = token
        ids = ids.view(ROWS, LENGTH)
        with open(self.at("rows.jsonl"), "w") as file:
            file.writelines(json.dumps({"input_ids": row.tolist()}) + "\n" for row in ids)
        return ids

    def train(self, model, out, ranks, adapter="", options=""):
        for name in os.listdir(self.folder):  # a run never overwrites another
            if name == out or name.startswith(out + "-"):
                shutil.rmtree(self.at(name))
        with open(self.at("train.lua"), "w") as file:
            file.write(RECIPE % dict(model=quoted(model), out=out, adapter=adapter and f"adapter = ft.lora {adapter},",
                                     options=options, length=LENGTH, profile="zero3" if ranks > 1 else "single"))
        self.ft("run", "train.lua", "--nproc", str(ranks))

    def run(self):
        """The directory of the newest training: the first of a name is numbered."""
        return next(found for found in ("run-1", "run") if os.path.isdir(self.at(found)))

    def eval(self, of):
        words = ["eval", of, "rows.jsonl", "--json", f"--seq-len={LENGTH}", "--compute=fp32"]
        return json.loads(self.ft(*words))["loss"]

    def parity(self, model, folder, ids):
        """How far the logits of the engine's forward of `folder` are from those of `model`; the loss is held by the command."""
        with torch.no_grad():  # in train(): a loss of experts is part of it
            out = model.train()(input_ids=ids, labels=ids)
        model.eval()
        values = {"tokens": ids, "loss": out.loss, "logits": out.logits}
        save_file({k: v.contiguous() for k, v in values.items()}, self.at("values.safetensors"))
        return json.loads(self.ft("parity", folder, "--reference", "values.safetensors", "--json"))["logits"]


def load(folder, **more):
    """transformers' model; what it misses or does not know is an error."""
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True,
                                                       attn_implementation="eager", **more)
    wrong = {k: v for k, v in info.items() if k in ("missing_keys", "unexpected_keys", "mismatched_keys") and v}
    assert not wrong, wrong
    return model.eval()


def with_adapter(base, adapter, size=None):
    """peft's model; a key that it misses is an error."""
    model = load(base)
    if size:
        model.resize_token_embeddings(size, mean_resizing=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*missing adapter keys.*")
        warnings.filterwarnings("error", message=".*unexpected keys.*")
        return PeftModel.from_pretrained(model, adapter).eval()


def same_tensors(model, adapter):
    """Every tensor of the file stands in the model that peft made of it; those of experts stand there converted."""
    have = {}
    for name, p in model.state_dict().items():
        have[name.replace(".default", "").replace(".modules_to_save", "")] = p
    for name, value in load_file(os.path.join(adapter, "adapter_model.safetensors")).items():
        if ".experts." in name or ".base_layer." in name and name not in have:
            continue
        assert torch.equal(have[name], value), name


def loss_of(logits, ids):
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).double(), ids[:, 1:].flatten()).item()


def gate(name, apart, most, detail=""):
    if not apart <= most:
        failed.append(name)
    print(f"{'ok  ' if apart <= most else 'FAIL'} {name:58s} {apart:.1e} of {most:.0e} {detail}", flush=True)


@torch.no_grad()
def logits(model, ids):
    return model(input_ids=ids).logits


def compare(bench, name, ids, base=None, size=None):
    """Merges the run, loads it; with `base` its adapter too, put on it in peft."""
    run = bench.run()
    for folder in ("merged", "adapter"):
        shutil.rmtree(bench.at(folder), ignore_errors=True)
    bench.ft("merge", run, "-o", "merged", "--dtype", "fp32")
    merged = load(bench.at("merged"))
    theirs = logits(merged, ids)
    largest, loss = theirs.abs().max().item(), loss_of(theirs, ids)
    gate(name + ": engine, transformers: logits", bench.parity(merged, "merged", ids) / largest, LOGITS)
    gate(name + ": eval merged, transformers", abs(bench.eval("merged") / loss - 1), LOSS)
    gate(name + ": eval run, transformers", abs(bench.eval(run) / loss - 1), LOSS)
    if base is None:
        return
    bench.ft("merge", run, "--adapter-only", "-o", "adapter")
    lora = with_adapter(base, bench.at("adapter"), size)
    same_tensors(lora, bench.at("adapter"))
    ours = logits(lora, ids)
    gate(name + ": peft, merged in transformers: logits", (ours - theirs).abs().max().item() / largest, LOGITS)
    plain = load(base)
    if size:
        plain.resize_token_embeddings(size, mean_resizing=False)
    assert (logits(plain, ids) - theirs).abs().max() > 1e-3 * largest, "training changed nothing"


def models(bench, names):
    import experts, models as dense
    for name, (cls, config) in {**dense.CASES, **experts.CASES}.items():
        if names and name not in names:
            continue
        config._attn_implementation = config._experts_implementation = "eager"
        moe = name in experts.CASES
        base = bench.at(name)
        model = (experts if moe else dense).build(cls, config)
        model.save_pretrained(base)
        ids = bench.rows(config.vocab_size)
        gate(name + ": engine, transformers: logits, base",
             bench.parity(load(base), name, ids) / logits(load(base), ids).abs().max().item(), LOGITS)
        mixed = moe and getattr(config, "mlp_only_layers", None)
        targets = '{ "q_proj", "k_proj", "v_proj", "o_proj" }' if mixed else '"all-linear"'
        for ranks in (1, 2):
            bench.train(base, "run", ranks, f"{{ r = 4, alpha = 10, target_modules = {targets} }}")
            compare(bench, f"{name}, {ranks} rank{'s' * (ranks > 1)}", ids, base)


WORDS, NEW = [chr(97 + i) for i in range(26)] + [chr(65 + i) for i in range(12)], ["<pad>", "<t>", "<u>"]


def write_tokenizer(folder):
    """40 ids: letters, <s> and </s>."""
    added = [dict(id=38 + i, content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
             for i, content in enumerate(("<s>", "</s>"))]
    vocab = {word: i for i, word in enumerate(WORDS + ["<s>", "</s>"])}
    json.dump(dict(version="1.0", added_tokens=added, model=dict(type="BPE", vocab=vocab, merges=[])),
              open(os.path.join(folder, "tokenizer.json"), "w"))
    json.dump(dict(tokenizer_class="PreTrainedTokenizerFast", bos_token="<s>", eos_token="</s>"),
              open(os.path.join(folder, "tokenizer_config.json"), "w"))


KINDS = {
    "full": {},
    "lora": dict(target_modules=["q_proj", "v_proj"]),
    "saved": dict(target_modules=["v_proj"], modules_to_save=["embed_tokens", "lm_head"]),
    "embedding": dict(target_modules=["embed_tokens", "lm_head", "v_proj"]),
}


def lua(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {lua(v)}" for k, v in value.items()) + " }"
    return "{ " + ", ".join(map(lua, value)) + " }" if isinstance(value, list) else json.dumps(value)


def grown(bench, names):
    """Qwen2 of adapters.py; a table of 43 rows, and one that is rounded up to 64."""
    for tied, multiple in ((False, 1), (True, 1), (False, 32), (True, 32)):
        base = bench.at("base")
        shutil.rmtree(base, ignore_errors=True)
        shutil.copytree(os.path.join(HERE, "adapters", "base_tied" if tied else "base_untied"), base)
        write_tokenizer(base)
        size = -(-43 // multiple) * multiple
        ids = bench.rows(40, of=(41, 42, 41))
        options = f', added_tokens = {{ "<t>", "<u>" }}, special_tokens = {{ pad_token = "<pad>" }}, vocab_multiple = {multiple}'
        for kind, adapter in KINDS.items():
            if names and kind not in names:
                continue
            if tied:
                adapter = {k: [m for m in v if m != "lm_head"] for k, v in adapter.items()}
                if kind in ("saved", "embedding"):
                    adapter["ensure_weight_tying"] = True
            for ranks in (1, 2):
                words = lua(dict(adapter, r=2, alpha=6)) if adapter else ""
                bench.train(base, "run", ranks, words, options)
                name = f"{kind}, {'tied' if tied else 'untied'} {size}, {ranks} rank{'s' * (ranks > 1)}"
                compare(bench, name, ids, base if adapter else None, size)
                run = bench.run()
                if not adapter:
                    merged = load(bench.at("merged"))
                    gate(name + ": engine on the run, transformers: logits",
                         bench.parity(merged, run, ids) / logits(merged, ids).abs().max().item(), LOGITS)
                said = [bench.ft("generate", of, "--prompt", "ab<t>c<u>", "--max-new-tokens", "12", "--compute", "fp32")
                        for of in (run, "merged")]
                gate(name + ": answers of run and merged", float(said[0] != said[1]), 0)
                assert load(bench.at("merged")).get_input_embeddings().weight.shape[0] == size


def with_bitsandbytes(folder, kind, nested, storage):
    from transformers import BitsAndBytesConfig
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=kind, bnb_4bit_use_double_quant=nested,
                                bnb_4bit_quant_storage=getattr(torch, storage))
    return AutoModelForCausalLM.from_pretrained(folder, device_map="cpu", dtype=torch.float32, quantization_config=config)


def quantized(folder):
    """transformers' model with bitsandbytes, computing in fp32."""
    import bitsandbytes
    model = AutoModelForCausalLM.from_pretrained(folder, device_map="cpu", dtype=torch.float32, attn_implementation="eager")
    count = 0
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.compute_dtype, module.compute_type_is_set = torch.float32, True
            module.support_avx512bf16_for_cpu = False  # a kernel in bf16
            count += 1
    assert count, "nothing is quantized"
    return model.eval()


def nf4(bench, names):
    from transformers import (Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config,
                              Qwen2ForCausalLM)
    import models as dense
    for name, cls, config in (("llama", LlamaForCausalLM, LlamaConfig(**SIZES, tie_word_embeddings=False)),
                              ("qwen2", Qwen2ForCausalLM, Qwen2Config(**SIZES)),
                              ("gemma2", Gemma2ForCausalLM, Gemma2Config(**SIZES, head_dim=16, query_pre_attn_scalar=16))):
        if names and name not in names:
            continue
        config._attn_implementation = "eager"
        dense.build(cls, config).save_pretrained(bench.at(name))
        ids = bench.rows(config.vocab_size)
        bench.ft("merge", name, "-o", "nf4", "--format", "nf4")
        theirs = quantized(bench.at("nf4"))
        largest = logits(theirs, ids).abs().max().item()
        gate(f"{name}: NF4 written here, engine, bitsandbytes: logits", bench.parity(theirs, "nf4", ids) / largest, LOGITS)
        for how, nested, storage in (("nf4", True, "uint8"), ("nf4", True, "bfloat16"), ("nf4", False, "uint8"),
                                     ("nf4", False, "bfloat16"), ("fp4", True, "uint8"), ("fp4", False, "bfloat16")):
            with_bitsandbytes(bench.at(name), how, nested, storage).save_pretrained(bench.at("theirs"))
            theirs = quantized(bench.at("theirs"))
            said = f"{name}: {how}, {'nested' if nested else 'flat'}, {storage}"
            gate(said + ": engine, bitsandbytes: logits", bench.parity(theirs, "theirs", ids) / largest, LOGITS)
            shutil.rmtree(bench.at("theirs"))
        with_bitsandbytes(bench.at(name), "nf4", True, "uint8").save_pretrained(bench.at("theirs"))
        ours, theirs = (load_file(bench.at(which, "model.safetensors")) for which in ("nf4", "theirs"))
        assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
        for key, value in theirs.items():
            if not key.endswith(("nested_absmax", "quant_state.bitsandbytes__nf4")):
                assert torch.equal(ours[key], value), key
        for which in ("nf4", "theirs"):
            shutil.rmtree(bench.at(which))
        print(f"     {name}: {len(ours)} tensors under bitsandbytes' names, codes and scales equal")


def as_gguf(name, value, config):
    """A tensor as llama.cpp's converter turns it: heads of llama interleaved, Gemma's norms with their offset."""
    if config.model_type in ("llama", "mistral"):
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
        if heads:
            return value.view(heads, 2, -1, *value.shape[1:]).transpose(1, 2).reshape(value.shape)
    return value + 1 if config.model_type.startswith("gemma") and name.endswith("norm.weight") else value


def as_llama(config):
    """What transformers takes GGUF's llama for."""
    from transformers import LlamaConfig
    stated = {k: v for k, v in config.to_dict().items() if k not in ("model_type", "architectures")}
    return LlamaConfig(**stated) if config.model_type == "mistral" else config


def gguf(bench, names):
    import gguf as reader
    import numpy as np
    import models as dense
    from transformers import (Gemma2Config, Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM,
                              Qwen2Config, Qwen2ForCausalLM)
    sizes = dict(SIZES, num_hidden_layers=6, head_dim=32, sliding_window=8, query_pre_attn_scalar=32)
    cases = {kind: dense.CASES[kind] for kind in ("llama_untied", "llama3_untied", "mistral_tied", "qwen2_untied", "qwen3_untied",
                                                  "qwen3_tied")}
    # of rows that 32 divides
    cases |= {"llama": (LlamaForCausalLM, LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True, tie_word_embeddings=False)),
              "qwen2": (Qwen2ForCausalLM, Qwen2Config(**SIZES)),
              "gemma2": (Gemma2ForCausalLM, Gemma2Config(**sizes)),
              "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig(**sizes))}
    architectures = dict(mistral="llama", gemma3_text="gemma3")
    for name, (cls, config) in cases.items():
        if names and name not in names:
            continue
        config._attn_implementation = "eager"
        dense.build(cls, config).save_pretrained(bench.at(name))
        model = load(bench.at(name))
        kind = architectures.get(config.model_type, config.model_type)
        arch = next(k for k, v in reader.MODEL_ARCH_NAMES.items() if v == kind)
        table = reader.get_tensor_name_map(arch, config.num_hidden_layers)
        want = {table.get_name(n, try_suffixes=(".weight", ".bias")): as_gguf(n, v.detach(), config)
                for n, v in model.named_parameters()}
        for form, q in (("gguf", reader.GGMLQuantizationType.F16), ("gguf-q8_0", reader.GGMLQuantizationType.Q8_0)):
            shutil.rmtree(bench.at("out"), ignore_errors=True)
            bench.ft("merge", name, "-o", "out", "--format", form)
            file = reader.GGUFReader(bench.at("out", "model.gguf"))
            have = {t.name: t for t in file.tensors}
            extra = have.keys() - want.keys() - {"rope_freqs.weight"}
            assert not extra and not want.keys() - have.keys(), (extra, want.keys() - have.keys())
            assert file.fields["general.architecture"].contents() == kind
            for key, value in want.items():
                value, tensor = value.numpy(), have[key]
                assert [int(d) for d in reversed(tensor.shape)] == list(value.shape), key
                plain = reader.GGMLQuantizationType.F32 if value.ndim == 1 else q if value.shape[-1] % 32 == 0 else reader.GGMLQuantizationType.F16
                assert tensor.tensor_type == plain, (key, tensor.tensor_type, plain)
                coded = reader.quants.quantize(value, plain)
                assert np.array_equal(np.asarray(tensor.data).view(np.uint8).ravel(), np.asarray(coded).view(np.uint8).ravel()), key
            print(f"ok   {name}: {form}: {len(want)} tensors by gguf's names, shapes and bytes; "
                  f"{sum(t.tensor_type == reader.GGMLQuantizationType.Q8_0 for t in file.tensors)} in Q8_0")
        ids = bench.rows(config.vocab_size)
        bench.ft("merge", name, "-o", "back", "--format", "gguf")
        back = AutoModelForCausalLM.from_pretrained(bench.at("back"), gguf_file="model.gguf", dtype=torch.float32,
                                                    attn_implementation="eager", config=as_llama(config)).eval()
        with torch.no_grad():
            for p in model.parameters():
                if p.dim() > 1:
                    p.copy_(p.half().float())
        theirs = logits(model, ids)
        gate(f"{name}: transformers of the GGUF, and of the model in F16: logits",
             (logits(back, ids) - theirs).abs().max().item() / theirs.abs().max().item(), LOGITS)
        shutil.rmtree(bench.at("back"))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("command", choices=["models", "grown", "nf4", "gguf"])
    p.add_argument("names", nargs="*")
    p.add_argument("--program", default=os.path.join(HERE, "../../build/release/ftengine"))
    p.add_argument("--keep")
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = a.keep or scratch
        os.makedirs(folder, exist_ok=True)
        os.environ["FTENGINE_CACHE"] = os.path.join(os.path.abspath(folder), "cache")
        globals()[a.command](Bench(a.program, os.path.abspath(folder)), a.names)
    print(f"{len(failed)} of the bounds missed" if failed else "all within their bounds")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
