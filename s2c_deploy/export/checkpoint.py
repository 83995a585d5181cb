"""A trained model: the folder ``export/<variant>/`` (recipe.toml, weights.safetensors, a model card), or a file.

recipe.toml names the model and how it was trained; weights.safetensors holds the model's state dict in float16 and
the calibrated activation ranges as ``calibration.*``, so that every machine exports the same integers from it.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from s2c_deploy.entropy.tables import Table
from s2c_deploy.errors import ExportError, InputError
from s2c_deploy.export.adapters import adapt, read_tensors
from s2c_deploy.models import S2CModel
from s2c_deploy.presets import ModelConfig, model_config

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

WEIGHTS, RECIPE = "weights.safetensors", "recipe.toml"
CALIBRATION = "calibration."


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A float model in evaluation mode, its ranges by name, its recipe, and the SHA-256 of its tensors.

    ranges is empty where none were saved: then the exporter calibrates.  z_tables: one per hyper-latent channel, or
    none where the Gaussian tables serve.
    """

    config: ModelConfig
    model: S2CModel
    ranges: Mapping[str, Tensor]
    recipe: Mapping[str, Any]
    sha256: str
    z_tables: tuple[Table, ...] = ()


def load_checkpoint(folder: Path) -> Checkpoint:
    """Reads a model folder.

    InputError if it is not one; ExportError lists every missing, unexpected and wrongly shaped tensor at once.
    """
    for name in (RECIPE, WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(
                f"no {name} in {folder}", hint="give the folder of a trained model with --weights"
            )
    try:
        recipe = tomllib.loads((folder / RECIPE).read_text(encoding="utf-8"))
        named = recipe["model"]
        config = model_config(**named)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / RECIPE}: expected a [model] table with variant and preset: {error}"
        ) from error
    try:
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{folder / WEIGHTS}: expected safetensors: {error}") from error
    ranges = {k.removeprefix(CALIBRATION): v.float() for k, v in tensors.items() if k.startswith(CALIBRATION)}
    state = {k: v.float() for k, v in tensors.items() if not k.startswith(CALIBRATION)}
    model = S2CModel(config)
    _check_tensors(model.state_dict(), state, ranges)
    model.load_state_dict(state)
    return Checkpoint(
        config=config, model=model.eval(), ranges=ranges, recipe=recipe, sha256=tensors_sha256(tensors)
    )


def load_file_checkpoint(file: Path, config: ModelConfig) -> Checkpoint:
    """Reads a single file from anywhere (see ``adapters``) as a model of the given configuration.

    InputError if it holds no tensors; ExportError lists every missing, unexpected and wrongly shaped one at once.
    """
    tensors = read_tensors(file)
    ranges = {k.removeprefix(CALIBRATION): v.float() for k, v in tensors.items() if k.startswith(CALIBRATION)}
    adapted = adapt({k: v for k, v in tensors.items() if not k.startswith(CALIBRATION)}, config)
    model = S2CModel(config)
    _check_tensors(model.state_dict(), adapted.state, ranges)
    model.load_state_dict(adapted.state)
    return Checkpoint(
        config=config,
        model=model.eval(),
        ranges=ranges,
        recipe={"weights": file.name},
        sha256=tensors_sha256(tensors),
        z_tables=adapted.z_tables,
    )


def _check_tensors(
    wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], ranges: Mapping[str, Tensor]
) -> None:
    problems = [f"missing {name} {tuple(wanted[name].shape)}" for name in sorted(set(wanted) - set(found))]
    problems += [f"unexpected {name}" for name in sorted(set(found) - set(wanted))]
    problems += [
        f"{name}: expected {tuple(wanted[name].shape)}, found {tuple(found[name].shape)}"
        for name in sorted(set(wanted) & set(found))
        if wanted[name].shape != found[name].shape
    ]
    everything = {**found, **{CALIBRATION + name: tensor for name, tensor in ranges.items()}}
    problems += [f"{name}: not finite" for name, t in sorted(everything.items()) if not torch.isfinite(t).all()]
    if problems:
        raise ExportError(f"{len(problems)} tensors do not fit the model:\n  " + "\n  ".join(problems))


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, dtypes, shapes and values, whatever the order and the file around them."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # As bytes, since numpy has no bfloat16.
        digest.update(tensor.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
