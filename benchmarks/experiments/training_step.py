"""Where a training step's time goes: forward, backward and the optimiser, in float32 and in bfloat16.

    python -m benchmarks.experiments.training_step [--weights export/conv] [--crop 256] [--batch 4] [--rounds 10]

The third row has PyTorch's own depthwise convolutions (``s2c_deploy.models.depthwise`` says why training has others).
All take turns.  Crops are noise: a step's cost does not depend on them.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from torch import nn

from s2c_deploy.models import S2CModel
from s2c_deploy.models.checkpoint import load_checkpoint
from s2c_deploy.models.depthwise import DepthwiseConv
from s2c_deploy.report.environment import processor
from s2c_deploy.report.table import Table, markdown
from s2c_deploy.train.objective import balanced, rate_distortion_cost
from s2c_deploy.train.optimizer import Optimizer, make_optimizer

PARTS = ("forward", "backward", "optimiser")
WAYS = ("float32", "bfloat16", "bfloat16, PyTorch's depthwise")


class Trainer:
    """A model in one of ``WAYS``, with its optimiser."""

    def __init__(self, weights: Path, way: str) -> None:
        self.bfloat16 = way != "float32"
        self.model: S2CModel = load_checkpoint(weights).model
        if way == WAYS[2]:
            for module in self.model.modules():
                if isinstance(module, DepthwiseConv):
                    module.__class__ = nn.Conv2d  # type: ignore[assignment]
        self.model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.optimizer: Optimizer = make_optimizer("soap", self.model.parameters(), 1e-6, bfloat16=self.bfloat16)

    def step(self, x: torch.Tensor, levels: torch.Tensor) -> list[float]:
        """Seconds of each of ``PARTS``."""
        lmbdas = torch.tensor(self.model.config.lmbdas)
        times = [time.perf_counter()]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bfloat16):
            output = self.model(x, levels)
        cost = rate_distortion_cost(output, x, lmbdas[levels])
        loss = balanced(cost.loss, lmbdas[levels], lmbdas, 0.5)
        times.append(time.perf_counter())
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        times.append(time.perf_counter())
        self.optimizer.step()
        times.append(time.perf_counter())
        return [after - before for before, after in pairwise(times)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Where a training step's time goes.")
    parser.add_argument("--weights", type=Path, default=Path("export/conv"))
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10, help="steps of each; the optimiser's dearest is every tenth")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    x = torch.rand(arguments.batch, 3, arguments.crop, arguments.crop).contiguous(memory_format=torch.channels_last)
    trainers = {way: Trainer(arguments.weights, way) for way in WAYS}
    levels = torch.arange(arguments.batch) % 8
    seconds: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    for round_ in range(arguments.rounds + 2):
        for way, trainer in trainers.items():
            taken = trainer.step(x, levels)
            if round_ >= 2:  # the first ones allocate
                seconds[way].append(taken)
    rows = []
    for way in WAYS:
        parts = [median(part) for part in zip(*seconds[way], strict=True)]
        rows.append((way, *(f"{part:.2f}" for part in (*parts, sum(parts)))))
    print(f"{arguments.batch} crops of {arguments.crop}, {arguments.threads} threads, {processor()}; seconds\n")
    print(markdown(Table(title="step", columns=("way", *PARTS, "all"), rows=tuple(rows))))


if __name__ == "__main__":
    main()
