"""Seconds of an optimiser's step on a model's parameters: pytorch_optimizer's SOAP, ours, and PyTorch's Adam.

    python -m benchmarks.experiments.soap [--weights export/conv] [--threads 2] [--rounds 10]

They take turns, ten steps each, as every tenth of SOAP's turns its bases.  Gradients are random: a step's
cost does not depend on them.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import torch
from pytorch_optimizer import SOAP
from torch import Tensor
from torch.nn import Parameter

from s2c_deploy.models.checkpoint import load_checkpoint
from s2c_deploy.train.optimizer import Optimizer, make_optimizer
from s2c_deploy.train.soap import matrix_view

STEPS = 10


class LibrarySoap:
    """pytorch_optimizer's SOAP on the views that ours takes."""

    def __init__(self, parameters: list[Parameter]) -> None:
        self._views: list[Tensor] = [matrix_view(p.detach()).requires_grad_() for p in parameters]
        for view, parameter in zip(self._views, parameters, strict=True):
            assert parameter.grad is not None
            view.grad = matrix_view(parameter.grad)
        self._soap = SOAP(self._views, lr=1e-6, betas=(0.9, 0.95), weight_decay=0.0)

    def step(self) -> object:
        return self._soap.step()


def parameters_of(weights: Path) -> list[Parameter]:
    """Copies of the model's parameters, channels-last as in training, with gradients."""
    model = load_checkpoint(weights).model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters: list[Parameter] = list(model.parameters())
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter) * 1e-3
    return parameters


def seconds_per_step(optimizer: LibrarySoap | Optimizer) -> float:
    start = time.perf_counter()
    for _ in range(STEPS):
        optimizer.step()
    return (time.perf_counter() - start) / STEPS


def main() -> None:
    parser = argparse.ArgumentParser(description="What a step of SOAP costs.")
    parser.add_argument("--weights", type=Path, default=Path("export/conv"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows: dict[str, LibrarySoap | Optimizer] = {
        "pytorch_optimizer's SOAP": LibrarySoap(parameters_of(arguments.weights)),
        "ours": make_optimizer("soap", parameters_of(arguments.weights), 1e-6),
        "ours, --bfloat16": make_optimizer("soap", parameters_of(arguments.weights), 1e-6, bfloat16=True),
        "Adam": make_optimizer("adam", parameters_of(arguments.weights), 1e-6),
    }
    times: dict[str, list[float]] = {name: [] for name in rows}
    for optimizer in rows.values():
        optimizer.step()
    for _ in range(arguments.rounds):
        for name, optimizer in rows.items():
            times[name].append(seconds_per_step(optimizer))
    slowest = median(next(iter(times.values())))
    for name, values in times.items():
        print(f"{name:>26}{median(values) * 1000:>8.1f} ms{slowest / median(values):>7.2f} x")


if __name__ == "__main__":
    main()
