"""Reference values for engine/optim: transformers' schedules and Adafactor, torch.optim, and Lion's published update,
on small matrices.

    python tests/golden/optim.py        # with torch 2.11.0 and transformers 5.23.0; writes optim.json

Inputs are made from integers, so that the tests make the same ones. Of matrices every fifth value is kept.
"""
import json
import pathlib

import torch
from transformers import (Adafactor, get_constant_schedule_with_warmup,
                          get_cosine_schedule_with_warmup, get_cosine_with_hard_restarts_schedule_with_warmup,
                          get_cosine_with_min_lr_schedule_with_warmup, get_inverse_sqrt_schedule,
                          get_linear_schedule_with_warmup, get_wsd_schedule)

OUT = pathlib.Path(__file__).with_name("optim.json")
COUNT, STEPS, LR = 300, 6, 0.01
ROWS, COLUMNS, MATRIX_STEPS = 24, 40, 12  # 960 elements: ranks that own multiples of 256 cut rows


def noise(seed, count):
    """((seed·131 + i·7919) mod 1009) / 1009 − 0.5, rounded to fp32."""
    i = torch.arange(count, dtype=torch.int64)
    return (((seed * 131 + i * 7919) % 1009).double() / 1009 - 0.5).float()


def rates(build, total, **options):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.3)
    schedule = build(optimizer, **options)
    values = []
    for _ in range(total):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return values


def schedule_rows():
    """What the plan's schedule block is, and transformers' rates for it."""
    rows = []
    for warmup, total in ((0, 7), (3, 20), (5, 5)):
        steps = {"num_warmup_steps": warmup, "num_training_steps": total}
        add = lambda block, build, **options: rows.append(
            {"block": {**block, "warmup": warmup}, "total": total, "rates": rates(build, total, **options)})
        add({"kind": "constant"}, get_constant_schedule_with_warmup, num_warmup_steps=warmup)
        add({"kind": "linear"}, get_linear_schedule_with_warmup, **steps)
        add({"kind": "cosine"}, get_cosine_schedule_with_warmup, **steps)
        add({"kind": "cosine", "min_lr_ratio": 0.1}, get_cosine_with_min_lr_schedule_with_warmup, min_lr_rate=0.1,
            **steps)
        add({"kind": "cosine", "cycles": 3}, get_cosine_with_hard_restarts_schedule_with_warmup, num_cycles=3, **steps)
        add({"kind": "inverse_sqrt"}, get_inverse_sqrt_schedule, num_warmup_steps=warmup)
        add({"kind": "inverse_sqrt", "timescale": 50}, get_inverse_sqrt_schedule, num_warmup_steps=warmup,
            timescale=50)
        for shape in ("linear", "cosine", "1-sqrt"):
            if warmup + 2 > total:
                continue
            add({"kind": "wsd", "decay": 2, "decay_type": shape, "min_lr_ratio": 0.05}, get_wsd_schedule,
                num_decay_steps=2, decay_type=shape, min_lr_ratio=0.05, **steps)
    return rows


def trajectory(build, shape=(COUNT,), steps=STEPS, dtype=torch.float64, **options):
    """The parameter after the last step, in fp64 from fp32 inputs: what fp32 implementations should come close to."""
    count = int(torch.tensor(shape).prod())
    parameter = torch.nn.Parameter(noise(0, count).to(dtype).view(shape))
    optimizer = build([parameter], lr=LR, **options)
    for step in range(1, steps + 1):
        parameter.grad = noise(step, count).to(dtype).view(shape)
        optimizer.step()
    return parameter.detach().flatten().tolist()


class Lion(torch.optim.Optimizer):
    """Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023, program 1."""

    def __init__(self, params, lr, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                beta1, beta2 = group["betas"]
                update = (beta1 * m + (1 - beta1) * p.grad).sign()
                p.sub_(group["lr"] * (update + group["weight_decay"] * p))
                m.mul_(beta2).add_(p.grad, alpha=1 - beta2)


class Fp64Muon(torch.optim.Muon):
    """torch.optim.Muon without its rounding to bf16, which would hide all but gross faults."""

    def step(self):
        rounding = torch.Tensor.bfloat16
        torch.Tensor.bfloat16 = lambda x: x.clone()
        try:
            super().step()
        finally:
            torch.Tensor.bfloat16 = rounding


def matrix_trajectories():
    rows = []

    def add(block, build, shape=(ROWS, COLUMNS), **options):
        values = trajectory(build, shape=shape, steps=MATRIX_STEPS, **options)
        rows.append({"block": {**block, "lr": LR}, "shape": list(shape), "values": values})

    def adafactor(params, lr, **options):
        return Adafactor(params, lr=lr, relative_step=False, warmup_init=False, **options)

    add({"kind": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, torch.optim.SGD, momentum=0.9,
        nesterov=True, weight_decay=0.1)
    add({"kind": "sgd", "weight_decay": 0.1}, torch.optim.SGD, weight_decay=0.1)
    add({"kind": "lion", "weight_decay": 0.1}, Lion, weight_decay=0.1)
    add({"kind": "lion", "betas": [0.95, 0.98]}, Lion, betas=(0.95, 0.98))
    add({"kind": "adafactor"}, adafactor, scale_parameter=False)
    add({"kind": "adafactor", "scale_parameter": True, "weight_decay": 0.1}, adafactor, scale_parameter=True,
        weight_decay=0.1)
    add({"kind": "adafactor", "beta1": 0.9, "clip_threshold": 0.5, "decay_rate": -0.7}, adafactor,
        scale_parameter=False, beta1=0.9, clip_threshold=0.5, decay_rate=-0.7)
    add({"kind": "adafactor"}, adafactor, shape=(COUNT,), scale_parameter=False)
    for shape in ((ROWS, COLUMNS), (COLUMNS, ROWS)):
        add({"kind": "muon", "adjust_lr_fn": "original"}, Fp64Muon, shape=shape)
        add({"kind": "muon", "adjust_lr_fn": "match_rms_adamw", "nesterov": False, "momentum": 0.9,
             "weight_decay": 0.0}, Fp64Muon, shape=shape, adjust_lr_fn="match_rms_adamw", nesterov=False, momentum=0.9,
            weight_decay=0.0)
    return rows


def main():
    trajectories = {
        "adamw": trajectory(torch.optim.AdamW, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.1),
        "sgd": trajectory(torch.optim.SGD),
        "sgd_momentum": trajectory(torch.optim.SGD, momentum=0.9),
    }
    bf16_muon = trajectory(torch.optim.Muon, shape=(ROWS, COLUMNS), steps=MATRIX_STEPS, dtype=torch.float32)
    rounded = lambda values: [float(f"{v:.10g}") for v in values]
    OUT.write_text(json.dumps({"schedules": schedule_rows(),
                               "trajectories": {name: rounded(values) for name, values in trajectories.items()},
                               "matrices": [{**row, "values": rounded(row["values"][::5])} for row in matrix_trajectories()],
                               "muon_as_torch_rounds": rounded(bf16_muon[::5])}) + "\n")


if __name__ == "__main__":
    main()
