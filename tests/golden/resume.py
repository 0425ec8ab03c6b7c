"""Training that other engines began and saved, for tests/recipes/foreign_resume_test.cpp: tests/golden/resume (committed).

    HF_HUB_OFFLINE=1 python tests/golden/resume.py make      needs torch, transformers, peft, accelerate, deepspeed and bitsandbytes
    HF_HUB_OFFLINE=1 python tests/golden/resume.py blocks    what bitsandbytes makes alone

A Llama of one layer is trained on four rows, all of them in every step, for SAVED steps of TOTAL by AdamW in fp32 under a linear
schedule: whole ("full") and by LoRA ("lora"). Every engine saves the same moment: FSDP2 on two ranks by accelerate's own functions,
sharded and whole, transformers' Trainer, torch.distributed.checkpoint with model and optimizer in one folder, DeepSpeed's ZeRO 1, 2
and 3. losses.json holds what one process of torch goes on to, with the moments and ("fresh") without them; full.safetensors and
lora.safetensors what it ends with, those with _saved what it had at that moment, and values.safetensors its logits and gradients
then. "blocks_full" and "blocks_lora" are trained by transformers' Trainer with bitsandbytes' AdamW of 8 bits on the CPU, wide enough
for some tensors to have codes, the last of their blocks short; losses.json holds what bitsandbytes goes on to from these files, and
("coded") what it goes on to with the averages of embeddings in 8 bits as well, and sums over codes and scales.
"""
import argparse, json, os, shutil, socket, subprocess, sys
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
import torch.distributed as dist
from safetensors.torch import save_file

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "resume")
LR, DECAY, WARMUP, SAVED, TOTAL = 2e-2, 0.1, 2, 4, 8
ROWS = [[(7 * row * row + 5 * i + i * i * (row + 1)) % 24 for i in range(12)] for row in range(4)]


def tiny(lora, vocab=24, rank=2, targets=("q_proj", "v_proj", "down_proj")):
    from transformers import LlamaConfig, LlamaForCausalLM
    torch.manual_seed(11)
    model = LlamaForCausalLM(LlamaConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, intermediate_size=24, vocab_size=vocab,
        tie_word_embeddings=False, max_position_embeddings=32, initializer_range=0.2, rms_norm_eps=1e-5))
    if lora:
        from peft import LoraConfig, get_peft_model
        model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=3 * rank, target_modules=list(targets), lora_dropout=0.0,
                                                 task_type="CAUSAL_LM"))
    return model.train()


def adamw(model, kind=torch.optim.AdamW):
    """Decay on matrices alone, as transformers' Trainer groups parameters."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return kind([{"params": [p for p in trained if p.dim() >= 2], "weight_decay": DECAY},
                 {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0}], lr=LR)


def groups(optimizer):
    optimizer.param_groups[:] = [g for g in optimizer.param_groups if g["params"]]
    return optimizer


def rate(step):
    """transformers.get_linear_schedule_with_warmup, before step number `step` (from 0)."""
    return LR * (step / WARMUP if step < WARMUP else (TOTAL - step) / (TOTAL - WARMUP))


def step_rates(optimizer, step):
    for group in optimizer.param_groups:
        group["lr"] = rate(step)


def train(model, optimizer, begin, end):
    ids, losses = torch.tensor(ROWS), []
    for step in range(begin, end):
        step_rates(optimizer, step)
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    return losses


def folder(*parts):
    path = os.path.join(HERE, *parts)
    os.makedirs(path, exist_ok=True)
    return path


def trainer_state(path):
    with open(os.path.join(path, "trainer_state.json"), "w") as f:
        json.dump({"epoch": float(SAVED), "global_step": SAVED, "max_steps": TOTAL}, f)


def rank_fsdp(lora, full_state):
    from types import SimpleNamespace
    from accelerate import PartialState
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.fsdp_utils import save_fsdp_model, save_fsdp_optimizer
    from torch.distributed.fsdp import fully_shard
    state = PartialState(cpu=True)
    model = tiny(lora)
    inner = model.base_model.model if lora else model
    mesh = dist.init_device_mesh("cpu", (state.num_processes,))
    for layer in inner.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = groups(adamw(model))
    train(model, optimizer, 0, SAVED)
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, state_dict_type="FULL_STATE_DICT" if full_state else "SHARDED_STATE_DICT")
    accelerator = SimpleNamespace(process_index=state.process_index, num_processes=state.num_processes)
    out = folder("fsdp" + "_full" * full_state + "_lora" * lora, f"checkpoint-{SAVED}")
    save_fsdp_model(plugin, accelerator, model, out, adapter_only=lora)
    save_fsdp_optimizer(plugin, accelerator, optimizer, model, out)
    if state.process_index == 0:
        trainer_state(out)
        if lora:
            model.peft_config["default"].save_pretrained(out)
    dist.barrier()
    dist.destroy_process_group()


def rank_joint(lora):
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_state_dict
    dist.init_process_group("gloo")
    model = tiny(lora)
    optimizer = groups(adamw(model))
    train(model, optimizer, 0, SAVED)
    weights, state = get_state_dict(model, optimizer)
    out = folder("joint_lora")
    dcp.save({"model": weights, "optimizer": state}, checkpoint_id=out)
    model.peft_config["default"].save_pretrained(out)
    dist.destroy_process_group()


def rank_zero(lora, stage):
    import deepspeed
    deepspeed.init_distributed("gloo")
    model = tiny(lora)
    engine, optimizer, *_ = deepspeed.initialize(model=model, optimizer=groups(adamw(model)), config={
        "train_micro_batch_size_per_gpu": len(ROWS), "zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False,
        "gradient_clipping": 0.0, "zero_optimization": {
            "stage": stage, "elastic_checkpoint": stage == 2, "stage3_param_persistence_threshold": 0, "stage3_max_live_parameters": 0}})
    ids = torch.tensor(ROWS)
    for step in range(SAVED):
        step_rates(optimizer, step)
        engine.backward(engine(input_ids=ids, labels=ids, use_cache=False).loss)
        engine.step()
    out = folder(f"zero{stage}_lora" if lora else f"zero{stage}", *([f"checkpoint-{SAVED}"] if lora else []))
    engine.save_checkpoint(out)
    if lora and dist.get_rank() == 0:
        trainer_state(out)
        model.peft_config["default"].save_pretrained(out)
    dist.barrier()
    for name in os.listdir(out) if dist.get_rank() == 0 else []:
        if name.endswith(".py"):
            os.remove(os.path.join(out, name))


def trainer(name, model, optim="adamw_torch"):
    """transformers' Trainer itself: its optimizer.pt numbers what it holds."""
    from transformers import Trainer, TrainingArguments
    arguments = TrainingArguments(
        output_dir=folder(name), per_device_train_batch_size=len(ROWS), max_steps=TOTAL, save_steps=SAVED, save_total_limit=None,
        learning_rate=LR, weight_decay=DECAY, warmup_steps=WARMUP, lr_scheduler_type="linear", max_grad_norm=0.0, optim=optim,
        use_cpu=True, report_to=[], logging_strategy="no", disable_tqdm=True)
    Trainer(model=model, args=arguments, train_dataset=[{"input_ids": row, "labels": row} for row in ROWS]).train()
    shutil.rmtree(os.path.join(HERE, name, f"checkpoint-{TOTAL}"))
    kept = {"model.safetensors", "adapter_model.safetensors", "adapter_config.json", "optimizer.pt", "trainer_state.json"}
    out = os.path.join(HERE, name, f"checkpoint-{SAVED}")
    for file in set(os.listdir(out)) - kept:
        os.remove(os.path.join(out, file))
    trainer_state(out)
    return out


def wide(lora):
    return tiny(True, rank=257, targets=("q_proj", "v_proj")) if lora else tiny(False, vocab=258)


def forget_overrides():
    """bitsandbytes knows parameters by their id(), which those of a model to come may have."""
    import bitsandbytes
    manager = bitsandbytes.optim.GlobalOptimManager.get_instance()
    manager.initialize()
    return manager


def eight_bits(model):
    """As the Trainer makes it, which has bitsandbytes keep in fp32 what it keeps of embeddings."""
    import bitsandbytes
    manager = forget_overrides()
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            manager.register_module_override(module, "weight", {"optim_bits": 32})
    return adamw(model, bitsandbytes.optim.AdamW8bit)


def nearest_codes(values, qmap, size):
    """In blocks of `size`: bitsandbytes' quantizer on the CPU only comes close to the nearest."""
    flat = values.flatten()
    blocks = torch.nn.functional.pad(flat, (0, -flat.numel() % size)).view(-1, size)
    largest = blocks.abs().amax(1).clamp(min=1e-12)
    codes = ((blocks / largest[:, None])[..., None] - qmap).abs().argmin(-1).byte()
    return codes.flatten()[:flat.numel()].view_as(values), largest


def as_earlier_and_paged(path):
    """Writes a state as versions before 0.50 did, without a dict of its own, the first parameter in blocks of 2048 elements, as
    those before 0.45, and with the attributes that F.get_paged leaves on tensors of 1e5 elements or more on a GPU."""
    state = torch.load(path)
    for kept in state["state"].values():
        kept.update(kept.pop("__bnb_optimizer_quant_state__"))
    first = state["state"][0]
    for n in "12":
        codes, qmap, scales = first["state" + n], first["qmap" + n], first["absmax" + n]
        values = qmap[codes.long()].flatten() * scales.repeat_interleave(256)[:codes.numel()]
        first["state" + n], first["absmax" + n] = nearest_codes(values.view_as(codes), qmap, 2048)
    for kept in state["state"].values():
        if kept["state1"].dtype == torch.uint8:
            for key in ("state1", "state2"):
                kept[key].is_paged, kept[key].page_deviceid = True, 0
    torch.save(state, path)


def zeros(path):
    """The same parameters with averages of 0, in files of one number that stands for every element: floats.pt as torch's AdamW keeps
    them, codes.pt with codes for small ones, too, which bitsandbytes has where min_8bit_size says so."""
    folder, state = os.path.dirname(os.path.dirname(path)), torch.load(path)
    kept, zero = state["state"], torch.zeros(1)
    shapes = {number: of["state1"].shape for number, of in kept.items()}
    maps = next({key: of[key] for key in ("qmap1", "qmap2")} for of in kept.values() if "qmap1" in of)
    for number, shape in shapes.items():
        kept[number] = {"step": torch.tensor(float(SAVED)), "exp_avg": zero.expand(shape), "exp_avg_sq": zero.expand(shape)}
    torch.save(state, os.path.join(folder, "floats.pt"))
    for number, shape in shapes.items():
        scales, codes = zero.expand(-(-shape.numel() // 256)), zero.byte().expand(shape)
        kept[number] = {"step": SAVED, "state1": codes, "state2": codes, "absmax1": scales, "absmax2": scales, **maps}
    torch.save(state, os.path.join(folder, "codes.pt"))


def with_codes(optimizer):
    """Has what is kept in fp32 of large tensors as codes."""
    forget_overrides()
    for of in optimizer.state.values():
        if of["state1"].dtype == torch.float32 and of["state1"].numel() >= 4096:
            for number, name in (("1", "dynamic"), ("2", "udynamic")):
                of["qmap" + number] = optimizer.name2qmap[name]
                of["state" + number], of["absmax" + number] = nearest_codes(of["state" + number], of["qmap" + number], 256)
    return optimizer


def load_blocks(path):
    """For a version of today: one scale of 2048 elements is that of each 256 of them."""
    state = torch.load(path)
    for of in state["state"].values():
        for key in ("absmax1", "absmax2") if "absmax1" in of else ():
            count = of["state1"].numel()
            if of[key].numel() < -(-count // 256):
                of[key] = of[key].repeat_interleave(8)[:-(-count // 256)]
    return state


def sums(model, optimizer):
    """Of every code by its place, and of the scales."""
    names, found = {p: n for n, p in model.named_parameters()}, {}
    for p, of in optimizer.state.items():
        for number, name in (("1", ".exp_avg"), ("2", ".exp_avg_sq")) if "qmap1" in of else ():
            codes = of["state" + number].flatten().long()
            found[names[p] + name] = ((torch.arange(codes.numel()) % 1009 + 1) * codes).sum().item()
            found[names[p] + name + "_scale"] = of["absmax" + number].double().sum().item()
    return found


def blocks():
    """bitsandbytes' 8 bits: as it writes them, and (LoRA) as earlier versions did."""
    from safetensors.torch import load_file
    losses = {}
    for lora in (False, True):
        name = "blocks_lora" if lora else "blocks_full"
        shutil.rmtree(os.path.join(HERE, name), ignore_errors=True)
        forget_overrides()
        out = trainer(name, wide(lora), "adamw_bnb_8bit")
        if not lora:
            wide(False).config.save_pretrained(out)  # what the plan's model is, too

        def saved():
            model = wide(lora)
            path = os.path.join(out, "adapter_model.safetensors" if lora else "model.safetensors")
            if lora:
                from peft import set_peft_model_state_dict
                set_peft_model_state_dict(model, load_file(path))
            else:
                model.load_state_dict(load_file(path))
            return model

        state = os.path.join(out, "optimizer.pt")
        if lora:
            as_earlier_and_paged(state)
            zeros(state)

        def gone_on(change):
            model = saved()
            optimizer = eight_bits(model)
            optimizer.load_state_dict(load_blocks(state))
            change(optimizer)
            return {"sums": sums(model, optimizer), "losses": train(model, optimizer, SAVED, TOTAL)}

        kept = gone_on(lambda optimizer: None)
        model = saved()
        losses[name] = {"after": kept["losses"], "coded": gone_on(with_codes)["losses"],
                        "fresh": train(model, eight_bits(model), SAVED, TOTAL), "sums": kept["sums"]}
    return losses


def ranks(world, *arguments):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = str(s.getsockname()[1])
    env = lambda r: dict(os.environ, RANK=str(r), LOCAL_RANK=str(r), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=port,
                         CUDA_VISIBLE_DEVICES="", DS_ACCELERATOR="cpu", ACCELERATE_USE_CPU="true", OMP_NUM_THREADS="1")
    processes = [subprocess.Popen([sys.executable, os.path.abspath(__file__), *arguments], env=env(r)) for r in range(world)]
    if any([p.wait() for p in processes]):
        raise SystemExit("a rank failed")


def reference(lora):
    """One process: the steps after the save, with the optimizer's state and without; what it ends with."""
    model = tiny(lora)
    if not lora:
        model.save_pretrained(folder("model"))
        os.remove(os.path.join(HERE, "model", "generation_config.json"))
    optimizer = groups(adamw(model))
    before = train(model, optimizer, 0, SAVED)
    saved = {k: v.detach().clone() for k, v in model.state_dict().items()}
    names = {p: n for n, p in model.named_parameters()}
    moments = {f"{names[p]}.{key}": optimizer.state[p][key].clone() for p in optimizer.state for key in ("exp_avg", "exp_avg_sq")}
    if not lora:
        torch.save(saved, os.path.join(folder("bin"), "pytorch_model.bin"))
        values(model)
    after = train(model, optimizer, SAVED, TOTAL)
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    kind = "lora" if lora else "full"
    save_file({n: p.detach().clone() for n, p in model.named_parameters() if n in trained}, os.path.join(HERE, kind + ".safetensors"))
    save_file({**{n: saved[n] for n in trained}, **moments}, os.path.join(HERE, kind + "_saved.safetensors"))
    model.load_state_dict(saved)
    return {"before": before, "after": after, "fresh": train(model, groups(adamw(model)), SAVED, TOTAL)}


def values(model):
    """What tests/golden/parity/values.py stores, of the moment that the engines save."""
    ids = torch.tensor(ROWS)
    out = model(input_ids=ids, labels=ids)
    out.loss.backward()
    found = {"tokens": ids, "loss": out.loss, "logits": out.logits} | {"grad." + n: p.grad for n, p in model.named_parameters()}
    save_file({name: value.detach().clone() for name, value in found.items()}, os.path.join(HERE, "values.safetensors"))
    model.zero_grad(set_to_none=True)


def write_losses(more):
    path = os.path.join(HERE, "losses.json")
    known = json.load(open(path)) if os.path.exists(path) else {}
    with open(path, "w") as f:
        json.dump(known | more, f, indent=1)


def make():
    torch.set_num_threads(1)
    shutil.rmtree(HERE, ignore_errors=True)
    os.makedirs(HERE)
    write_losses({"full": reference(False), "lora": reference(True)})
    with open(os.path.join(HERE, "rows.jsonl"), "w") as f:
        f.writelines(json.dumps({"input_ids": row, "labels": row}) + "\n" for row in ROWS)
    ranks(2, "fsdp")
    ranks(2, "fsdp", "--lora")
    ranks(2, "fsdp", "--full-state")
    for lora in (False, True):
        trainer("trainer_lora" if lora else "trainer", tiny(lora))
    write_losses(blocks())
    ranks(1, "joint", "--lora")
    for stage, world in ((1, 5), (2, 2), (3, 3)):  # five and three: with padding
        ranks(world, "zero", "--stage", str(stage))
    ranks(2, "zero", "--stage", "2", "--lora")
    ranks(2, "zero", "--stage", "3", "--lora")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["make", "blocks", "fsdp", "joint", "zero"])
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--full-state", action="store_true")
    parser.add_argument("--stage", type=int)
    a = parser.parse_args()
    torch.set_num_threads(1)
    if a.command == "make":
        make()
    elif a.command == "blocks":
        write_losses(blocks())
    elif a.command == "fsdp":
        rank_fsdp(a.lora, a.full_state)
    elif a.command == "joint":
        rank_joint(a.lora)
    else:
        rank_zero(a.lora, a.stage)


main()
