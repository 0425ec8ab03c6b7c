"""Watches ranks while they read a model in. Run by tools/bench/load, which says how."""
import argparse
import os
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            own = [int(word) for word in file.read().split()]
    except OSError:
        return []
    return own + [below for child in own for below in children(child)]


def anonymous_mb(pid):
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("RssAnon"):
                return int(line.split()[1]) / 1024
    return 0.0


def bytes_read(pid):
    """What read calls handed over, from the page cache or a disk."""
    with open(f"/proc/{pid}/io") as file:
        return int(file.readline().split()[1])


def measure(a, folder):
    rows = os.path.join(folder, "rows.jsonl")
    with open(rows, "w") as file:
        file.write('{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}\n' * 8)
    begun = time.monotonic()
    program = subprocess.Popen([a.program, "run", os.path.join(HERE, "load.lua"), f"--model={a.model}", f"--data={rows}",
                                f"--out={folder}/run", f"--quantize={a.quantize}", f"--nproc={a.nproc}"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    anonymous, read = {}, {}
    while program.poll() is None:
        for pid in children(program.pid) or [program.pid]:
            try:
                now = anonymous_mb(pid)
                read[pid] = max(read.get(pid, 0), bytes_read(pid))
            except OSError:
                continue
            anonymous[pid] = max(anonymous.get(pid, 0), now)
        time.sleep(0.002)
    seconds = time.monotonic() - begun
    if program.returncode != 0:
        sys.exit(program.stderr.read())
    # The launcher holds nothing, and the system adds to its count what its ranks had read.
    ranks = sorted(anonymous, key=lambda pid: -anonymous[pid])[: a.nproc]
    return seconds, [anonymous[pid] for pid in ranks], sum(read[pid] for pid in ranks)


def described(a):
    """What `ftengine plan` says of the model and the layout."""
    with tempfile.TemporaryDirectory() as folder:
        rows = os.path.join(folder, "rows.jsonl")
        with open(rows, "w") as file:
            file.write('{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}\n' * 8)
        said = subprocess.run([a.program, "plan", os.path.join(HERE, "load.lua"), f"--model={a.model}", f"--data={rows}",
                               f"--out={folder}/run", f"--quantize={a.quantize}", f"--nproc={a.nproc}"],
                              capture_output=True, text=True, check=True).stdout
    return said


def main():
    p = argparse.ArgumentParser(prog="tools/bench/load", add_help=False)
    p.add_argument("model")
    p.add_argument("--program", required=True)
    p.add_argument("--quantize", choices=["nf4", "none"], default="nf4")
    p.add_argument("--nproc", type=int, default=2)
    p.add_argument("--runs", type=int, default=3)
    a = p.parse_args()
    a.model = os.path.abspath(a.model)
    files = sum(os.path.getsize(os.path.join(a.model, name)) for name in os.listdir(a.model) if name.endswith(".safetensors"))
    print(described(a))
    for _ in range(a.runs):
        with tempfile.TemporaryDirectory() as folder:
            seconds, anonymous, read = measure(a, folder)
        held = ", ".join(f"{mb:.0f}" for mb in anonymous)
        print(f"{seconds:.2f} s from start to end; most anonymous memory of each rank {held} MB; "
              f"read {read / 1e6:.1f} MB of {files / 1e6:.1f} MB in files ({read / files:.3f})")


if __name__ == "__main__":
    main()
