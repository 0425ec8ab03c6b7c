"""The peer on several ranks: FSDP2 (fully_shard) over Gloo on the CPU, a process a rank. Prints one JSON line.
With bf16 and full training parameters are kept in bf16 and gradients reduced in fp32."""
import json
import os
import tempfile

from hf_train import arguments, load_model, train


def worker(rank, a, rendezvous, results):
    import torch
    import torch.distributed as dist
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
    torch.set_num_threads(max(1, a.threads // a.nproc))
    dist.init_process_group("gloo", init_method="file://" + rendezvous, rank=rank, world_size=a.nproc)
    how = dict(mesh=dist.init_device_mesh("cpu", (a.nproc,)))
    model = load_model(a, torch)
    if a.dtype == "bf16" and a.mode == "full":
        how["mp_policy"] = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    layer = type(next(m for name, m in model.named_modules() if name.endswith("layers.0")))
    for module in [m for m in model.modules() if isinstance(m, layer)]:
        fully_shard(module, **how)
    fully_shard(model, **how)
    results[rank] = train(a, torch, model, a.nproc, rank)
    dist.destroy_process_group()


if __name__ == "__main__":
    import torch.multiprocessing as mp
    a = arguments()
    with tempfile.TemporaryDirectory() as folder:
        results = mp.Manager().dict()
        mp.spawn(worker, (a, os.path.join(folder, "rendezvous"), results), nprocs=a.nproc)
        print(json.dumps([results[rank] for rank in range(a.nproc)]))
