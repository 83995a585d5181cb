"""A trained model: the folder ``export/<variant>/`` (recipe.toml, weights.safetensors, a model card), or a file.

recipe.toml names the model and how it was trained; weights.safetensors holds the model's state dict in float16 and
the calibrated activation ranges as ``calibration.*``, so that every machine exports the same integers from it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from s2c_deploy.entropy.tables import Table
from s2c_deploy.errors import InputError
from s2c_deploy.files import status_of
from s2c_deploy.models import S2CModel
from s2c_deploy.models.adapters import adapt, read_tensors
from s2c_deploy.models.folder_files import (
    CALIBRATION,
    fill,
    parse_recipe,
    read_recipe,
    read_weights,
    tensors_sha256,
)
from s2c_deploy.models.synthesis_files import LighterSynthesis, load_syntheses
from s2c_deploy.presets import ModelConfig, model_config

WEIGHTS, RECIPE = "weights.safetensors", "recipe.toml"
_MOST_LEVELS = 64


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A float model in evaluation mode, and what was saved with it."""

    config: ModelConfig
    model: S2CModel
    #: Of activations, by name; empty where none were saved: then the exporter calibrates.
    ranges: Mapping[str, Tensor]
    recipe: Mapping[str, Any]
    #: Of the tensors.
    sha256: str
    #: One per hyper-latent channel, or none where the Gaussian tables serve.
    z_tables: tuple[Table, ...] = ()
    #: Other versions of g_s for the same latents.
    lighter: tuple[LighterSynthesis, ...] = ()


def open_checkpoint(source: Path, *, variant: str, preset: str | None, lmbda: float | None) -> Checkpoint:
    """A trained model from its folder, or from one file, which does not say what model it is.

    variant, lmbda: of a file's model, the latter where it was trained for one trade-off; preset: of a file's model,
    tiny if None, and what a folder must hold, if it is given.  Errors as of the two functions below; InputError for
    a folder of another preset.
    """
    status_of(source)  # what the system will not look at
    if os.path.isfile(source):
        config = model_config(variant, preset or "tiny", lmbdas=None if lmbda is None else (lmbda,))
        return load_file_checkpoint(source, config)
    checkpoint = load_checkpoint(source)
    if preset is not None and checkpoint.config.preset != preset:
        raise InputError(
            f"{source}: expected weights of preset {preset}, found {checkpoint.config.preset}",
            hint="leave --preset out, or name a folder of such weights with --weights",
        )
    return checkpoint


def load_checkpoint(folder: Path) -> Checkpoint:
    """Reads a model folder, which may come from elsewhere: regular files only, no links out of it.

    InputError if it is not one; ExportError lists every missing, unexpected and wrongly shaped tensor at once, or names
    a lighter g_s that belongs to other weights; OutOfMemoryError where memory does not hold it.
    """
    recipe, config = described(folder)
    model = S2CModel(config)
    tensors = read_weights(folder, WEIGHTS, model)
    ranges = {k.removeprefix(CALIBRATION): v for k, v in tensors.items() if k.startswith(CALIBRATION)}
    state = {k: v for k, v in tensors.items() if not k.startswith(CALIBRATION)}
    return Checkpoint(
        config=config,
        model=_filled(model, state, ranges),
        ranges={name: tensor.float() for name, tensor in ranges.items()},
        recipe=recipe,
        sha256=(sha256 := tensors_sha256(tensors)),
        lighter=load_syntheses(folder, config, sha256),
    )


def described(folder: Path) -> tuple[dict[str, Any], ModelConfig]:
    """The recipe of a model folder, and the model that it names; InputError if it is none."""
    recipe_file = read_recipe(folder, RECIPE)
    try:
        recipe = parse_recipe(recipe_file)
        return recipe, _named_config(recipe["model"])
    # ValueError: no TOML, no UTF-8, no number that Python reads.
    except (ValueError, KeyError, TypeError, RecursionError, InputError) as error:
        raise InputError(
            f"{folder / RECIPE}: expected a [model] table with variant and preset: {error!s:.300}"
        ) from error


def load_file_checkpoint(file: Path, config: ModelConfig) -> Checkpoint:
    """Reads a single file from anywhere (see ``adapters``) as a model of the given configuration.

    InputError if it holds no tensors; ExportError lists every missing, unexpected and wrongly shaped one at once;
    OutOfMemoryError where memory does not hold them.
    """
    tensors = read_tensors(file)
    ranges = {k.removeprefix(CALIBRATION): v for k, v in tensors.items() if k.startswith(CALIBRATION)}
    adapted = adapt({k: v for k, v in tensors.items() if not k.startswith(CALIBRATION)}, config)
    return Checkpoint(
        config=config,
        model=_filled(S2CModel(config), adapted.state, ranges),
        ranges={name: tensor.float() for name, tensor in ranges.items()},
        recipe={"weights": file.name},
        sha256=tensors_sha256(tensors),
        z_tables=adapted.z_tables,
    )


def _named_config(named: Any) -> ModelConfig:
    """The [model] table's configuration; TypeError, InputError."""
    config = model_config(**named)
    levels = named.get("lmbdas", [1.0])
    if not isinstance(levels, list) or not 1 <= len(levels) <= _MOST_LEVELS:
        raise TypeError(f"lmbdas: expected a list of 1 to {_MOST_LEVELS}, found {levels!r:.80}")
    if not all(type(level) in (int, float) and 0 < level < 1e9 for level in levels):
        raise TypeError(f"lmbdas: expected positive numbers, found {levels!r:.80}")
    if not isinstance(config.spatial_norm, bool):
        raise TypeError(f"spatial_norm: expected true or false, found {config.spatial_norm!r:.80}")
    return config


def _filled(model: S2CModel, found: Mapping[str, Tensor], ranges: Mapping[str, Tensor]) -> S2CModel:
    """The model with these tensors, in evaluation mode; ExportError as ``fill``."""
    fill(model, found, ranges)
    return model.eval()
