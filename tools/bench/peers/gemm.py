"""GEMM peak of this machine through torch.matmul. Prints one JSON line: by dtype, the best median over sizes, GFLOP/s."""
import json
import os
import statistics

import torch
from common import now

torch.set_num_threads(os.cpu_count())
peak = {}
for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
    for size in (1024, 2048, 4096):
        x, y = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
        torch.matmul(x, y)
        rates = []
        for _ in range(max(4, min(40, int(3e11 / size**3)))):
            begin = now()
            torch.matmul(x, y)
            rates.append(2 * size**3 / (now() - begin) / 1e9)
        peak[name] = max(peak.get(name, 0), round(statistics.median(rates), 1))
print(json.dumps(peak))
