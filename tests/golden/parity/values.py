"""Stores what transformers computes of a model, for `ftengine parity MODEL --reference VALUES`.

    python values.py MODEL values.safetensors
"""
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32, attn_implementation="eager")
tokens = torch.randint(model.config.vocab_size, (2, 24), generator=torch.Generator().manual_seed(0))
out = model(input_ids=tokens, labels=tokens)
out.loss.backward()
values = {"tokens": tokens, "loss": out.loss, "logits": out.logits}
values |= {"grad." + name: p.grad for name, p in model.named_parameters() if p.grad is not None}
save_file({name: value.detach().contiguous() for name, value in values.items()}, sys.argv[2])
