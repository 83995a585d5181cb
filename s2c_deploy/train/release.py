"""From a training run to the folder that ``export`` reads: float16 weights, calibrated ranges, a recipe."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from safetensors.torch import save
from torch import Tensor

from s2c_deploy.files import atomic_write
from s2c_deploy.models import S2CModel
from s2c_deploy.models.checkpoint import CALIBRATION, RECIPE, WEIGHTS
from s2c_deploy.presets import OBJECTIVES, ModelConfig
from s2c_deploy.quantize import activation_ranges
from s2c_deploy.train.data import Pictures
from s2c_deploy.train.validation import middle

CALIBRATION_PICTURES = 16


def calibrate(model: S2CModel, pictures: Pictures) -> dict[str, Tensor]:
    """Ranges of a model's activations on some training pictures, evenly spread."""
    chosen = np.linspace(0, len(pictures.training) - 1, CALIBRATION_PICTURES, dtype=int)
    device = next(model.parameters()).device

    def batches() -> Iterator[Tensor]:
        for i in chosen:
            yield middle(pictures.cache.picture(pictures.training[int(i)])).to(device)

    return activation_ranges(model, batches())


def release(
    out: Path,
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    ranges: Mapping[str, Tensor],
    training: Mapping[str, object],
) -> None:
    """Writes ``out/weights.safetensors`` and ``out/recipe.toml``.

    ranges: those that the weights were fine-tuned with, or else ``calibrate``'s.  training: what the recipe tells.
    """
    tensors = {name: tensor.cpu().half() for name, tensor in weights.items()}
    tensors |= {CALIBRATION + name: tensor.cpu().float().clone() for name, tensor in ranges.items()}
    with atomic_write(out / WEIGHTS) as temporary:
        temporary.write_bytes(save({name: tensor.contiguous() for name, tensor in tensors.items()}))
    with atomic_write(out / RECIPE) as temporary:
        temporary.write_text(_recipe(config, training), encoding="utf-8")


def _recipe(config: ModelConfig, training: Mapping[str, object]) -> str:
    model: dict[str, object] = {
        name: getattr(config, name) for name in ("variant", "preset", "aggregation", "spatial_norm", "objective")
    }
    if config.lmbdas != OBJECTIVES[config.objective]:
        model["lmbdas"] = list(config.lmbdas)
    # Strings, numbers, booleans and lists are written the same in TOML as in JSON.
    tables = {"model": model, "training": training, "calibration": {"pictures": CALIBRATION_PICTURES}}
    lines = [f"# {config.name}: the model, and how its weights came about (read by s2c-deploy export)."]
    for table, values in tables.items():
        lines += ["", f"[{table}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    return "\n".join(lines) + "\n"
