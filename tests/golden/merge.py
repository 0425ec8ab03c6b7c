"""Reference for engine/merge: transformers and peft on tiny models, and a check of what the engine wrote.

    merge.py make                       writes tests/golden/merge (committed: bases, an adapter, peft's merges of it)
    merge.py run BASE OUT [--rank R]    writes a run directory OUT with one checkpoint of a random adapter, and OUT/peft, the adapter
    merge.py check BASE MERGED ADAPTER  loads MERGED in transformers and ADAPTER in peft; prints how far logits are apart
"""
import argparse, json, math, os, shutil
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "merge")
PREFIX = "base_model.model."
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def randomize_lora(model, seed=7):
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05


def make():
    shutil.rmtree(HERE, ignore_errors=True)
    config = LlamaConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48,
                         vocab_size=40, tie_word_embeddings=False, max_position_embeddings=64)
    torch.manual_seed(1)
    model = LlamaForCausalLM(config)
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        base = os.path.join(HERE, "base_" + name)
        model.to(dtype).save_pretrained(base)
        for extra in os.listdir(base):
            if extra not in ("config.json", "model.safetensors"):
                os.remove(os.path.join(base, extra))
        lora = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=dtype),
                              LoraConfig(r=4, lora_alpha=6, target_modules=TARGETS, use_rslora=True, task_type="CAUSAL_LM"))
        randomize_lora(lora)
        if name == "bf16":
            lora.save_pretrained(os.path.join(HERE, "adapter"))
            os.remove(os.path.join(HERE, "adapter", "README.md"))
            path = os.path.join(HERE, "adapter", "adapter_config.json")
            saved = json.load(open(path))
            saved["base_model_name_or_path"] = "base"
            saved["target_modules"] = sorted(saved["target_modules"])
            json.dump(saved, open(path, "w"), indent=2, sort_keys=True)
        merged = lora.merge_and_unload().state_dict()
        changed = {k: v.contiguous() for k, v in merged.items() if any(t in k for t in TARGETS)}
        save_file(changed, os.path.join(HERE, "merged_" + name + ".safetensors"), {"format": "pt"})


def run(base, out, rank):
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    lora = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=TARGETS, task_type="CAUSAL_LM"))
    randomize_lora(lora)
    lora.save_pretrained(os.path.join(out, "peft"))
    checkpoint = os.path.join(out, "checkpoint-1")
    os.makedirs(checkpoint, exist_ok=True)
    pieces, tensors = [], {}
    for key, value in load_file(os.path.join(out, "peft", "adapter_model.safetensors")).items():
        name = key.removeprefix(PREFIX)
        pieces.append(dict(name=name, kind="master", dtype="fp32", shape=list(value.shape), begin=0, count=value.numel()))
        tensors[f"master:{name}@0"] = value.float().flatten()
    shard = "shard-00000-of-00001.safetensors"
    save_file(tensors, os.path.join(checkpoint, shard), {"format": "pt"})
    record = dict(file=shard, bytes=os.path.getsize(os.path.join(checkpoint, shard)), xxh3="0" * 16, pieces=pieces)
    manifest = dict(format="ftengine-checkpoint", format_version=1, header=dict(step=1), shards=[record])
    json.dump(manifest, open(os.path.join(checkpoint, "manifest.json"), "w"))
    quantized = [n + ".weight" for n, _ in model.named_modules() if n.split(".")[-1] in TARGETS]
    quantized = [n.replace("base_model.model.", "") for n in quantized]
    json.dump(dict(base_model=os.path.abspath(base), quantized=quantized, double_quant=True), open(os.path.join(out, "run.json"), "w"))
    shutil.copy(os.path.join(out, "peft", "adapter_config.json"), out)
    for name in os.listdir(base):
        if "model" not in name or name.startswith("tokenizer"):
            shutil.copy(os.path.join(base, name), out)


def logits(model, ids):
    with torch.no_grad():
        return model.float().eval()(ids).logits


def check(base, merged, adapter):
    theirs = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    ids = torch.randint(0, theirs.config.vocab_size, (1, 24), generator=torch.Generator().manual_seed(3))
    theirs = PeftModel.from_pretrained(theirs, adapter)
    scale = theirs.peft_config["default"].lora_alpha / (
        math.sqrt(theirs.peft_config["default"].r) if theirs.peft_config["default"].use_rslora else theirs.peft_config["default"].r)
    unmerged = logits(theirs, ids)  # computed in fp32 from the base's own weights and the adapter beside them
    before = AutoModelForCausalLM.from_pretrained(base, dtype="auto").state_dict()
    peft_merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype="auto"), adapter).merge_and_unload()
    ours, info = AutoModelForCausalLM.from_pretrained(merged, dtype="auto", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    worst = 0.0
    for (name, a), (_, b) in zip(ours.state_dict().items(), peft_merged.state_dict().items()):
        assert a.shape == b.shape, name
        # peft rounds the update before it adds it, so steps are counted at the larger of weight and update
        size = torch.stack([a.float(), b.float(), before[name].float(), b.float() - before[name].float()]).abs().amax(0).clamp_min(1e-30)
        ulp = torch.exp2(torch.floor(torch.log2(size)) - {torch.bfloat16: 7, torch.float16: 10, torch.float32: 23}[b.dtype])
        # and where both all but vanish, fp32 sums of the update's terms differ by their order
        worst = max(worst, (((a.float() - b.float()).abs() - 1e-8).clamp_min(0) / ulp).max().item())
    dtype = str(ours.dtype)
    ours_logits, peft_logits = logits(ours, ids), logits(peft_merged, ids)
    print(json.dumps(dict(dtype=dtype, scale=scale, worst_weight_difference_ulp=worst,
                          logits_ours_vs_peft_merged=(ours_logits - peft_logits).abs().max().item(),
                          logits_ours_vs_unmerged=(ours_logits - unmerged).abs().max().item(),
                          logits_peft_merged_vs_unmerged=(peft_logits - unmerged).abs().max().item(),
                          logits_size=unmerged.abs().max().item())))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["make", "run", "check"])
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--rank", type=int, default=16)
    arguments = parser.parse_args()
    if arguments.command == "make":
        make()
    elif arguments.command == "run":
        run(*arguments.paths, arguments.rank)
    else:
        check(*arguments.paths)
