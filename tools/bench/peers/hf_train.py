"""The peer on one process: a plain transformers + peft (+ bitsandbytes) training loop. Prints one JSON line."""
import argparse
import json
import os

from common import LORA_TARGETS, now, peak_mib, tokens


def load_model(a, torch):
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[a.dtype]
    how = dict(dtype=dtype, attn_implementation="sdpa")
    if a.mode == "qlora":
        storage = {"fp32": torch.float32, "bf16": torch.bfloat16, "uint8": torch.uint8}[a.quant_storage]
        how |= dict(device_map={"": "cpu"}, quantization_config=BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype,
            bnb_4bit_quant_storage=storage))
    model = AutoModelForCausalLM.from_pretrained(a.model, **how)
    model.config.use_cache = False
    if a.mode != "full":
        from peft import LoraConfig, get_peft_model
        torch.manual_seed(0)
        model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=LORA_TARGETS,
                                                 task_type="CAUSAL_LM"))
    return model.train()


def train(a, torch, model, world, rank):
    """a.steps steps on two batches in turn. Returns losses, seconds of each step and the end of the first."""
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, fused=True)
    losses, seconds, first = [], [], None
    for step in range(a.steps):
        start = ((step % 2) * world + rank) * a.seq
        ids = torch.from_numpy(tokens(start, (1, a.seq), model.config.vocab_size))
        begin = now()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss = loss.detach().float()
        if world > 1:
            torch.distributed.all_reduce(loss)
        losses.append(loss.item() / world)
        seconds.append(now() - begin)
        first = first or now()
    return dict(losses=losses, seconds=seconds, first_step_end=first, peak_mib=peak_mib())


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("--model", required=True)
    p.add_argument("--mode", choices=["full", "lora", "qlora"], required=True)
    p.add_argument("--dtype", choices=["fp32", "bf16"], required=True)
    p.add_argument("--quant-storage", choices=["uint8", "bf16", "fp32"], default="uint8",
                   help="dtype that the NF4 bytes are viewed as")
    p.add_argument("--seq", type=int, default=512)
    p.add_argument("--steps", type=int, default=6)
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="of all ranks together")
    p.add_argument("--nproc", type=int, default=1, help="ranks; fsdp2_train.py only")
    return p.parse_args()


if __name__ == "__main__":
    a = arguments()
    import torch
    torch.set_num_threads(a.threads)
    print(json.dumps([train(a, torch, load_model(a, torch), 1, 0)]))
