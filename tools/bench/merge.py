"""Times merges of one sharded checkpoint. Run by tools/bench/merge, which says how."""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

SAVE = r"""
import os, sys, torch, torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.tensor import Shard, distribute_tensor
folder, millions = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(1)
dist.init_process_group("gloo")
mesh = dist.init_device_mesh("cpu", (dist.get_world_size(),))
hidden, ffn, vocab = 1024, 3072, 65536
shapes = {"model.embed_tokens.weight": (vocab, hidden), "model.norm.weight": (hidden,), "lm_head.weight": (vocab, hidden)}
layer = {"self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (hidden // 2, hidden), "self_attn.v_proj": (hidden // 2, hidden),
         "self_attn.o_proj": (hidden, hidden), "mlp.gate_proj": (ffn, hidden), "mlp.up_proj": (ffn, hidden),
         "mlp.down_proj": (hidden, ffn), "input_layernorm": (hidden,), "post_attention_layernorm": (hidden,)}
count, i = 2 * vocab * hidden, 0
while count < millions * 1_000_000:
    for name, shape in layer.items():
        shapes[f"model.layers.{i}.{name}.weight"] = shape
        count += torch.Size(shape).numel()
    i += 1
from torch.distributed.tensor import DTensor
state = {}
for name, shape in shapes.items():
    rows, world, rank = shape[0], dist.get_world_size(), dist.get_rank()
    chunk = -(-rows // world)
    local = torch.empty(max(0, min(chunk, rows - rank * chunk)), *shape[1:], dtype=torch.bfloat16).normal_()
    state[name] = DTensor.from_local(local, mesh, [Shard(0)], run_check=False, shape=torch.Size(shape),
                                     stride=torch.empty(shape, device="meta").stride())
dcp.save({"model": state}, checkpoint_id=os.path.join(folder, "pytorch_model_fsdp_0"))
dist.destroy_process_group()
"""


def make(a, folder):
    port = str(20000 + os.getpid() % 20000)
    script = os.path.join(folder, "save.py")
    with open(script, "w") as file:
        file.write(SAVE)
    environment = dict(os.environ, MASTER_ADDR="127.0.0.1", MASTER_PORT=port, WORLD_SIZE=str(a.ranks), CUDA_VISIBLE_DEVICES="")
    ranks = [subprocess.Popen([a.python, script, folder, str(a.parameters)], env=dict(environment, RANK=str(r), LOCAL_RANK=str(r)))
             for r in range(a.ranks)]
    if any([rank.wait() for rank in ranks]):
        sys.exit("the checkpoint could not be made")
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": False}, file)


def timed(command):
    """Seconds until the command's files are on disk, and its VmHWM in MB."""
    os.sync()
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=dict(os.environ, CUDA_VISIBLE_DEVICES=""))
    peak = 0
    while process.poll() is None:
        try:
            with open(f"/proc/{process.pid}/status") as file:
                peak = max([peak] + [int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM")])
        except OSError:
            pass
        time.sleep(0.005)
    ended = time.monotonic() - begun
    if process.returncode != 0:
        sys.exit(process.stderr.read().decode())
    os.sync()
    return time.monotonic() - begun, ended, peak


def compare(a, ours, theirs):
    """Both made the same tensors?"""
    check = ("import sys, glob, torch; from safetensors.torch import load_file\n"
             "x, y = ({k: v for f in glob.glob(d + '/*.safetensors') for k, v in load_file(f).items()} for d in sys.argv[1:])\n"
             "assert x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x), 'the results differ'\n")
    subprocess.run([a.python, "-c", check, ours, theirs], check=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--parameters", type=int, default=700)
    parser.add_argument("--ranks", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--folder")
    a = parser.parse_args()
    folder = a.folder or tempfile.mkdtemp(prefix="bench-merge-")
    os.makedirs(folder, exist_ok=True)
    if not os.path.isdir(os.path.join(folder, "pytorch_model_fsdp_0")):
        make(a, folder)
    source, ours, theirs = (os.path.join(folder, name) for name in ("pytorch_model_fsdp_0", "ours", "theirs"))
    accelerate = [a.python, "-c", "from accelerate.commands.accelerate_cli import main; main()", "merge-weights", source, theirs]
    rows = []
    for pair in range(a.pairs + 1):  # the first one only warms the page cache
        shutil.rmtree(ours, ignore_errors=True)
        shutil.rmtree(theirs, ignore_errors=True)
        row = timed([a.program, "merge", folder, "-o", ours]), timed(accelerate)
        if pair == 0:
            compare(a, ours, theirs)
            continue
        rows.append(row)
        print(f"ftengine {row[0][0]:6.2f} s ({row[0][1]:.2f} s to its end) {row[0][2]:7.0f} MB   "
              f"accelerate {row[1][0]:6.2f} s ({row[1][1]:.2f} s) {row[1][2]:7.0f} MB   x{row[1][0] / row[0][0]:.2f}", flush=True)
    print("median ratio of seconds %.2f, of memory %.3f" % (statistics.median(r[1][0] / r[0][0] for r in rows),
                                                            statistics.median(r[0][2] / r[1][2] for r in rows)))
    if not a.folder:
        shutil.rmtree(folder)


main()
