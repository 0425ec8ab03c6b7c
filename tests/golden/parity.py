"""A tiny model directory and what transformers computes of it, for tests/lua/parity_test.lua: tests/golden/parity/model and
values.safetensors, the latter by the script that docs/models.md shows.

    HF_HUB_OFFLINE=1 python tests/golden/parity.py
"""
import pathlib
import subprocess
import sys

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

OUT = pathlib.Path(__file__).parent / "parity"
torch.manual_seed(20261121)
model = Qwen3ForCausalLM(Qwen3Config(
    hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
    vocab_size=40, tie_word_embeddings=True, initializer_range=0.2, bos_token_id=None, eos_token_id=None, pad_token_id=None))
model.save_pretrained(OUT / "model")
for extra in OUT.glob("model/generation_config.json"):
    extra.unlink()
subprocess.run([sys.executable, OUT / "values.py", OUT / "model", OUT / "values.safetensors"], check=True)
