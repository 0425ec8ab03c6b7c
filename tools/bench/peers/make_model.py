"""Writes a Hugging Face checkpoint of random weights, without a tokenizer: make_model.py PRESET OUT [--dtype bf16]"""
import argparse

import common  # noqa: F401  (sets HF_HUB_OFFLINE)
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen3Config

IDS = dict(max_position_embeddings=4096, bos_token_id=0, eos_token_id=2, pad_token_id=0)
PRESETS = {
    "tiny": lambda: LlamaConfig(hidden_size=256, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
                                intermediate_size=688, vocab_size=2048, tie_word_embeddings=False, **IDS),
    "small": lambda: Qwen3Config(hidden_size=512, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=4,
                                 head_dim=64, intermediate_size=1536, vocab_size=32000, tie_word_embeddings=True, **IDS),
    "medium": lambda: Qwen3Config(hidden_size=1024, num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=8,
                                  head_dim=128, intermediate_size=3072, vocab_size=151936, tie_word_embeddings=True,
                                  **IDS),
}

if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("preset", choices=PRESETS)
    p.add_argument("out")
    p.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16")
    p.add_argument("--shard", default="500MB", help="largest file")
    a = p.parse_args()
    torch.manual_seed(1234)
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[a.dtype]
    AutoModelForCausalLM.from_config(PRESETS[a.preset](), dtype=dtype).save_pretrained(a.out, max_shard_size=a.shard)
