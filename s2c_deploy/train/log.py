"""What a run did: log.csv, validation.csv and a plot of both."""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from s2c_deploy.files import atomic_write

if TYPE_CHECKING:
    from s2c_deploy.train.objective import Cost

LOG, VALIDATION, PLOT = "log.csv", "validation.csv", "run.png"
LOG_EVERY = 50
LOG_FIELDS = ("step", "seconds_per_step", "learning_rate", "loss", "psnr", "bpp")
VALIDATION_FIELDS = ("step", "quality", "bpp", "psnr")
Row = dict[str, float]


@dataclass
class TrainingLog:
    """Rows of means over LOG_EVERY steps, the last one over what is left.

    Kept with the saved state, so that a resumed run's log has no seam.
    """

    rows: list[Row] = field(default_factory=list)
    sums: list[list[float]] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def add(self, cost: Cost, *, rate: float, step: int, last: bool) -> None:
        """Counts one step's samples; ``last``: no other step follows."""
        psnr = -10 * cost.mse.detach().log10()
        self.sums.append([float(v.detach().mean()) for v in (cost.loss, psnr, cost.bpp)])
        if (step + 1) % LOG_EVERY and not last:
            return
        loss, decibels, bpp = np.mean(self.sums, axis=0).tolist()
        now = time.perf_counter()
        seconds = (now - self.started) / len(self.sums)
        numbers = {"loss": loss, "psnr": decibels, "bpp": bpp}
        self.rows.append(
            {"step": step + 1, "seconds_per_step": round(seconds, 4), "learning_rate": float(f"{rate:.3g}")}
            | {name: round(value, 4) for name, value in numbers.items()}
        )
        self.sums, self.started = [], now


def write_rows(file: Path, rows: list[Row]) -> None:
    """A CSV of equal rows, replaced whole."""
    if not rows:
        return
    with atomic_write(file) as temporary, temporary.open("w", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def plot_run(out: Path, log: list[Row], validation: list[Row], title: str) -> None:
    """``out/run.png``: loss, rate and PSNR over steps, and the held-out pictures' rate-distortion curves.

    Does nothing where matplotlib is not installed: a plot is no reason to lose a run.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = [row["step"] for row in log]
    left.semilogy(steps, [row["loss"] for row in log], linewidth=1)
    left.set(xlabel="step", ylabel="loss: lmbda * distortion + bpp", title=title)
    left.grid(alpha=0.3)
    for step in sorted({row["step"] for row in validation}):
        points = [row for row in validation if row["step"] == step]
        right.plot([p["bpp"] for p in points], [p["psnr"] for p in points], ".-", label=f"step {step:,.0f}")
    right.set(xlabel="bits per pixel", ylabel="PSNR (dB)", title="held-out pictures")
    right.grid(alpha=0.3)
    if validation:
        right.legend(fontsize="small")
    with atomic_write(out / PLOT) as temporary:
        figure.savefig(temporary, dpi=110)
