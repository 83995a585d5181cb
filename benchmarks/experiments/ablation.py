"""The paper's question, with our data: how much do spatial interaction and channel aggregation each matter?

    python -m benchmarks.experiments.ablation --data PHOTOS --runs runs/ablation --steps 2000 [--from export/conv-tiny]
        [--only MODEL,…] [--out FILE.json]

Trains identity, conv, attention and hybrid with each channel aggregation, and conv with a norm before its convolution,
at ``tiny``, for the same steps on the same crops; then compares them on the same held-out pictures.  Every run resumes,
so the command can be stopped and repeated.  From nothing, some thousand steps mostly teach the entropy model its rates;
--from takes all but the blocks from trained weights, so that what differs is what the blocks are worth.  Weights that
favour no kind of block are the Karhunen-Loeve transform with an entropy model trained on it:

    s2c-deploy train PHOTOS --variant identity --entropy-steps 500 --steps 500 --optimizer adam --learning-rate 1e-3
        --exact-from 1 --out runs/ablation-trunk

Keep crops at 128 or above: with 64, h_a and the contexts see little but padding, and the rates of whole pictures rise.

cost: the mean over the eight qualities of (lmbda * 255^2 * MSE + bpp) / sqrt(lmbda / median lmbda), what training
minimises, with the MSE of the mean PSNR.  BD-rate: against S2C-Conv with ``glu``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from s2c_deploy.errors import InputError
from s2c_deploy.metrics import bd_rate
from s2c_deploy.models import S2CModel
from s2c_deploy.models.checkpoint import Checkpoint, load_checkpoint
from s2c_deploy.models.cost import count_cost
from s2c_deploy.presets import CHANNEL_AGGREGATIONS, VARIANTS, ModelConfig, model_config
from s2c_deploy.train import TrainSettings, hold_out, open_cache, train
from s2c_deploy.train.data import Pictures
from s2c_deploy.train.log import Row
from s2c_deploy.train.optimizer import OPTIMIZERS

BASELINE = "conv-glu"
Choice = TypeVar("Choice")


def candidates() -> dict[str, ModelConfig]:
    """Every model of the ablation, by name."""
    models = {
        f"{variant}-{aggregation}": model_config(variant, "tiny", aggregation=aggregation)
        for variant in VARIANTS
        for aggregation in CHANNEL_AGGREGATIONS
    }
    return models | {f"{BASELINE}-norm": replace(models[BASELINE], spatial_norm=True)}


def balanced_cost(points: list[Row], lmbdas: tuple[float, ...], exponent: float) -> float:
    """The cost of a curve as the module's docstring defines it."""
    lmbda = np.array(lmbdas)
    mse = 10 ** (-np.array([p["psnr"] for p in points]) / 10)
    cost = lmbda * 255**2 * mse + np.array([p["bpp"] for p in points])
    return float(np.mean(cost / (lmbda / np.median(lmbda)) ** exponent))


def against(anchor: list[Row], points: list[Row]) -> float | None:
    """BD-rate in percent; None where the curves do not compare (after few steps they may not rise)."""
    try:
        bpp, psnr = ([[p[key] for p in curve] for curve in (anchor, points)] for key in ("bpp", "psnr"))
        return bd_rate(bpp[0], psnr[0], bpp[1], psnr[1])
    except InputError:
        return None


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Spatial interaction x channel aggregation, at equal steps.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--cache", type=Path, help="decoded pictures, shared with other runs [default: in --runs]")
    parser.add_argument("--from", dest="start", type=Path, help="a model folder: everything but its blocks")
    parser.add_argument("--only", default="", help="some of the models, with commas between")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="soap")
    parser.add_argument("--learning-rate", type=float, default=5e-4, help="one that all of them bear")
    parser.add_argument("--held-out", type=int, default=16)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def among(only: str, choices: Mapping[str, Choice]) -> dict[str, Choice]:
    """All choices, or those named, with commas between; SystemExit for a name that is none of theirs."""
    names = only.split(",") if only else list(choices)
    for name in names:
        if name not in choices:
            raise SystemExit(f"--only: expected {', '.join(choices)}; found {name}")
    return {name: choices[name] for name in names}


def chosen(only: str) -> dict[str, ModelConfig]:
    """Of the candidates, as ``among``."""
    return among(only, candidates())


def short_run(
    steps: int, *, batch: int, crop: int, optimizer: str, learning_rate: float, bfloat16: bool = False, seed: int = 0
) -> TrainSettings:
    """Settings of a run that is compared with others: crops of one size, no integers, a look at its end."""
    return TrainSettings(
        steps=steps,
        batch=batch,
        crop=crop,
        last_crop=crop,
        optimizer=optimizer,
        learning_rate=learning_rate,
        bfloat16=bfloat16,
        seed=seed,
        warmup=min(200, steps // 10),
        validate_every=steps,
        exact_from=1.0,
    )


def trunk(config: ModelConfig, start: Checkpoint, seed: int) -> dict[str, Tensor]:
    """A new model's state dict with everything but its blocks from ``start``."""
    torch.manual_seed(seed)
    state = S2CModel(config).state_dict()
    trained = start.model.state_dict()
    return {n: t if re.match(r"g_[as]\.\d+\.(spatial|aggregation)\.", n) else trained[n] for n, t in state.items()}


def compare(
    models: dict[str, ModelConfig],
    settings: TrainSettings,
    pictures: Pictures,
    runs: Path,
    start: Checkpoint | None = None,
) -> list[dict[str, Any]] | None:
    """Trains what is not trained yet; the models by rising cost, or None if a run was stopped."""
    results: list[dict[str, Any]] = []
    for number, (name, config) in enumerate(models.items(), 1):
        print(f"{number} of {len(models)}: {name}", file=sys.stderr, flush=True)
        initial = None if start is None else trunk(config, start, settings.seed)
        result = train(config, settings, pictures, runs / name, initial=initial)
        if result is None or not result.finished:
            return None
        parts = count_cost(config)
        results.append(
            {
                "model": name,
                "parameters": sum(part.parameters for part in parts),
                "kmac_per_pixel": round(sum(part.kmac_per_pixel for part in parts), 1),
                "cost": balanced_cost(result.validation, config.lmbdas, settings.lmbda_weight),
                "curve": result.validation,
            }
        )
    anchor = next((r["curve"] for r in results if r["model"] == BASELINE), None)
    for r in results:
        r["bd_rate"] = None if anchor is None else against(anchor, r["curve"])
    return sorted(results, key=lambda r: float(r["cost"]))


def table(results: list[dict[str, Any]]) -> str:
    """As Markdown."""
    lines = [f"| model | parameters M | kMAC/px | cost | BD-rate against {BASELINE} |", "|---|---|---|---|---|"]
    for r in results:
        bd = "-" if r["bd_rate"] is None else f"{r['bd_rate']:+.1f} %"
        lines.append(f"| {r['model']} | {r['parameters'] / 1e6:.2f} | {r['kmac_per_pixel']} | {r['cost']:.3f} | {bd} |")
    return "\n".join(lines)


def main() -> None:
    arguments = parse()
    models = chosen(arguments.only)
    arguments.runs.mkdir(parents=True, exist_ok=True)
    cache = arguments.cache or arguments.runs / "pictures.u8"
    pictures = hold_out(open_cache(arguments.data, cache), arguments.held_out)
    settings = short_run(
        arguments.steps,
        batch=arguments.batch,
        crop=arguments.crop,
        optimizer=arguments.optimizer,
        learning_rate=arguments.learning_rate,
    )
    start = None if arguments.start is None else load_checkpoint(arguments.start)
    results = compare(models, settings, pictures, arguments.runs, start)
    if results is None:
        return
    print(table(results))
    if arguments.out is not None:
        asked = {name: getattr(settings, name) for name in ("steps", "batch", "crop", "optimizer", "learning_rate")}
        begun = None if start is None else start.sha256
        record = {**asked, "from": begun, "torch": torch.__version__, "threads": torch.get_num_threads()}
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(record | {"results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
