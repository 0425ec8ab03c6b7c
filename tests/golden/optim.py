"""Reference values for engine/optim: transformers' schedules, and torch.optim on a small vector.

    python tests/golden/optim.py        # with torch 2.11.0 and transformers 5.23.0; writes optim.json

Inputs are made from integers, so that the tests make the same ones.
"""
import json
import pathlib

import torch
from transformers import (get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup,
                          get_linear_schedule_with_warmup)

OUT = pathlib.Path(__file__).with_name("optim.json")
COUNT, STEPS, LR = 300, 6, 0.01


def noise(seed, count):
    """((seed·131 + i·7919) mod 1009) / 1009 − 0.5, rounded to fp32."""
    i = torch.arange(count, dtype=torch.int64)
    return (((seed * 131 + i * 7919) % 1009).double() / 1009 - 0.5).float()


def rates(build, warmup, total):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.3)
    extra = {} if build is get_constant_schedule_with_warmup else {"num_training_steps": total}
    schedule = build(optimizer, num_warmup_steps=warmup, **extra)
    values = []
    for _ in range(total):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return values


def trajectory(build, **options):
    """The vector after each step, in fp64 from fp32 inputs: what fp32 implementations should come close to."""
    parameter = torch.nn.Parameter(noise(0, COUNT).double())
    optimizer = build([parameter], lr=LR, **options)
    values = []
    for step in range(1, STEPS + 1):
        parameter.grad = noise(step, COUNT).double()
        optimizer.step()
        values.append(parameter.detach().tolist())
    return values[-1]


def main():
    kinds = {"constant": get_constant_schedule_with_warmup, "linear": get_linear_schedule_with_warmup,
             "cosine": get_cosine_schedule_with_warmup}
    schedules = [{"kind": kind, "warmup": warmup, "total": total, "rates": rates(build, warmup, total)}
                 for kind, build in kinds.items() for warmup, total in ((0, 7), (3, 20), (5, 5))]
    trajectories = {
        "adamw": trajectory(torch.optim.AdamW, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.1),
        "sgd": trajectory(torch.optim.SGD),
        "sgd_momentum": trajectory(torch.optim.SGD, momentum=0.9),
    }
    OUT.write_text(json.dumps({"schedules": schedules, "trajectories": trajectories}) + "\n")


if __name__ == "__main__":
    main()
