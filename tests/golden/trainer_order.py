"""The order in which transformers' Trainer gives parameters to its optimizer, for tests/engine/formats/trainer_order_test.cpp.

    HF_HUB_OFFLINE=1 python tests/golden/trainer_order.py        writes tests/golden/trainer_order.json

For each model type of the engine: the two groups of names, of full fine-tuning and of LoRA (with DoRA and biases on Llama).
"""
import json, os, pathlib, tempfile
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments

OUT = pathlib.Path(__file__).parent / "trainer_order.json"
TYPES = ["cohere", "gemma2", "gemma3_text", "granite", "llama", "mistral", "mixtral", "olmo2", "phi3", "qwen2", "qwen3", "qwen3_moe",
         "smollm3"]
SIZES = dict(hidden_size=8, intermediate_size=12, num_attention_heads=2, num_key_value_heads=1, head_dim=4, vocab_size=16,
             pad_token_id=0, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False)
EXPERTS = {"mixtral", "qwen3_moe"}
MORE = {"cohere": dict(use_qk_norm=True, attention_bias=True), "llama": dict(attention_bias=True, mlp_bias=True),
        "mixtral": dict(num_local_experts=2), "qwen3_moe": dict(num_experts=2, num_experts_per_tok=1, moe_intermediate_size=4)}


def groups(model):
    arguments = TrainingArguments(output_dir=tempfile.gettempdir(), use_cpu=True, report_to=[], weight_decay=0.1, optim="adamw_torch")
    names = {p: n for n, p in model.named_parameters()}
    return [[names[p] for p in group["params"]] for group in Trainer(model=model, args=arguments).create_optimizer().param_groups]


def model_of(kind):
    layers = 11 if kind == "mistral" else 2  # "10" stands before "2" as text
    config = AutoConfig.for_model(kind, num_hidden_layers=layers, **SIZES, **MORE.get(kind, {}))
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def main():
    found = {}
    for kind in TYPES:
        linears = ["q_proj", "k_proj", "v_proj", "o_proj"] if kind in EXPERTS else "all-linear"
        options = dict(use_dora=True) if kind == "llama" else dict(lora_bias=True) if kind == "qwen2" else {}
        adapted = get_peft_model(model_of(kind), LoraConfig(r=2, target_modules=linears, task_type="CAUSAL_LM", **options))
        found[kind] = {"full": groups(model_of(kind)), "lora": groups(adapted)}
    OUT.write_text(json.dumps(found, separators=(",", ":")).replace('"full":', '\n"full":').replace('"lora":', '\n"lora":') + "\n")


if __name__ == "__main__":
    main()
