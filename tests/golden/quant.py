"""Reference values of bitsandbytes' CPU backend for engine/quant: NF4 with and without double quantisation, 8-bit maps.

    python tests/golden/quant.py        # with torch 2.11.0, bitsandbytes 0.50.2, safetensors; writes quant.safetensors

Every case holds its input and, under the same name, what bitsandbytes made of it. Not needed by the tests themselves.
"""
import pathlib

import bitsandbytes.functional as bnb
import torch
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).with_name("quant.safetensors")
GROUP = 64 * 256


def ties():
    """Blocks with absmax 1 that hold each midpoint of the codebook, and the floats just below and above it."""
    code = bnb.get_4bit_type("nf4", device="cpu")
    middle = (code[1:] + code[:-1]) / 2
    down = torch.nextafter(middle, torch.full_like(middle, -2.0))
    up = torch.nextafter(middle, torch.full_like(middle, 2.0))
    block = torch.cat([torch.tensor([1.0]), middle, down, up])
    block = torch.cat([block, torch.zeros(64 - block.numel())])
    return torch.cat([block, -block, block * 0.5, block * 3.0, block * 1e-3])


def odd_values():
    """Zeros, negative zeros, subnormals, and the largest floats, each in a block of its own."""
    wave = torch.sin(torch.arange(64) * 0.37)
    blocks = [torch.zeros(64), -torch.zeros(64), wave * 1e-40, wave * 1.2e-38, wave * 3.0e38, torch.full((64,), -0.25)]
    return torch.cat(blocks)


def cases():
    generator = torch.Generator().manual_seed(3)
    normal = torch.randn(GROUP + 40 * 64 + 33, generator=generator) * 0.02
    normal[64:192] = 0  # zero blocks among others
    yield "normal_fp32", normal
    yield "normal_fp16", normal.half()
    yield "normal_bf16", normal.bfloat16()
    for numel in (1, 2, 63, 64, 65, 105):
        yield f"short_{numel}", torch.randn(numel, generator=generator)
    yield "zeros", torch.zeros(200)
    yield "constant", torch.full((300,), 0.5)
    yield "ties", ties()
    yield "odd_values", odd_values()


def main():
    tensors = {}
    for name, x in cases():
        codes, state = bnb.quantize_4bit(x, blocksize=64, quant_type="nf4", compress_statistics=False)
        tensors[f"{name}.x"] = x
        tensors[f"{name}.codes"] = codes.flatten()
        tensors[f"{name}.absmax"] = state.absmax
        codes, state = bnb.quantize_4bit(x, blocksize=64, quant_type="nf4", compress_statistics=True)
        tensors[f"{name}.nested_codes"] = state.absmax
        tensors[f"{name}.nested_absmax"] = state.state2.absmax
        tensors[f"{name}.offset"] = state.offset.reshape(1)
        if name in ("normal_fp16", "normal_bf16", "short_64"):
            tensors[f"{name}.dequantized"] = bnb.dequantize_4bit(codes, state).flatten()
    tensors["signed_map"] = bnb.create_dynamic_map(signed=True)
    tensors["unsigned_map"] = bnb.create_dynamic_map(signed=False)
    tensors["bins.x"] = torch.linspace(-1, 1, 4096)
    codes, state = bnb.quantize_blockwise(tensors["bins.x"], code=tensors["signed_map"].clone(), blocksize=256)
    tensors["bins.codes"], tensors["bins.absmax"] = codes, state.absmax
    save_file({k: v.contiguous() for k, v in tensors.items()}, OUT, metadata={"format": "pt"})


if __name__ == "__main__":
    main()
