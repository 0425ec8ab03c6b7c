"""Interleaved timing of bench_tokenize and Hugging Face `tokenizers` on the same rows: see tools/bench/tokenize."""

import argparse
import glob
import gzip
import json
import os
import random
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time


def mixed_rows(size):
    """About `size` bytes: Python sources with their documentation, and made-up sentences in several scripts."""
    rng = random.Random(5)
    files = sorted(glob.glob(os.path.join(sysconfig.get_paths()["stdlib"], "*.py")))
    scripts = [(0x61, 0x7A), (0xE0, 0xFF), (0x430, 0x44F), (0x3B1, 0x3C9), (0x4E00, 0x5200), (0x3042, 0x3090), (0x905, 0x939), (0x5D0, 0x5EA)]
    words = [["".join(chr(rng.randint(*span)) for _ in range(rng.randint(2, 9))) for _ in range(4000)] for span in scripts]
    rows, done = [], 0
    while done < size:
        if rng.random() < 0.5:
            text = open(rng.choice(files), encoding="utf-8", errors="replace").read()
            begin = rng.randrange(max(1, len(text) - 4000))
            text = text[begin:begin + 4000]
        else:
            bag = words[0] if rng.random() < 0.5 else rng.choice(words)
            text = " ".join(bag[min(int(rng.paretovariate(0.7)), len(bag)) - 1] + rng.choice(["", "", "", "", ",", ".", "'s", " 1984"]) for _ in range(500))
        rows.append(text)
        done += len(text.encode())
    return rows


PEER = """
import json, sys, time
from tokenizers import Tokenizer
start = time.perf_counter()
t = Tokenizer.from_file(sys.argv[1]); load = time.perf_counter() - start
rows = [json.loads(l)["text"] for l in open(sys.argv[2])]
start = time.perf_counter()
n = sum(len(e.ids) for e in t.encode_batch_fast(rows, add_special_tokens=False))
print(json.dumps({"load": load, "tokens": n, "seconds": time.perf_counter() - start}))
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("tokenizer", help="tokenizer.json, or .json.gz")
    parser.add_argument("--megabytes", type=float, default=10)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", default="1,2")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = (gzip.open if given.tokenizer.endswith(".gz") else open)(given.tokenizer, "rt", encoding="utf-8").read()
        open(os.path.join(folder, "tokenizer.json"), "w").write(text)
        rows = os.path.join(folder, "rows.jsonl")
        with open(rows, "w") as f:
            f.writelines(json.dumps({"text": r}) + "\n" for r in mixed_rows(given.megabytes * 1e6))
        ours, theirs, loads = {}, {}, []
        for _ in range(given.pairs):
            for threads in given.threads.split(","):
                a = json.loads(subprocess.check_output([given.program, folder, rows, threads]))
                b = json.loads(subprocess.check_output([sys.executable, "-c", PEER, os.path.join(folder, "tokenizer.json"), rows],
                                                       env={**os.environ, "RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": str(threads != "1").lower()}))
                if a["tokens"] != b["tokens"]:
                    sys.exit(f"{a['tokens']} tokens, but tokenizers makes {b['tokens']}")
                ours.setdefault(threads, []).append(a["seconds"][threads])
                theirs.setdefault(threads, []).append(b["seconds"])
                loads.append((a["load"], b["load"]))
        print(f"load: {statistics.median(a for a, _ in loads):.3f} s; tokenizers {statistics.median(b for _, b in loads):.3f} s")
        for threads in ours:
            ratio = statistics.median(b / a for a, b in zip(ours[threads], theirs[threads]))
            a, b = statistics.median(ours[threads]), statistics.median(theirs[threads])
            print(f"{threads} threads: {given.megabytes / a:.1f} MB/s; tokenizers {given.megabytes / b:.1f} MB/s; ratio {ratio:.2f} (median of {given.pairs} pairs)")


main()
