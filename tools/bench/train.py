"""Measures training against transformers, peft and bitsandbytes, pair by pair. Run by tools/bench/train, which says how."""
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PEERS = os.path.join(HERE, "peers")
sys.path[0] = PEERS
import argparse  # noqa: E402
import json  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import time  # noqa: E402

from common import now, step_flops, tokens  # noqa: E402

# name: mode, ranks
JOBS = {"qlora": ("qlora", 1), "lora": ("lora", 1), "full": ("full", 1), "qlora2": ("qlora", 2), "full2": ("full", 2)}
SEQ = 512
# glibc hands freed blocks back to the system, and every step pays for them again in page faults: keep them.
TUNED_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "8000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000",
                "MALLOC_TOP_PAD_": "268435456"}
# The most that "to reach" allows, or the least: ratio of tokens/s, ratio of peak memory, seconds beyond a median step.
LEAST_SPEED, MOST_MEMORY, MOST_START = 1.0, 0.6, 1.5


def arguments():
    p = argparse.ArgumentParser(prog="tools/bench/train", add_help=False)
    p.add_argument("--jobs", default=",".join(JOBS))
    p.add_argument("--pairs", type=int, default=7)
    p.add_argument("--steps", type=int, default=10)
    p.add_argument("--preset", default="small")
    p.add_argument("--peer-dtype", choices=["auto", "fp32", "bf16"], default="auto")
    p.add_argument("--compute", choices=["auto", "fp32", "bf16"], default="auto")
    p.add_argument("--work", default="/var/tmp/ftengine-bench")
    p.add_argument("--program", required=True)
    a = p.parse_args()
    for job in a.jobs.split(","):
        if job not in JOBS:
            p.error(f"--jobs: got '{job}', want some of {', '.join(JOBS)}")
    return a


class Bench:
    def __init__(self, a):
        self.a, self.log = a, os.path.join(a.work, "results.jsonl")
        os.makedirs(a.work, exist_ok=True)
        self.models = {dtype: self.make_model(dtype) for dtype in ("bf16", "fp32")}
        with open(os.path.join(self.models["bf16"], "config.json")) as file:
            self.config = json.load(file)
        self.rows = {ranks: self.make_rows(ranks) for ranks in (1, 2)}
        self.program = int(os.path.getmtime(a.program))  # pairs of an older build do not count
        self.done = self.read_log()

    def make_model(self, dtype):
        path = os.path.join(self.a.work, f"{self.a.preset}-{dtype}")
        if not os.path.exists(os.path.join(path, "config.json")):
            script = os.path.join(PEERS, "make_model.py")
            subprocess.run([sys.executable, script, self.a.preset, path, "--dtype", dtype], check=True)
        return path

    def make_rows(self, ranks):
        """The rows of two steps, as the peers draw them."""
        path = os.path.join(self.a.work, f"{self.a.preset}-rows-{ranks}.jsonl")
        with open(path, "w") as file:
            for row in range(2 * ranks):
                ids = tokens(row * SEQ, (SEQ,), self.config["vocab_size"]).tolist()
                file.write(json.dumps({"input_ids": ids}) + "\n")
        return path

    def read_log(self):
        if not os.path.exists(self.log):
            return []
        with open(self.log) as file:
            return [json.loads(line) for line in file]

    def keep(self, row):
        self.done.append(row)
        with open(self.log, "a") as file:
            file.write(json.dumps(row) + "\n")

    def run(self, job, side, dtype, steps):
        """One run; its figures, with `others`: the share of the machine's time that other processes took."""
        mode, ranks = JOBS[job]
        ours = side == "engine"
        command, environment = (self.engine if ours else self.peer)(mode, ranks, dtype, steps)
        out = os.path.join(self.a.work, "run")
        subprocess.run(["rm", "-rf", out], check=True)
        busy, own, begin = machine_seconds(), children_seconds(), now()
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
        wall = now() - begin
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        if ours:
            ranks_said = [json.load(open(os.path.join(out, f"rank-{rank}.json"))) for rank in range(ranks)]
        else:
            ranks_said = json.loads(done.stdout.strip().splitlines()[-1])
        others = (machine_seconds() - busy - (children_seconds() - own)) / wall / os.cpu_count()
        step = statistics.median(ranks_said[0]["seconds"][1:])
        return dict(job=job, side=side, dtype=dtype, steps=steps, preset=self.a.preset, program=self.program, step=step,
                    tokens_per_second=ranks * SEQ / step, peak_mib=max(r["peak_mib"] for r in ranks_said),
                    first_step_end=ranks_said[0]["first_step_end"] - begin, loss=ranks_said[0]["losses"][-1],
                    others=others, wall=wall)

    def engine(self, mode, ranks, dtype, steps):
        command = [self.a.program, "run", os.path.join(HERE, "train.lua"), "--mode", mode, "--steps", str(steps),
                   "--model", self.models["bf16" if dtype != "fp32" else "fp32"], "--data", self.rows[ranks],
                   "--out", os.path.join(self.a.work, "run"), "--rows", str(ranks), "--compute", dtype]
        return command + (["--nproc", str(ranks), "--parallel", "fsdp2"] if ranks > 1 else []), {}

    def peer(self, mode, ranks, dtype, steps):
        script = "hf_train.py" if ranks == 1 else "fsdp2_train.py"
        storage = dtype if ranks > 1 else "uint8"  # fully_shard refuses integers
        return [sys.executable, os.path.join(PEERS, script), "--model", self.models[dtype], "--mode", mode, "--dtype",
                dtype, "--steps", str(steps), "--nproc", str(ranks), "--quant-storage", storage], TUNED_MALLOC

    def peer_dtype(self, job):
        """The peer's faster dtype on this machine, by a run of each; found once and kept."""
        if self.a.peer_dtype != "auto":
            return self.a.peer_dtype
        for row in self.done:
            if row["job"] == job and row["side"] == "dtype" and row["preset"] == self.a.preset:
                return row["dtype"]
        seconds = {dtype: self.run(job, "peer", dtype, 5)["step"] for dtype in ("fp32", "bf16")}
        faster = min(seconds, key=seconds.get)
        self.keep(dict(job=job, side="dtype", preset=self.a.preset, dtype=faster, seconds=seconds))
        return faster

    def pairs(self, job):
        """Finished pairs of this job, with these arguments and this program: (engine, peer)."""
        want = dict(job=job, steps=self.a.steps, preset=self.a.preset, program=self.program)
        sides = []
        for side, dtype in (("engine", self.a.compute), ("peer", self.peer_dtype(job))):
            wanted = {**want, "side": side, "dtype": dtype}
            sides.append([row for row in self.done if all(row.get(key) == value for key, value in wanted.items())])
        return list(zip(*sides))

    def measure(self):
        jobs = self.a.jobs.split(",")
        dtypes = {job: self.peer_dtype(job) for job in jobs}
        peak = json.loads(subprocess.run([sys.executable, os.path.join(PEERS, "gemm.py")], capture_output=True,
                                         text=True, check=True).stdout)
        self.keep(dict(job="", side="gemm", preset=self.a.preset, peak=peak))
        for turn in range(self.a.pairs):
            for job in jobs:
                if len(self.pairs(job)) > turn:
                    continue
                both = [("engine", self.a.compute), ("peer", dtypes[job])]
                rows = [self.run(job, side, dtype, self.a.steps) for side, dtype in both[::1 if turn % 2 else -1]]
                for row in rows:
                    self.keep(row)
                ours, peer = sorted(rows, key=lambda row: row["side"])
                print(f"{job:7} pair {turn + 1}/{self.a.pairs}: {ours['tokens_per_second']:.0f} tokens/s, peer "
                      f"{peer['tokens_per_second']:.0f} ({peer['dtype']}); {ours['peak_mib']:.0f} MiB, peer "
                      f"{peer['peak_mib']:.0f}; first step ends at {ours['first_step_end']:.2f} s, peer "
                      f"{peer['first_step_end']:.2f} s; others took {max(r['others'] for r in rows):.0%}", flush=True)
        return peak

    def table(self, peak):
        yield "| job | tokens/s | peer | ratio (min–max) | peak MiB | peer | ratio | first step − a step, s | peer | light |"
        yield "|---|---|---|---|---|---|---|---|---|---|"
        for job in self.a.jobs.split(","):
            mode, ranks = JOBS[job]
            pairs = self.pairs(job)[:self.a.pairs]
            if not pairs:
                continue
            median = lambda f: statistics.median(f(ours, peer) for ours, peer in pairs)  # noqa: E731
            speeds = [ours["tokens_per_second"] / peer["tokens_per_second"] for ours, peer in pairs]
            memory = median(lambda ours, peer: ours["peak_mib"] / peer["peak_mib"])
            start = median(lambda ours, peer: ours["first_step_end"] - ours["step"])
            flops = ranks * step_flops(self.config, 1, SEQ, mode)
            light = flops / 1e9 / max(peak.values()) / median(lambda ours, peer: ours["step"])
            mark = lambda ok: "" if ok else " ✗"  # noqa: E731
            yield (f"| {job} | {median(lambda o, p: o['tokens_per_second']):.0f} "
                   f"| {median(lambda o, p: p['tokens_per_second']):.0f} {pairs[0][1]['dtype']} "
                   f"| {statistics.median(speeds):.2f} ({min(speeds):.2f}–{max(speeds):.2f})"
                   f"{mark(statistics.median(speeds) >= LEAST_SPEED)} | {median(lambda o, p: o['peak_mib']):.0f} "
                   f"| {median(lambda o, p: p['peak_mib']):.0f} | {memory:.2f}{mark(memory <= MOST_MEMORY)} "
                   f"| {start:.2f}{mark(ranks > 1 or start <= MOST_START)} "
                   f"| {median(lambda o, p: p['first_step_end'] - p['step']):.2f} | {light:.0%} |")


def machine_seconds():
    with open("/proc/stat") as file:
        fields = [int(x) for x in file.readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def children_seconds():
    times = os.times()
    return times.children_user + times.children_system


def main():
    a = arguments()
    bench = Bench(a)
    begin = time.time()
    peak = bench.measure()
    print(f"\n{a.preset}, {SEQ} tokens a rank and step, {a.pairs} pairs of {a.steps} steps, in {time.time() - begin:.0f} s; "
          f"GEMM peak {peak['fp32']:.0f} GFLOP/s fp32, {peak['bf16']:.0f} bf16\n")
    print("\n".join(bench.table(peak)))


if __name__ == "__main__":
    main()
