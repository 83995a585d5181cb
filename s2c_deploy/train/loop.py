"""The training loop: one process, variable rate, resumable."""

from __future__ import annotations

import csv
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from s2c_deploy.errors import InputError
from s2c_deploy.models import S2CModel
from s2c_deploy.models.model import rate_distortion_loss
from s2c_deploy.presets import ModelConfig
from s2c_deploy.train.data import PictureCache, random_crops

LOG_EVERY = 50


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """learning_rate is held until decay_from (a fraction of steps), then falls to final_rate along a cosine.

    lmbda_weight: a sample's loss is divided by lmbda^lmbda_weight, so that no quality level outshouts the others.
    bfloat16: autocast; pays where the processor or GPU multiplies bfloat16 in hardware.
    """

    steps: int
    batch: int = 8
    crop: int = 128
    learning_rate: float = 1e-3
    final_rate: float = 1e-5
    warmup: int = 200
    decay_from: float = 0.4
    clip: float = 1.0
    ema_decay: float = 0.999
    lmbda_weight: float = 0.5
    seed: int = 0
    device: str = "cpu"
    bfloat16: bool = False
    save_every: int = 1000


def learning_rate(settings: TrainSettings, step: int) -> float:
    """Rate of a step: linear warm-up, plateau, cosine."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    start = settings.decay_from * settings.steps
    progress = min(max(0.0, (step - start) / max(1.0, settings.steps - start)), 1.0)
    low, high = settings.final_rate, settings.learning_rate
    return low + (high - low) * 0.5 * (1 + math.cos(math.pi * progress))


def train(
    config: ModelConfig,
    settings: TrainSettings,
    cache: PictureCache,
    out: Path,
    *,
    initial: dict[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Trains a model and returns its averaged (EMA) weights; continues from ``out/state.pt`` when that exists.

    Writes ``out/state.pt`` (everything needed to go on) and ``out/log.csv``.  ``initial``: weights to start from.
    """
    torch.manual_seed(settings.seed)
    run = _Run(config, settings, out, initial)
    crops = random_crops(
        cache, batch=settings.batch, crop=settings.crop, rng=np.random.default_rng([settings.seed, run.step])
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task(config.name, total=settings.steps, completed=run.step)
        while run.step < settings.steps:
            run.one_step(torch.from_numpy(next(crops)))
            progress.update(task, completed=run.step)
            if run.step % settings.save_every == 0:
                run.save()
    run.save()
    return run.ema


class _Run:
    """Model, optimiser, averages and log of one run."""

    def __init__(
        self, config: ModelConfig, settings: TrainSettings, out: Path, initial: dict[str, Tensor] | None
    ) -> None:
        self.settings = settings
        self.out = out
        self.model = S2CModel(config).to(settings.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        if initial is not None:
            self.model.load_state_dict(initial)
        self.ema = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=settings.learning_rate, fused=True)
        self.lmbdas = torch.tensor(config.lmbdas, device=settings.device)
        self.step = 0
        self.sums = np.zeros(3)
        self.started = time.perf_counter()
        out.mkdir(parents=True, exist_ok=True)
        if (out / "state.pt").exists():
            self._resume(config)

    def _resume(self, config: ModelConfig) -> None:
        state: dict[str, Any] = torch.load(self.out / "state.pt", weights_only=True)
        if state["config"] != repr(config):
            raise InputError(
                f"{self.out} holds a run of another model: expected {config!r}, found {state['config']}",
                hint="give another --out",
            )
        self.model.load_state_dict(state["model"])
        self.ema = state["ema"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        torch.set_rng_state(state["random"])

    def one_step(self, crops: Tensor) -> None:
        """One optimiser step; each sample draws its own quality level."""
        settings = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, self.step)
        x = crops.to(settings.device).contiguous(memory_format=torch.channels_last)
        levels = torch.randint(len(self.lmbdas), (x.shape[0],)).to(settings.device)
        lmbdas = self.lmbdas[levels]
        with torch.autocast(settings.device, dtype=torch.bfloat16, enabled=settings.bfloat16):
            output = self.model(x, levels)
        loss, mse, bpp = rate_distortion_loss(output, x, lmbdas)
        weights = (self.lmbdas.median() / lmbdas) ** settings.lmbda_weight
        self.optimizer.zero_grad(set_to_none=True)
        (loss * weights).mean().backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        if torch.isfinite(norm):
            self.optimizer.step()
        self._average()
        self.step += 1
        self._log(loss, mse, bpp)

    def _average(self) -> None:
        # A short memory at first: the average must not be dominated by the random start.
        decay = min(self.settings.ema_decay, (1 + self.step) / (10 + self.step))
        averages = list(self.ema.values())
        torch._foreach_lerp_(averages, [p.detach() for p in self.model.state_dict().values()], 1 - decay)

    def _log(self, loss: Tensor, mse: Tensor, bpp: Tensor) -> None:
        self.sums += [
            float(loss.detach().mean()),
            float((-10 * mse.detach().log10()).mean()),
            float(bpp.detach().mean()),
        ]
        if self.step % LOG_EVERY:
            return
        means, self.sums = self.sums / LOG_EVERY, np.zeros(3)
        path = self.out / "log.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", "seconds", "learning_rate", "loss", "psnr", "bpp"])
            seconds = time.perf_counter() - self.started
            rate = learning_rate(self.settings, self.step - 1)
            writer.writerow([self.step, f"{seconds:.1f}", f"{rate:.2e}", *(f"{m:.4f}" for m in means)])

    def save(self) -> None:
        """Writes state.pt beside the old one, then renames."""
        state = {
            "config": repr(self.model.config),
            "settings": asdict(self.settings),
            "model": self.model.state_dict(),
            "ema": self.ema,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "random": torch.get_rng_state(),
        }
        torch.save(state, self.out / "state.pt.new")
        os.replace(self.out / "state.pt.new", self.out / "state.pt")
