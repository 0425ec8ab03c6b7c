"""Holds a run's results to transformers and peft: losses of the merged directories and of the adapter, on the same tokens.

    transformers_check.py RUN_DIR CHATS.jsonl [--program build/release/ftengine] [--rows 40] [--keep DIR]

RUN_DIR is a finished run of recipes/qlora_fsdp2.lua on Llama or Qwen3; CHATS.jsonl holds rows with `messages`. It merges the
newest checkpoint in three ways (--base original, --base dequantized --dtype fp32, --adapter-only), loads each, and compares:

    merged, dequantized    transformers' loss, `ftengine eval` on it, and `ftengine eval` on the quantized checkpoint: 1e-5
    merged, original       transformers' loss and `ftengine eval` on it: 1e-5; peft's merge of the adapter into the base: each
                           tensor within one rounding of the base's dtype; peft with the adapter on the base: 1e-5, or 1e-3
                           where the merge rounded to bf16

Needs torch, transformers, peft, tokenizers and safetensors; exit code 1 when a gate is missed.
"""
import argparse, json, os, subprocess, sys, tempfile
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
from peft import PeftModel
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

GATE = 1e-5
failed = []


def segments(messages, tokenizer):
    """The conversation as (text, learned), written down from the formats' definitions, not from the engine's Lua."""
    if tokenizer.token_to_id("<|im_end|>") is not None:
        for m in messages:
            yield f"<|im_start|>{m['role']}\n", False
            yield m["content"] + "<|im_end|>", m["role"] == "assistant"
            yield "\n", False
    else:
        yield "<|begin_of_text|>", False
        for m in messages:
            yield f"<|start_header_id|>{m['role']}<|end_header_id|>\n\n", False
            yield m["content"].strip() + "<|eot_id|>", m["role"] == "assistant"


def tokens(path, folder, rows):
    """(ids, labels) of each row; a label belongs to the segment in which its token begins."""
    tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    for line in open(path, encoding="utf-8").read().splitlines()[:rows]:
        pieces = list(segments(json.loads(line)["messages"], tokenizer))
        learned = [flag for text, flag in pieces for _ in text]
        encoding = tokenizer.encode("".join(text for text, _ in pieces), add_special_tokens=False)
        yield encoding.ids, [i if learned[o[0]] else -100 for i, o in zip(encoding.ids, encoding.offsets)]


@torch.no_grad()
def loss(model, data):
    total, count = 0.0, 0
    for ids, labels in data:
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1].double()
        target = torch.tensor(labels[1:])
        total += torch.nn.functional.cross_entropy(logits, target, ignore_index=-100, reduction="sum").item()
        count += int((target != -100).sum())
    return total / count, count


def ftengine(program, *words):
    done = subprocess.run([program, *words], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"ftengine {' '.join(words)}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def gate(name, got, wanted, most=GATE):
    apart = abs(got - wanted) / max(abs(wanted), 1e-30)
    if not apart <= most:
        failed.append(name)
    print(f"{'ok  ' if apart <= most else 'FAIL'} {name}: {got:.8f}, wanted {wanted:.8f}, {apart:.1e} apart")


def compare_with_peft(base, adapter, merged):
    """Each of the merged tensors against peft's, merged in fp32: apart by one rounding to the target dtype, besides the last
    bits of fp32 sums (in units of fp32's epsilon at the tensor's largest value, since terms may cancel)."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    reference = PeftModel.from_pretrained(model, adapter).merge_and_unload().state_dict()
    ours = AutoModelForCausalLM.from_pretrained(merged, dtype="auto").state_dict()
    worst, worst_name = 0.0, ""
    for name, tensor in ours.items():
        wanted = reference[name]
        rounding = torch.finfo(tensor.dtype).eps / 2 * wanted.abs()
        beyond = ((tensor.float() - wanted).abs() - rounding).clamp(min=0).max()
        apart = (beyond / (torch.finfo(torch.float32).eps * wanted.abs().max())).item()
        if apart > worst:
            worst, worst_name = apart, name
    most = 4
    if worst > most:
        failed.append("peft's merge")
    dtype = next(iter(ours.values())).dtype
    print(f"{'ok  ' if worst <= most else 'FAIL'} peft's merge, {len(ours)} tensors in {dtype}: one rounding and {worst:.2f} fp32 eps "
          f"apart {worst_name}")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("run"), p.add_argument("data")
    p.add_argument("--program", default="build/release/ftengine"), p.add_argument("--rows", type=int, default=40)
    p.add_argument("--keep", help="merge into this folder and leave it there")
    a = p.parse_args()
    base = json.load(open(os.path.join(a.run, "run.json")))["base_model"]
    data = list(tokens(a.data, a.run, a.rows))
    with tempfile.TemporaryDirectory() as scratch:
        out = a.keep or scratch
        paths = {name: os.path.join(out, name) for name in ("dequantized", "original", "adapter")}
        ftengine(a.program, "merge", a.run, "--base", "dequantized", "--dtype", "fp32", "-o", paths["dequantized"])
        ftengine(a.program, "merge", a.run, "-o", paths["original"])
        ftengine(a.program, "merge", a.run, "--adapter-only", "-o", paths["adapter"])

        def measured(folder):
            words = ["eval", folder, a.data, "--json", "--compute", "fp32", "--limit", str(a.rows)]
            return json.loads(ftengine(a.program, *words))

        quantized = measured(a.run)
        for name in ("dequantized", "original"):
            model = AutoModelForCausalLM.from_pretrained(paths[name], dtype=torch.float32)
            wanted, count = loss(model, data)
            got = measured(paths[name])
            if got["tokens"] != count:
                failed.append("tokens")
                print(f"FAIL tokens: {got['tokens']}, wanted {count}")
            gate(f"ftengine eval, merged {name}", got["loss"], wanted)
            if name == "dequantized":
                gate("ftengine eval, quantized checkpoint", quantized["loss"], wanted)
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), paths["adapter"])
        wanted = loss(AutoModelForCausalLM.from_pretrained(paths["original"], dtype=torch.float32), data)[0]
        gate("peft with the adapter on the base, merged original", loss(model.eval(), data)[0], wanted,
             GATE if next(model.parameters()).dtype == torch.float32 and json.load(open(os.path.join(base, "config.json"))).get(
                 "dtype", "float32") == "float32" else 1e-3)
        compare_with_peft(base, paths["adapter"], paths["original"])
        plain = loss(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), data)[0]
        print(f"     the base alone, for comparison: {plain:.8f}; {count} tokens")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
