"""Reference for LoRA's start by LoftQ: what peft makes of tiny matrices (tests/engine/train/loftq_test.cpp).

    python tests/golden/loftq.py        # with torch 2.11.0, bitsandbytes 0.50.2, peft 0.21.2; writes loftq.safetensors

As peft.utils.loftq_utils._loftq_init_new does, which itself wants a GPU: the residual of the NF4 that bitsandbytes makes, scales
quantized too, is taken apart by peft's own function. Signs of factors are free, so their product is kept.
"""
import pathlib

import bitsandbytes.functional as bnb
import torch
from peft.utils.loftq_utils import _low_rank_decomposition
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).with_name("loftq.safetensors")
SHAPES = {"wide": (48, 64), "tall": (72, 40), "square": (64, 64)}
RANK = 6

tensors = {}
generator = torch.Generator().manual_seed(11)
for name, shape in SHAPES.items():
    weight = torch.randn(shape, generator=generator) * 0.05
    codes, state = bnb.quantize_4bit(weight, blocksize=64, quant_type="nf4", compress_statistics=True)
    residual = weight - bnb.dequantize_4bit(codes, state)
    made = _low_rank_decomposition(residual, reduced_rank=RANK)
    tensors[f"{name}.weight"] = weight
    tensors[f"{name}.product"] = (made["L"] @ made["R"]).contiguous()
    print(name, residual.norm().item(), (residual - tensors[f"{name}.product"]).norm().item(), made["S"][: RANK + 1].tolist())
save_file(tensors, OUT)
