"""Reference for LoRA's start by LoftQ: what peft makes of tiny matrices (tests/engine/train/loftq_test.cpp).

    loftq.py make                         writes loftq.safetensors; with torch 2.11.0, bitsandbytes 0.50.2, peft 0.21.2
    loftq.py check BASE ADAPTER MERGED    loads an adapter that began so in peft, on BASE with its linears in NF4: how far logits are from
                                          those of MERGED, which `ftengine merge --dtype fp32` wrote, and from BASE's as it is

As peft.utils.loftq_utils._loftq_init_new does, which itself wants a GPU: the residual of the NF4 that bitsandbytes makes, scales
quantized too, is taken apart by peft's own function. Signs of factors are free, so their product is kept.
"""
import os, pathlib, sys
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import bitsandbytes.functional as bnb
import torch
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).with_name("loftq.safetensors")
SHAPES = {"wide": (48, 64), "tall": (72, 40), "square": (64, 64)}
RANK = 6


def through_nf4(weight):
    codes, state = bnb.quantize_4bit(weight.clone(), blocksize=64, quant_type="nf4", compress_statistics=True)
    return bnb.dequantize_4bit(codes, state)


def make():
    from peft.utils.loftq_utils import _low_rank_decomposition
    tensors = {}
    generator = torch.Generator().manual_seed(11)
    for name, shape in SHAPES.items():
        weight = torch.randn(shape, generator=generator) * 0.05
        residual = weight - through_nf4(weight)
        made = _low_rank_decomposition(residual, reduced_rank=RANK)
        tensors[f"{name}.weight"] = weight
        tensors[f"{name}.product"] = (made["L"] @ made["R"]).contiguous()
        print(name, residual.norm().item(), (residual - tensors[f"{name}.product"]).norm().item())
    save_file(tensors, OUT)


@torch.no_grad()
def check(base, adapter, merged):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    plain, quantized, folded = (AutoModelForCausalLM.from_pretrained(x, dtype=torch.float32).eval() for x in (base, base, merged))
    for name, module in quantized.named_modules():
        if name.endswith("_proj"):
            module.weight.data = through_nf4(module.weight.data)
    tokens = (torch.arange(24) * 5 % plain.config.vocab_size).view(2, 12)
    logits = PeftModel.from_pretrained(quantized, adapter).eval()(tokens).logits
    for name, other in (("merged", folded), ("the base as it is", plain)):
        print(f"logits differ from those of {name} by at most {(logits - other(tokens).logits).abs().max().item():.3g}")


make() if sys.argv[1] == "make" else check(*sys.argv[2:])
