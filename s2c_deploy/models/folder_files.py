"""Files of a model's folder: read without following links, parsed within bounds, and fitted to a module."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from s2c_deploy.errors import ExportError, InputError, OutOfMemoryError
from s2c_deploy.inside import read_file
from s2c_deploy.models.tensor_files import parse_safetensors

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CALIBRATION = "calibration."
#: Bytes of a recipe, and of weights beside eight for every parameter.
_MOST_RECIPE, _MOST_BESIDE = 2**20, 2**27
MOST_CHANNELS = 2**16
#: Tensors that a message names one by one.
_MOST_LISTED = 200


def read_recipe(folder: Path, name: str) -> bytes:
    """The bytes of a recipe; InputError where it cannot be read, or is none by its size."""
    return _read(folder, name, _MOST_RECIPE)


def parse_recipe(data: bytes) -> dict[str, Any]:
    """Its tables as a manifest can hold them; ValueError, RecursionError for what is no TOML."""
    values: dict[str, Any] = _json_values(tomllib.loads(data.decode("utf-8")))
    return values


def read_weights(folder: Path, name: str, module: nn.Module) -> dict[str, Tensor]:
    """The tensors of a file of ``module``'s weights, whatever they are; InputError, OutOfMemoryError."""
    most = 8 * sum(tensor.numel() for tensor in module.state_dict().values()) + _MOST_BESIDE
    return parse_safetensors(str(folder / name), _read(folder, name, most))


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


def fill(model: nn.Module, found: Mapping[str, Tensor], ranges: Mapping[str, Tensor] | None = None) -> None:
    """Gives a module these tensors; ExportError lists all that do not fit, and ranges that are none.

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
        for name, tensor in sorted((ranges or {}).items())
        if tensor.dim() != 1 or tensor.numel() > MOST_CHANNELS
    ][:_MOST_LISTED]
    sound = {n: t for n, t in (ranges or {}).items() if t.dim() == 1 and t.numel() <= MOST_CHANNELS}
    channels = {CALIBRATION + n: t.float() for n, t in sound.items()}
    everything = sorted({**fitting, **channels}.items())
    problems += [f"{name}: not finite" for name, tensor in everything if not torch.isfinite(tensor).all()]
    if problems:
        raise ExportError(f"{len(problems)} tensors do not fit the model:\n  " + "\n  ".join(problems))
    model.load_state_dict(fitting)


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, dtypes, shapes and values, whatever the order and the file around them."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # As bytes, since numpy has no bfloat16.
        digest.update(tensor.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
