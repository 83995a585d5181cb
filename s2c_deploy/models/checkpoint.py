"""A trained model: the folder ``export/<variant>/`` (recipe.toml, weights.safetensors, a model card), or a file.

recipe.toml names the model and how it was trained; weights.safetensors holds the model's state dict in float16 and
the calibrated activation ranges as ``calibration.*``, so that every machine exports the same integers from it.
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s2c_deploy.entropy.tables import Table
from s2c_deploy.errors import ExportError, InputError, OutOfMemoryError
from s2c_deploy.files import status_of
from s2c_deploy.inside import read_file
from s2c_deploy.models import S2CModel
from s2c_deploy.models.adapters import adapt, read_tensors
from s2c_deploy.models.tensor_files import parse_safetensors
from s2c_deploy.presets import ModelConfig, model_config

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

WEIGHTS, RECIPE = "weights.safetensors", "recipe.toml"
CALIBRATION = "calibration."
#: Bytes of a recipe, and of weights.safetensors beside eight for every parameter.
_MOST_RECIPE, _MOST_BESIDE = 2**20, 2**27
_MOST_LEVELS, _MOST_CHANNELS = 64, 2**16
#: Tensors that a message names one by one.
_MOST_LISTED = 200


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

    InputError if it is not one; ExportError lists every missing, unexpected and wrongly shaped tensor at once;
    OutOfMemoryError where memory does not hold it.
    """
    recipe_file = _read(folder, RECIPE, _MOST_RECIPE)
    try:
        recipe = _json_values(tomllib.loads(recipe_file.decode("utf-8")))
        config = _named_config(recipe["model"])
    # ValueError: no TOML, no UTF-8, no number that Python reads.
    except (ValueError, KeyError, TypeError, RecursionError, InputError) as error:
        raise InputError(
            f"{folder / RECIPE}: expected a [model] table with variant and preset: {error!s:.300}"
        ) from error
    model = S2CModel(config)
    most = 8 * sum(tensor.numel() for tensor in model.state_dict().values()) + _MOST_BESIDE
    tensors = parse_safetensors(str(folder / WEIGHTS), _read(folder, WEIGHTS, most))
    ranges = {k.removeprefix(CALIBRATION): v for k, v in tensors.items() if k.startswith(CALIBRATION)}
    state = {k: v for k, v in tensors.items() if not k.startswith(CALIBRATION)}
    return Checkpoint(
        config=config,
        model=_filled(model, state, ranges),
        ranges={name: tensor.float() for name, tensor in ranges.items()},
        recipe=recipe,
        sha256=tensors_sha256(tensors),
    )


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


def _read(folder: Path, name: str, limit: int) -> bytes:
    """A regular file of the folder itself: what lies behind a link is not part of the model."""
    try:
        return read_file(folder, name, limit=limit)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"no {name} in {folder}", hint="give the folder of a trained model with --weights") from None
    except OSError as error:
        raise InputError(
            f"cannot read {folder / name}: {error.strerror}", hint="give the folder of a trained model with --weights"
        ) from error
    except MemoryError as error:
        raise OutOfMemoryError(f"reading {folder / name}") from error


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


def _json_values(value: Any) -> Any:
    """A recipe as a manifest can hold it: dates and infinities as text; ValueError for integers beyond 64 bits."""
    if isinstance(value, dict):
        return {key: _json_values(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_json_values(inner) for inner in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("an integer has more than 64 bits")
    known = isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    return value if known else str(value)


def _filled(model: S2CModel, found: Mapping[str, Tensor], ranges: Mapping[str, Tensor]) -> S2CModel:
    """The model with these tensors, in evaluation mode; ExportError lists all that do not fit.

    Only what has the model's own shape is turned into float32: elsewhere a file could ask for any size.
    """
    wanted = model.state_dict()
    problems = [f"missing {name} {tuple(wanted[name].shape)}" for name in sorted(set(wanted) - set(found))]
    unexpected = sorted(set(found) - set(wanted))
    problems += [f"unexpected {name}" for name in unexpected[:_MOST_LISTED]]
    if len(unexpected) > _MOST_LISTED:
        problems.append(f"unexpected, too: {len(unexpected) - _MOST_LISTED} more")
    misshapen = {n for n in set(wanted) & set(found) if wanted[n].shape != found[n].shape}
    problems += [
        f"{name}: expected {tuple(wanted[name].shape)}, found {tuple(found[name].shape)}" for name in sorted(misshapen)
    ]
    fitting = {name: found[name].float() for name in set(wanted) & set(found) - misshapen}
    problems += [
        f"{CALIBRATION}{name}: expected one value per channel, found {tuple(tensor.shape)}"
        for name, tensor in sorted(ranges.items())
        if tensor.dim() != 1 or tensor.numel() > _MOST_CHANNELS
    ][:_MOST_LISTED]
    channels = {CALIBRATION + n: t.float() for n, t in ranges.items() if t.dim() == 1 and t.numel() <= _MOST_CHANNELS}
    everything = sorted({**fitting, **channels}.items())
    problems += [f"{name}: not finite" for name, tensor in everything if not torch.isfinite(tensor).all()]
    if problems:
        raise ExportError(f"{len(problems)} tensors do not fit the model:\n  " + "\n  ".join(problems))
    model.load_state_dict(fitting)
    return model.eval()


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, dtypes, shapes and values, whatever the order and the file around them."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # As bytes, since numpy has no bfloat16.
        digest.update(tensor.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
