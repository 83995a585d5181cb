"""The course of training on held-out pictures, a plot beside every model card that has enough of it.

    python -m benchmarks.held_out [VARIANT ...]

Each point is the BD-rate of the weights of that step against the released ones: how many more bits they need at equal
PSNR.  The pictures are neither trained on nor Kodak's.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s2c_deploy.files import write_bytes
from s2c_deploy.metrics import bd_rate
from s2c_deploy.report.figure import COLORS, rendered

WEIGHTS = Path("export")
#: Points for a plot.
ENOUGH = 4
Rates = list[tuple[float, float]]


def course(path: Path) -> list[tuple[int, Rates]]:
    """Of a validation.csv: steps since the first run's beginning, and the points (bpp, PSNR in dB) there."""
    found: dict[int, Rates] = {}
    before, run, last = 0, "", 0
    with path.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            if line.get("run", "") != run:
                before, run = before + last, line.get("run", "")
            last = int(line["step"])
            found.setdefault(before + last, []).append((float(line["bpp"]), float(line["psnr"])))
    return list(found.items())


def against_the_last(points: Sequence[tuple[int, Rates]]) -> list[tuple[int, float]]:
    """Steps, and BD-rate against the last of them in percent."""
    bpp, psnr = zip(*points[-1][1], strict=True)
    return [(steps, bd_rate(bpp, psnr, [r[0] for r in rates], [r[1] for r in rates])) for steps, rates in points]


def plot(points: Sequence[tuple[int, float]], path: Path) -> None:
    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        axes.plot([p[0] for p in points], [p[1] for p in points], color=COLORS[1], marker="o", linewidth=2)
        axes.set_xlabel("training steps, runs one after another")
        axes.set_ylabel("bits at equal PSNR\nmore than released, %")
        axes.set_xlim(0)
        axes.set_ylim(min(0, *(p[1] for p in points)))
        axes.grid(alpha=0.3)

    write_bytes(path, rendered(draw, "svg", width=6.5, height=2.8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "variants", nargs="*", help="folders of export/; all that have a validation.csv if none is named"
    )
    variants = parser.parse_args().variants
    folders = [WEIGHTS / name for name in variants] or sorted(p.parent for p in WEIGHTS.glob("*/validation.csv"))
    for folder in folders:
        points = against_the_last(course(folder / "validation.csv"))
        if len(points) >= ENOUGH:
            plot(points, folder / f"held_out_{folder.name}.svg")
        print(f"{folder}: " + ", ".join(f"{steps:,}: {rate:+.1f} %" for steps, rate in points))


if __name__ == "__main__":
    main()
