"""Shared by the peers: the tokens of a step, probes of time and memory, FLOP counts."""
import os
import time

import numpy as np

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
LORA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def peak_mib():
    """VmHWM of this process, MiB: the most that was ever resident, mapped files included."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


def now():
    """Seconds on CLOCK_BOOTTIME, which is the same for every process of the machine."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def tokens(start, shape, vocab):
    """Fixed pseudo-random ids, easy to repeat in any language (unsigned 64-bit, wrapping):
    x = i*6364136223846793005 + 1442695040888963407; id = (x ^ (x >> 33)) % vocab."""
    i = np.arange(start, start + int(np.prod(shape)), dtype=np.uint64)
    x = i * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
    return ((x ^ (x >> np.uint64(33))) % np.uint64(vocab)).astype(np.int64).reshape(shape)


def step_flops(config, batch, seq, mode, rank=16):
    """Model FLOPs of one forward and backward from a config.json (a dict): causal attention halved, nothing counted
    that is computed twice, no gradient of what is frozen."""
    d, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    head_dim = config.get("head_dim") or d // config["num_attention_heads"]
    q, kv = config["num_attention_heads"] * head_dim, config["num_key_value_heads"] * head_dim
    base = layers * (2 * d * q + 2 * d * kv + 3 * d * inner) + d * config["vocab_size"]
    lora = layers * rank * (2 * (d + q) + 2 * (d + kv) + 3 * (d + inner))
    attention = 3 * layers * 2 * seq * q
    return batch * seq * (6 * base + attention if mode == "full" else 4 * base + 6 * lora + attention)
