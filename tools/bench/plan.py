"""Compares plans of memory with runs. Run by tools/bench/plan, which says how."""
import argparse
import json
import os
import random
import re
import subprocess
import tempfile
import time

from load import HERE, anonymous_mb, children

PROFILES = ["ddp", "zero1", "zero2", "zero3", "fsdp2", "fsdp2_no_reshard", "fsdp2_offload", "fsdp2_swap", "fsdp2_mmap"]
UNITS = {"B": 1e-6, "kB": 1e-3, "MB": 1, "GB": 1e3}


def megabytes(plan, row):
    number, unit = re.search(rf"^\s*{row}\s+([\d.]+) (\w+)", plan, re.MULTILINE).groups()
    return float(number) * UNITS[unit]


def free_mb():
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("MemAvailable")) / 1024


def watch(command, env):
    """Runs it; the most anonymous memory of any of its processes, in MB, looked at every 3 ms."""
    run = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak = 0.0
    while run.poll() is None:
        for pid in children(run.pid) or [run.pid]:
            try:
                peak = max(peak, anonymous_mb(pid) * 1.048576)
            except OSError:
                pass
        time.sleep(0.003)
    return run.returncode, peak, run.stderr.read()


def compare(a, mode, profile, folder):
    rows, out = os.path.join(folder, "rows.jsonl"), os.path.join(folder, f"{mode}-{profile}")
    profile, _, ranks = profile.partition("@")
    ranks = int(ranks or a.nproc)
    label = f"{mode}, {profile}" + (f", {ranks} ranks" if ranks != a.nproc else "")
    words = [os.path.join(HERE, "train.lua"), "--mode", mode, "--model", a.model, "--data", rows, "--parallel", profile,
             "--nproc", str(ranks), "--rows", str(2 * ranks), "--seq_len", str(a.seq_len), "--steps", str(a.steps),
             "--out", out]
    env = dict(os.environ, FTENGINE_DEVICE="cpu", OMP_NUM_THREADS="1", XDG_CACHE_HOME=folder)
    planned = subprocess.run([a.program, "plan", *words], env=env, capture_output=True, text=True)
    if planned.returncode:
        return f"| {label} | no plan: {planned.stderr.strip().splitlines()[0]} |"
    total, floor = megabytes(planned.stdout, "total"), megabytes(planned.stdout, "the program itself")
    if total * ranks > free_mb() - 1000 * a.keep_free:
        return f"| {label} | {total:,.0f} | left out: too large for this machine |"
    code, resident, said = watch([a.program, "run", *words], env)
    if code:
        return f"| {label} | {total:,.0f} | failed: {said.strip().splitlines()[0]} |"
    with open(os.path.join(out, "metrics.jsonl")) as file:
        meter = max(json.loads(line)["peak_tensor_memory"] for line in file) * 1e-6
    return (f"| {label} | {total:,.0f} | {floor:,.0f} | {meter:,.0f} | {100 * ((total - floor) / meter - 1):+.1f}% "
            f"| {resident:,.0f} | {100 * (total / resident - 1):+.1f}% |")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("--program", required=True)
    p.add_argument("--nproc", type=int, default=2)
    p.add_argument("--modes", default="full,qlora")
    p.add_argument("--profiles", default=",".join(PROFILES))
    p.add_argument("--steps", type=int, default=3)
    p.add_argument("--seq-len", type=int, default=512)
    p.add_argument("--keep-free", type=float, default=2)
    a = p.parse_args()
    print("| job, profile | plan, MB | of it the program | meter, MB | plan's tensors against it | anonymous, MB "
          "| plan against it |\n|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        draw = random.Random(0)
        with open(os.path.join(folder, "rows.jsonl"), "w") as file:
            for _ in range(16 * a.steps):
                file.write(json.dumps({"input_ids": [draw.randrange(1000) for _ in range(a.seq_len)]}) + "\n")
        for mode in a.modes.split(","):
            for profile in a.profiles.split(","):
                print(compare(a, mode, profile, folder), flush=True)


if __name__ == "__main__":
    main()
