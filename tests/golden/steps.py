"""Twenty training steps by transformers, peft and bitsandbytes, for tests/recipes/steps_test.cpp.

    HF_HUB_OFFLINE=1 python tests/golden/steps.py        writes tests/golden/steps.json

Weights and adapters come from the engine's counter-based generator (engine/tensor/counter_random.h) and tokens from a formula, so
that only the losses are stored. Two batches come in turn, so that the loss falls. Full: fp32, AdamW at 1e-4, no decay, gradients
clipped to a norm of 1. QLoRA: NF4 with nested scales, computed in fp32, from an adapter whose both matrices are filled.
"""

import json
import math
import os
import pathlib
import tempfile

import numpy as np
import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, Qwen3Config

OUT = pathlib.Path(__file__).parent / "steps.json"
SEED, BATCH, LENGTH, STEPS, RANK, ALPHA = 20261122, 2, 96, 20, 4, 8
LR = {"full": 1e-4, "qlora": 2e-3}
MASK64 = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

SIZES = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16, intermediate_size=192,
             vocab_size=320, max_position_embeddings=256, rms_norm_eps=1e-6)
MODELS = {
    "llama": lambda: LlamaConfig(tie_word_embeddings=False, **SIZES),
    "qwen3": lambda: Qwen3Config(tie_word_embeddings=True, **SIZES),
}


def mix64(x):
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniform(name, shape, scale, centre=0.0):
    """centre + scale * (2 u - 1), u as CounterRandom(SEED, name).uniform(index)."""
    h = 0xCBF29CE484222325
    for c in name.encode():
        h = ((h ^ c) * 0x100000001B3) & MASK64
    with np.errstate(over="ignore"):
        key = mix64(np.uint64((SEED + GOLDEN) & MASK64)) ^ np.uint64(h)
        bits = mix64(key + np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) * np.uint64(GOLDEN))
    u = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return torch.from_numpy((centre + scale * (2 * u - 1)).astype(np.float32).reshape(shape))


def weight(name, shape):
    return uniform(name, shape, 0.3, 1.0) if name.endswith("norm.weight") else uniform(name, shape, 0.1)


def tokens(start, vocab):
    with np.errstate(over="ignore"):
        i = np.arange(start, start + BATCH * LENGTH, dtype=np.uint64)
        x = i * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        return torch.from_numpy(((x ^ (x >> np.uint64(33))) % np.uint64(vocab)).astype(np.int64).reshape(BATCH, LENGTH))


def write_model(config, folder):
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weight(name, tuple(parameter.shape)))
    model.save_pretrained(folder)
    return model


def write_adapter(model, folder):
    tensors = {}
    for name, module in model.named_modules():
        if name.split(".")[-1] in TARGETS:
            out, width = module.weight.shape
            for part, shape in (("lora_A", (RANK, width)), ("lora_B", (out, RANK))):
                tensors[f"base_model.model.{name}.{part}.weight"] = uniform(f"{name}.{part}.weight", shape, 0.05)
    os.makedirs(folder)
    save_file(tensors, f"{folder}/adapter_model.safetensors", metadata={"format": "pt"})
    config = dict(peft_type="LORA", task_type="CAUSAL_LM", r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=TARGETS,
                  bias="none")
    pathlib.Path(folder, "adapter_config.json").write_text(json.dumps(config))


def train(model, lr, vocab):
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    losses = []
    for step in range(STEPS):
        ids = tokens((step % 2) * BATCH * LENGTH, vocab)
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        assert math.isfinite(loss.item())
        losses.append(loss.item())
    return losses


def main():
    torch.set_num_threads(1)
    result = {}
    for name, config in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            config = config()
            model = write_model(config, folder + "/model")
            write_adapter(model, folder + "/adapter")
            result[name] = {"full": train(model, LR["full"], config.vocab_size)}
            quantized = AutoModelForCausalLM.from_pretrained(
                folder + "/model", dtype=torch.float32, device_map={"": "cpu"},
                quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                                       bnb_4bit_compute_dtype=torch.float32))
            adapted = PeftModel.from_pretrained(quantized, folder + "/adapter", is_trainable=True)
            result[name]["qlora"] = train(adapted, LR["qlora"], config.vocab_size)
    OUT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
