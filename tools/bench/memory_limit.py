"""What tools/bench/memory_limit runs; see there."""
import argparse
import array
import glob
import json
import os
import random
import shutil
import subprocess
import time

HIDDEN, INNER, KV, VOCAB = 2048, 6144, 1024, 4096
V2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")


def tensors(layers):
    yield "model.embed_tokens.weight", (VOCAB, HIDDEN)
    for i in range(layers):
        layer = f"model.layers.{i}."
        for name, shape in (("q_proj", (HIDDEN, HIDDEN)), ("k_proj", (KV, HIDDEN)), ("v_proj", (KV, HIDDEN)), ("o_proj", (HIDDEN, HIDDEN))):
            yield f"{layer}self_attn.{name}.weight", shape
        for name, shape in (("gate_proj", (INNER, HIDDEN)), ("up_proj", (INNER, HIDDEN)), ("down_proj", (HIDDEN, INNER))):
            yield f"{layer}mlp.{name}.weight", shape
        yield layer + "input_layernorm.weight", (HIDDEN,)
        yield layer + "post_attention_layernorm.weight", (HIDDEN,)
    yield "model.norm.weight", (HIDDEN,)


def make_model(folder, layers):
    """A Llama of random bf16 weights: a block of them, turned by another number of elements for every tensor."""
    os.makedirs(folder)
    normal = random.Random(1)
    block = array.array("f", (normal.gauss(0, 0.02) for _ in range(1 << 20))).tobytes()
    block = b"".join(block[i + 2:i + 4] for i in range(0, len(block), 4))  # bf16 is a float's upper half
    header, offset = {}, 0
    for name, shape in tensors(layers):
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    with open(f"{folder}/model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for turn, (name, shape) in enumerate(tensors(layers)):
            size = header[name]["data_offsets"][1] - header[name]["data_offsets"][0]
            if len(shape) == 1:
                file.write(b"\x80\x3f" * (size // 2))
                continue
            turned = block[turn * 7778 % len(block):] + block[:turn * 7778 % len(block)]
            while size > 0:
                file.write(turned[:size])
                size -= len(turned)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INNER,
              "num_hidden_layers": layers, "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": VOCAB,
              "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 4096, "tie_word_embeddings": True,
              "hidden_act": "silu", "torch_dtype": "bfloat16"}
    with open(f"{folder}/config.json", "w") as file:
        json.dump(config, file)


def make_rows(path):
    draw = random.Random(2)
    with open(path, "w") as file:
        for _ in range(16):
            file.write(json.dumps({"input_ids": [draw.randrange(VOCAB) for _ in range(64)]}) + "\n")


class Group:
    """A memory control group of its own, with a limit, and with swap where some is asked for."""

    def __init__(self, ram, swap, folder):
        self.path = ("/sys/fs/cgroup/" if V2 else "/sys/fs/cgroup/memory/") + f"ftengine-bench-{os.getpid()}"
        self.swap = f"{folder}/swapfile" if swap else None
        os.mkdir(self.path)
        if self.swap:
            with open(self.swap, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, swap)
            os.chmod(self.swap, 0o600)
            subprocess.run(["mkswap", self.swap], check=True, stdout=subprocess.DEVNULL)
            subprocess.run(["swapon", self.swap], check=True)
        if V2:
            self.write("memory.max", ram)
            self.write("memory.swap.max", swap)
        else:
            self.write("memory.limit_in_bytes", ram)
            try:
                self.write("memory.memsw.limit_in_bytes", ram + swap)
            except OSError:
                pass  # a kernel that does not count swap; without a swap file there is none

    def write(self, name, value):
        with open(f"{self.path}/{name}", "w") as file:
            file.write(str(value))

    def peak(self):
        for name in ("memory.peak", "memory.max_usage_in_bytes"):
            if os.path.exists(f"{self.path}/{name}"):
                return int(open(f"{self.path}/{name}").read())
        return 0

    def close(self):
        if self.swap:
            subprocess.run(["swapoff", self.swap], check=True)
            os.remove(self.swap)
        time.sleep(0.5)
        os.rmdir(self.path)


def forget(folder):
    """Drops the files' pages: what another group has read would be free for this one."""
    os.sync()
    for path in glob.glob(f"{folder}/**/*", recursive=True):
        if os.path.isfile(path):
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run(a, name, profile, ram=0, swap=0, keys=""):
    out = f"{a.folder}/{name}"
    shutil.rmtree(out, ignore_errors=True)
    forget(a.folder)
    group = Group(ram, swap, a.folder) if ram else None
    def enter():
        if group:
            group.write("cgroup.procs", os.getpid())
    layout = f"{a.folder}/{name}.yaml"
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    with open(f"{root}/configs/profiles/{profile}.yaml") as base, open(layout, "w") as file:
        file.write(base.read() + keys)
    command = [a.program, "run", f"{root}/tools/bench/memory_limit.lua", "--mode", a.mode, "--model", a.model, "--data",
               f"{a.folder}/rows.jsonl", "--out", out, "--steps", str(a.steps), "--parallel", layout, "--nproc", str(a.nproc)]
    begin = time.monotonic()
    try:
        done = subprocess.run(command, stdout=open(f"{out}.log", "w"), stderr=subprocess.STDOUT, preexec_fn=enter)
        seconds, peak = time.monotonic() - begin, group.peak() if group else 0
    finally:
        if group:
            group.close()
    if done.returncode != 0:
        raise SystemExit(f"{name} ended with {done.returncode}:\n" + open(f"{out}.log").read()[-2000:])
    rows = [json.loads(line) for line in open(glob.glob(f"{out}/**/metrics.jsonl", recursive=True)[0])]
    losses = [row["loss"] for row in rows if row.get("step", 0) > 0]
    steps = [row["seconds"] for row in rows if "seconds" in row]
    print(f"{name:22} {seconds:7.1f} s in all, steps " + " ".join(f"{s:6.1f}" for s in steps) +
          f" s, group's peak {peak / 2**20:6.0f} MiB, losses {losses}", flush=True)
    return losses


def main():
    sizes = {"K": 10, "M": 20, "G": 30}
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--mode", choices=["qlora", "full"], default="qlora")
    parser.add_argument("--ram")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--nproc", type=int, default=1)
    parser.add_argument("--folder", default="/var/tmp/ftengine-memory-limit")
    parser.add_argument("--only")
    a = parser.parse_args()
    full = a.mode == "full"
    a.ram, a.layers = a.ram or ("600M" if full else "640M"), a.layers or (1 if full else 40)
    a.only = a.only or ("unlimited,paged" if full else "unlimited,mmap,swap")
    ram = int(a.ram[:-1]) << sizes[a.ram[-1]] if a.ram[-1] in sizes else int(a.ram)
    a.model = f"{a.folder}/model-{a.layers}"
    os.makedirs(a.folder, exist_ok=True)
    if not os.path.isdir(a.model):
        make_model(a.model, a.layers)
    make_rows(f"{a.folder}/rows.jsonl")
    elements = sum(s[0] * s[1] for _, s in tensors(a.layers) if len(s) == 2)
    what, large = ("masters and AdamW's averages", elements * 12) if full else ("NF4 weights", (elements - VOCAB * HIDDEN) * 0.516)
    print(f"{what} {large / 2**20:.0f} MiB, limit {ram / 2**20:.0f} MiB: {large / ram:.2f} times")
    losses = {}
    for name in a.only.split(","):
        if name == "unlimited":
            losses[name] = run(a, name, "fsdp2")
        elif name == "swap":
            losses[name] = run(a, name, "fsdp2_swap", ram, 4 << 30)
        elif name == "paged":
            losses[name] = run(a, name, "fsdp2", ram, keys=f"optimizer_state: paged\npage_directory: {a.folder}\n")
        else:
            cache = f"weight_cache: {a.folder}/cache\n"
            shutil.rmtree(f"{a.folder}/cache", ignore_errors=True)
            losses[name] = run(a, name, "fsdp2_mmap", ram, keys=cache)
            losses["mmap, cache found"] = run(a, "mmap, cache found", "fsdp2_mmap", ram, keys=cache)
    same = all(value == next(iter(losses.values())) for value in losses.values())
    print("losses are equal to the bit" if same else "LOSSES DIFFER")
    raise SystemExit(0 if same else 1)


main()
