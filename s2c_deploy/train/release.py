"""From a training run to the folder that ``export`` reads: float16 weights, calibrated ranges, a recipe."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from s2c_deploy.files import atomic_write, write_text
from s2c_deploy.models import S2CModel
from s2c_deploy.models.checkpoint import RECIPE, WEIGHTS
from s2c_deploy.models.folder_files import CALIBRATION
from s2c_deploy.models.synthesis_files import synthesis_files
from s2c_deploy.presets import OBJECTIVES, ModelConfig
from s2c_deploy.quantize import activation_ranges
from s2c_deploy.train.data import Pictures
from s2c_deploy.train.settings import SynthesisOnly
from s2c_deploy.train.validation import middle

CALIBRATION_PICTURES = 16


def calibrate(model: S2CModel, pictures: Pictures) -> dict[str, Tensor]:
    """Ranges of a model's activations on some training pictures, evenly spread."""
    return activation_ranges(model, _some(model, pictures))


@torch.no_grad()
def latents_of(model: S2CModel, pictures: Pictures) -> Iterator[Tensor]:
    """What a g_s is given of the same pictures at every quality, 1 x M x h x w each."""
    for x in _some(model, pictures):
        for level in torch.arange(model.config.levels)[:, None]:
            yield model.latents(x, level)[0] * model.inverse_gain(level)


def _some(model: S2CModel, pictures: Pictures) -> Iterator[Tensor]:
    device = next(model.parameters()).device
    for i in np.linspace(0, len(pictures.training) - 1, CALIBRATION_PICTURES, dtype=int):
        yield middle(pictures.cache.picture(pictures.training[int(i)])).to(device)


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


def release_synthesis(
    out: Path,
    only: SynthesisOnly,
    weights: Mapping[str, Tensor],
    training: Mapping[str, object],
    validation: Sequence[Mapping[str, float]],
) -> None:
    """Writes ``out/g_s.NAME.safetensors`` and ``out/g_s.NAME.toml``, to be laid beside the model's own weights."""
    shape = only.shape
    tensors = {name: tensor.cpu().half().contiguous() for name, tensor in weights.items() if name.startswith("g_s.")}
    last = max((row["step"] for row in validation), default=0)
    held_out = {f"quality_{row['quality']:.0f}": row["psnr"] for row in validation if row["step"] == last}
    tables: dict[str, Mapping[str, object]] = {
        "synthesis": {**asdict(shape), "weights_sha256": only.weights_sha256},
        "training": training,
        "held_out_psnr": held_out,
    }
    head = f"# {shape.name}: another g_s for the latents of these weights (read by s2c-deploy export)."
    weights_file, recipe_file = synthesis_files(shape.name)
    with atomic_write(out / weights_file) as temporary:
        temporary.write_bytes(save(tensors))
    write_text(out / recipe_file, _toml(head, tables))


def _recipe(config: ModelConfig, training: Mapping[str, object]) -> str:
    model: dict[str, object] = {
        name: getattr(config, name) for name in ("variant", "preset", "aggregation", "spatial_norm", "objective")
    }
    if config.operand_bits != ModelConfig.operand_bits:
        model["operand_bits"] = config.operand_bits
    if config.lmbdas != OBJECTIVES[config.objective]:
        model["lmbdas"] = list(config.lmbdas)
    tables = {"model": model, "training": training, "calibration": {"pictures": CALIBRATION_PICTURES}}
    return _toml(f"# {config.name}: the model, and how its weights came about (read by s2c-deploy export).", tables)


def _toml(head: str, tables: Mapping[str, Mapping[str, object]]) -> str:
    """Strings, numbers, booleans and lists, which are written the same in TOML as in JSON."""
    lines = [head]
    for table, values in tables.items():
        lines += ["", f"[{table}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    return "\n".join(lines) + "\n"
