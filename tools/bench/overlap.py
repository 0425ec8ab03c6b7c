"""The runs of tools/bench/overlap: each overlap by turns, medians of their steps, and their ratio."""
import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import tempfile
import time

OVERLAPS = ("none", "forward", "backward")
WARM = 2  # steps that are not counted: memory is taken in them


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pin", action="store_true")
    for name, value in (("rounds", 5), ("steps", 12), ("layers", 8), ("tokens", 128), ("bits", 32)):
        parser.add_argument("--" + name, type=int, default=value)
    return parser.parse_args()


def pin(process):
    """Until it ends: the thread that walks the schedule on one core, all others on another."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    while process.poll() is None:
        try:
            for thread in os.listdir(f"/proc/{process.pid}/task"):
                os.sched_setaffinity(int(thread), {cores[int(thread) != process.pid]})
        except OSError:
            pass  # it has just ended
        time.sleep(0.02)


def train(args, folder, overlap):
    """Rows of metrics of one run."""
    out = folder / overlap
    flags = [f"--{name}={getattr(args, name)}" for name in ("steps", "layers", "tokens", "bits")]
    recipe = pathlib.Path(__file__).with_suffix(".lua")
    command = [args.program, "run", recipe, "--nproc=1", f"--data={folder / 'rows.jsonl'}", f"--out={out}",
               f"--overlap={overlap}", *flags]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL,
                               env=dict(os.environ, OMP_NUM_THREADS=str(args.threads)))
    if args.pin:
        pin(process)
    if process.wait() != 0:
        raise SystemExit(f"the run with overlap {overlap} failed")
    return [json.loads(line) for line in open(out / "metrics.jsonl")]


def main():
    args = arguments()
    times = {overlap: [] for overlap in OVERLAPS}
    waits = {overlap: [] for overlap in OVERLAPS}
    losses = set()
    for number in range(args.rounds):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            draw = random.Random(1)
            with open(folder / "rows.jsonl", "w") as rows:
                for _ in range(args.steps):
                    rows.write(json.dumps({"input_ids": [draw.randrange(16384) for _ in range(args.tokens)]}) + "\n")
            for overlap in OVERLAPS[number % 3:] + OVERLAPS[:number % 3]:
                steps = train(args, folder, overlap)
                losses.add(tuple(step["loss"] for step in steps))
                times[overlap].append(statistics.median(step["seconds"] for step in steps[WARM:]))
                waits[overlap].append(statistics.median(step.get("wait_update", 0) for step in steps[WARM:]))
    print("losses equal to the bit" if len(losses) == 1 else "LOSSES DIFFER")
    for overlap in OVERLAPS:
        ratios = [mine / none for mine, none in zip(times[overlap], times["none"])]
        print(f"{overlap:9} step {statistics.median(times[overlap]) * 1e3:6.0f} ms  of it waiting for updates "
              f"{statistics.median(waits[overlap]) * 1e3:5.0f} ms  to none {statistics.median(ratios):.2f} "
              f"({min(ratios):.2f} to {max(ratios):.2f})")


main()
