"""Checkpoints as other engines write them, for engine/formats and engine/merge: tests/golden/foreign (committed).

    foreign.py make                 writes all of it; DeepSpeed's where deepspeed can be imported
    foreign.py dcp DIR MODEL        loads a DCP export on one, two and three ranks and compares it with MODEL's safetensors
    foreign.py gguf FILE MODEL      reads a GGUF export with `gguf`, and compares logits through transformers
    foreign.py nf4 DIR PLAIN        loads an NF4 export in transformers, and compares it with what bitsandbytes makes of PLAIN

Every kind holds the same model, `model/`: a Llama of two layers, untied, with bf16 and fp32 weights mixed.
"""
import argparse, os, pickle, shutil, socket, subprocess, sys
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "foreign")


def tiny():
    from transformers import LlamaConfig, LlamaForCausalLM
    torch.manual_seed(3)
    config = LlamaConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, intermediate_size=24,
                         vocab_size=21, tie_word_embeddings=False, max_position_embeddings=32)
    return LlamaForCausalLM(config)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ranks(world, *arguments):
    port = str(free_port())
    env = lambda r: dict(os.environ, RANK=str(r), LOCAL_RANK=str(r), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=port,
                         CUDA_VISIBLE_DEVICES="", DS_ACCELERATOR="cpu", OMP_NUM_THREADS="1")
    processes = [subprocess.Popen([sys.executable, os.path.abspath(__file__), *arguments], env=env(r)) for r in range(world)]
    if any([p.wait() for p in processes]):
        raise SystemExit("a rank failed")


def rank_fsdp(out):
    """What accelerate's save_fsdp_model and save_fsdp_optimizer write with SHARDED_STATE_DICT."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_optimizer_state_dict
    from torch.distributed.fsdp import fully_shard
    dist.init_process_group("gloo")
    model = tiny()
    model.lm_head.to(torch.bfloat16)
    mesh = dist.init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model.lm_head, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    state = get_model_state_dict(model)
    dcp.save({"model": state}, checkpoint_id=os.path.join(out, "dcp", "pytorch_model_fsdp_0"))
    norm = lambda state: {k: v for k, v in state.items() if k in ("model.norm.weight", "model.layers.0.input_layernorm.weight")}
    moments = get_optimizer_state_dict(model, optimizer)
    dcp.save({"model": norm(state), "optimizer": dict(moments, state=norm(moments["state"]))},
             checkpoint_id=os.path.join(out, "dcp_with_optimizer"))
    from torch.distributed.checkpoint import HuggingFaceStorageWriter
    dcp.save(state, storage_writer=HuggingFaceStorageWriter(os.path.join(out, "sharded_safetensors"), save_distributed=True))
    dist.destroy_process_group()


def rank_grid(out):
    """Columns cut too, as tensor parallelism leaves them; five rows on four ranks: the last one has none."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.tensor import Shard, distribute_tensor
    dist.init_process_group("gloo")
    line, grid = dist.init_device_mesh("cpu", (4,)), dist.init_device_mesh("cpu", (2, 2))
    state = {k: distribute_tensor(v.detach().clone(), grid, [Shard(0), Shard(1)]) if v.dim() == 2 else v
             for k, v in tiny().state_dict().items() if "layers.0.mlp" in k or k == "model.norm.weight"}
    state["five"] = distribute_tensor(torch.arange(15.0).view(5, 3), line, [Shard(0)])
    dcp.save(state, checkpoint_id=os.path.join(out, "dcp_grid"))
    dist.destroy_process_group()


def rank_zero(out, stage):
    import deepspeed
    deepspeed.init_distributed("gloo")
    model = tiny()
    model.register_buffer("scale_of_nothing", torch.arange(3.0))
    model.model.layers[0].mlp.up_proj.weight.requires_grad = False
    decay = [p for n, p in model.named_parameters() if p.requires_grad and p.dim() == 2]
    rest = [p for n, p in model.named_parameters() if p.requires_grad and p.dim() != 2]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest}], lr=0.0)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config={
        "train_micro_batch_size_per_gpu": 1, "zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0}, "bf16": {"enabled": True}})
    engine.save_checkpoint(os.path.join(out, f"zero{stage}"), tag="step1")
    dist.barrier()


def make():
    shutil.rmtree(HERE, ignore_errors=True)
    os.makedirs(HERE)
    model = tiny()
    model.lm_head.to(torch.bfloat16)
    model.save_pretrained(os.path.join(HERE, "model"))
    os.remove(os.path.join(HERE, "model", "generation_config.json"))
    ranks(2, "rank_fsdp", HERE)
    ranks(4, "rank_grid", HERE)
    bins(model)
    try:
        import deepspeed
    except ImportError:
        print("no deepspeed: its directories are left as they are not")
        return
    for stage in (1, 2, 3):
        ranks(3 if stage == 3 else 2, "rank_zero", HERE, "--stage", str(stage))
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint
    for kind in ("zero1", "zero2", "zero3"):
        for root, _, files in os.walk(os.path.join(HERE, kind)):
            for name in files:
                if name.endswith(".py"):
                    os.remove(os.path.join(root, name))
    want = get_fp32_state_dict_from_zero_checkpoint(os.path.join(HERE, "zero3"))
    save_file({k: v.contiguous().clone() for k, v in want.items()}, os.path.join(HERE, "zero.safetensors"))


def bins(model):
    state = model.state_dict()
    names = list(state)
    for folder in ("bin", "bin_sharded", "bin_odd"):
        os.makedirs(os.path.join(HERE, folder))
    torch.save(state, os.path.join(HERE, "bin", "pytorch_model.bin"))
    files = [f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2)]
    torch.save({n: state[n] for n in names[:7]}, os.path.join(HERE, "bin_sharded", files[0]))
    torch.save({n: torch.nn.Parameter(state[n]) for n in names[7:]}, os.path.join(HERE, "bin_sharded", files[1]))
    import json
    with open(os.path.join(HERE, "bin_sharded", "pytorch_model.bin.index.json"), "w") as f:
        json.dump({"metadata": {}, "weight_map": {n: files[i >= 7] for i, n in enumerate(names)}}, f)
    # One storage for all, transposed and cut views, every dtype, an empty tensor and a scalar.
    base = torch.arange(60, dtype=torch.float32)
    odd = {"transposed": base.view(6, 10).t(), "window": base.view(6, 10)[1:4, 2:9:3], "flat": base[7:9], "scalar": torch.tensor(5.0),
           "empty": torch.zeros(0, 3), "permuted": base.view(3, 4, 5).permute(2, 0, 1), "expanded": torch.ones(1, 3).expand(4, 3)}
    for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool):
        odd[str(dtype)] = torch.arange(5).to(dtype)
    torch.save({"step": 3, "state_dict": odd, "note": "text"}, os.path.join(HERE, "bin_odd", "odd.pt"))
    torch.save({"step": 3, "state_dict": odd, "note": "text"}, os.path.join(HERE, "bin_odd", "old.pt"), _use_new_zipfile_serialization=False)
    save_file({k: v.contiguous().clone() for k, v in odd.items()}, os.path.join(HERE, "bin_odd", "odd.safetensors"))


def q8():
    """Blocks of 32 as gguf encodes them: ties, zeros, one large element, subnormal scales."""
    import gguf, numpy as np
    x = torch.randn(8, 64, generator=torch.Generator().manual_seed(5))
    x[1] = 0
    x[2, 5] = 1000
    x[3] = torch.arange(64) / 2 - 16
    x[4] *= 1e-7
    codes = gguf.quants.quantize(x.numpy(), gguf.GGMLQuantizationType.Q8_0)
    save_file({"x": x, "q8_0": torch.from_numpy(np.ascontiguousarray(codes))}, os.path.join(HERE, "q8_0.safetensors"))


def rank_dcp(path, model):
    """Loads an export into fully_shard-like tensors, compares each rank's rows."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.tensor import Shard, distribute_tensor
    dist.init_process_group("gloo")
    mesh = dist.init_device_mesh("cpu", (dist.get_world_size(),))
    want = load_file(os.path.join(model, "model.safetensors"))
    state = {"model": {k: distribute_tensor(torch.zeros_like(v), mesh, [Shard(0)]) for k, v in want.items()}}
    dcp.load(state, checkpoint_id=path)
    for k, v in want.items():
        assert torch.equal(state["model"][k].full_tensor(), v), k
    print("rank", dist.get_rank(), "of", dist.get_world_size(), "loaded", len(want), "tensors, all equal")
    dist.destroy_process_group()


def check_dcp(path, model):
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
    for world in (1, 2, 3):
        ranks(world, "rank_dcp", path, model)
    single = os.path.join(path, "..", "single.pt")
    dcp_to_torch_save(path, single)
    want, got = load_file(os.path.join(model, "model.safetensors")), torch.load(single, weights_only=True)["model"]
    assert want.keys() == got.keys() and all(torch.equal(want[k], got[k]) for k in want)
    os.remove(single)
    print("dcp_to_torch_save: equal")


def check_gguf(path, model):
    """The file's keys and tensors by gguf's reader; logits by transformers, against the model's own."""
    import gguf
    from transformers import AutoModelForCausalLM
    reader = gguf.GGUFReader(path)
    for field in reader.fields.values():
        value = field.contents()
        print(" ", field.name, "=", value if not isinstance(value, list) or len(value) < 6 else f"{len(value)} values")
    print({t.tensor_type.name: sum(o.tensor_type == t.tensor_type for o in reader.tensors) for t in reader.tensors})
    ours = AutoModelForCausalLM.from_pretrained(os.path.dirname(path), gguf_file=os.path.basename(path), dtype=torch.float32)
    want = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    ids = torch.arange(12).view(1, 12) % want.config.vocab_size
    with torch.no_grad():
        a, b = ours(ids).logits, want(ids).logits
    print("logits differ by at most", (a - b).abs().max().item(), "of", b.abs().max().item())

def check_nf4(ours, plain):
    """Loads an NF4 export of `plain` in transformers, and lets bitsandbytes quantize `plain` itself: codes, scales and logits."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    dtype = AutoModelForCausalLM.from_pretrained(plain).dtype
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype)
    a = AutoModelForCausalLM.from_pretrained(ours, device_map="cpu")
    b = AutoModelForCausalLM.from_pretrained(plain, device_map="cpu", quantization_config=config)
    for (name, x), y in zip(a.named_parameters(), b.parameters()):
        if hasattr(x, "quant_state"):
            codes = (x.data != y.data).float().mean().item()
            print(f"{name}: {codes:.2g} of code bytes differ, {(x.quant_state.absmax != y.quant_state.absmax).float().mean().item():.2g} of scales")
    ids = torch.arange(16).view(1, 16) % a.config.vocab_size
    with torch.no_grad():
        x, y = a(ids).logits.float(), b(ids).logits.float()
    print("logits differ by at most", (x - y).abs().max().item(), "of", y.abs().max().item())


def bnb():
    """A Llama whose linears bitsandbytes has quantized, in every way that its checkpoints come in, and what it dequantizes them to."""
    import bitsandbytes.functional as bf
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM
    torch.manual_seed(8)
    config = LlamaConfig(hidden_size=128, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, intermediate_size=192,
                         vocab_size=21, tie_word_embeddings=True, max_position_embeddings=32)
    plain = os.path.join(HERE, "bnb_plain")
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(plain)
    for kind, nested, storage in (("nf4", True, torch.uint8), ("nf4", False, torch.bfloat16), ("fp4", True, torch.uint8)):
        name = f"bnb_{kind}{'' if nested else '_flat'}"
        quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=kind, bnb_4bit_use_double_quant=nested,
                                          bnb_4bit_quant_storage=storage, bnb_4bit_compute_dtype=torch.float32)
        model = AutoModelForCausalLM.from_pretrained(plain, quantization_config=quantization, device_map="cpu")
        model.save_pretrained(os.path.join(HERE, name))
        for extra in os.listdir(os.path.join(HERE, name)):
            if extra == "generation_config.json":
                os.remove(os.path.join(HERE, name, extra))
        want = {n + ".weight": bf.dequantize_4bit(m.weight.data.view(torch.uint8), m.weight.quant_state).contiguous()
                for n, m in model.named_modules() if hasattr(getattr(m, "weight", None), "quant_state")}
        first = "model.layers.0.mlp.up_proj.weight"
        save_file({first: want[first], "model.layers.0.self_attn.k_proj.weight": want["model.layers.0.self_attn.k_proj.weight"]},
                  os.path.join(HERE, name + ".safetensors"))
    shutil.rmtree(plain)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--stage", type=int)
    a = parser.parse_args()
    if a.command == "make":
        make()
        q8()
        bnb()
    elif a.command == "bnb":
        bnb()
    elif a.command == "bins":
        for folder in ("bin", "bin_sharded", "bin_odd"):
            shutil.rmtree(os.path.join(HERE, folder), ignore_errors=True)
        model = tiny()
        model.lm_head.to(torch.bfloat16)
        bins(model)
    elif a.command == "q8":
        q8()
    elif a.command == "dcp":
        check_dcp(*a.paths)
    elif a.command == "rank_dcp":
        rank_dcp(*a.paths)
    elif a.command == "nf4":
        check_nf4(*a.paths)
    elif a.command == "gguf":
        check_gguf(*a.paths)
    elif a.command == "rank_fsdp":
        rank_fsdp(*a.paths)
    elif a.command == "rank_grid":
        rank_grid(*a.paths)
    elif a.command == "rank_zero":
        rank_zero(*a.paths, a.stage)


main()
