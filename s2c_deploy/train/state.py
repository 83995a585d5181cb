"""state.pt, everything that a run needs to go on: written whole, and read only where it is whole."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from s2c_deploy.errors import InputError
from s2c_deploy.files import atomic_write, cannot_read, cannot_write, status_of
from s2c_deploy.models.tensor_files import read_file, strange
from s2c_deploy.train.log import LOG_FIELDS, VALIDATION_FIELDS
from s2c_deploy.train.soap import matrix_view

STATE = "state.pt"
VERSION = 1
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "config": dict,
    "settings": dict,
    "model": dict,
    "averages": dict,
    "optimizer": dict,
    "ranges": (dict, type(None)),
    "step": int,
    "log": list,
    "log_sums": list,
    "validation": list,
}


def has_state(out: Path) -> bool:
    """Whether a run was begun in the folder.  InputError where the system will not say, or it is no regular file."""
    found = status_of(out / STATE)
    if found is not None and not stat.S_ISREG(found.st_mode):
        raise InputError(f"{out / STATE}: expected a regular file", hint="remove it, or give another --out")
    return found is not None


def write_state(out: Path, state: Mapping[str, Any]) -> None:
    """Writes state.pt beside the old one, then renames.  InputError where it cannot be written; the old one stays."""
    with atomic_write(out / STATE) as temporary, temporary.open("wb") as file:
        try:
            torch.save({"version": VERSION} | dict(state), file)
        except RuntimeError as error:  # how PyTorch passes on that the disk is full
            raise cannot_write(out / STATE, error) from error


def read_state(out: Path) -> dict[str, Any]:
    """What ``write_state`` wrote, every field of its type.

    Nothing in it is executed.  InputError, which says what to delete, for a file that is cut, damaged, of another
    version or no state at all; OutOfMemoryError where memory does not hold it.
    """
    file = out / STATE
    _check_sums(file)
    try:
        found, _ = read_file(file)
    except InputError as error:
        raise unusable(file, "a training state", error.message) from error
    # The first version did not name itself.
    if not isinstance(found, dict) or found.get("version", 1) != VERSION:
        told = found.get("version") if isinstance(found, dict) else type(found).__name__
        raise unusable(file, f"version {VERSION} of the training state", told)
    for name, kind in _FIELDS.items():
        if not isinstance(found.get(name), kind) or isinstance(found.get(name), bool):
            raise unusable(file, f"a field {name}", type(found.get(name)).__name__)
    for name, fields in (("log", LOG_FIELDS), ("validation", VALIDATION_FIELDS)):
        if not all(_is_row(row, fields) for row in found[name]):
            raise unusable(file, f"rows of {', '.join(fields)} in {name}", "others")
    if not all(isinstance(sums, list) and len(sums) == 3 and all(map(_is_number, sums)) for sums in found["log_sums"]):
        raise unusable(file, "three numbers a step in log_sums", "others")
    return found


def unusable(file: Path, expected: str, found: object) -> InputError:
    """A state that cannot be gone on from."""
    return InputError(
        f"{file}: expected {expected}, found {found!s:.200}",
        hint=f"delete {file} to begin this run anew, or give another --out",
    )


def check_tensors(file: Path, kind: str, found: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> None:
    """InputError unless ``found`` has ``wanted``'s names, with dense real numbers of those shapes."""
    if found.keys() != wanted.keys():
        raise unusable(file, f"the {len(wanted)} tensors of the {kind}", f"{len(found)} others")
    for name, tensor in found.items():
        _check_tensor(file, f"{kind}: {name}", tensor, wanted[name].shape)


def check_ranges(file: Path, found: Mapping[str, Any], wanted: Sequence[str]) -> None:
    """InputError unless it has the wanted ranges, each one number per channel (how many, integers will ask)."""
    if found.keys() != set(wanted):
        raise unusable(file, f"{len(wanted)} ranges", f"{len(found)} others")
    for name, tensor in found.items():
        shape = tensor.shape if isinstance(tensor, Tensor) and tensor.dim() == 1 else torch.Size([0])
        _check_tensor(file, f"ranges: {name}", tensor, shape)


def check_optimizer(
    file: Path, found: Mapping[str, Any], fresh: Mapping[str, Any], parameters: Sequence[Parameter]
) -> None:
    """InputError unless ``found`` is of the optimiser whose state at first is ``fresh``, and of those parameters."""
    soap = "groups" in fresh
    groups = "groups" if soap else "param_groups"
    try:
        if _without_rates(found[groups]) != _without_rates(fresh[groups]):
            raise ValueError("other settings")
        moments = list(_soap_moments(found, parameters) if soap else _adam_moments(found, parameters))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        expected = f"what the optimiser remembers of {len(parameters)} parameters"
        raise unusable(file, expected, f"something else: {error}") from error
    for tensor, shape in moments:
        _check_tensor(file, "optimizer", tensor, shape)


def _check_tensor(file: Path, name: str, tensor: object, shape: torch.Size) -> None:
    if not isinstance(tensor, Tensor) or tensor.is_nested or tensor.shape != shape:
        found = "another" if isinstance(tensor, Tensor) else type(tensor).__name__
        raise unusable(file, f"a tensor {tuple(shape)} in {name}", found)
    if (kind := strange(tensor, 8 * max(1, tensor.numel()))) is not None:
        raise unusable(file, f"dense real numbers in {name}", kind)


def _without_rates(groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of an optimiser's groups of parameters; every step sets its own rate."""
    return [{name: value for name, value in group.items() if name != "lr"} for group in groups]


def _soap_moments(found: Mapping[str, Any], parameters: Sequence[Parameter]) -> Iterator[tuple[Any, torch.Size]]:
    for state, parameter in zip(found["states"], parameters, strict=True):
        if not state:
            continue
        if type(state["step"]) is not int:
            raise TypeError("a step that is no whole number")
        shape = matrix_view(parameter).shape
        yield from ((state[name], shape) for name in ("first", "second"))
        sides = shape if len(shape) > 1 else ()
        for side, *pair in zip(sides, state["products"], state["bases"], strict=True):
            yield from ((tensor, torch.Size([side, side])) for tensor in pair)


def _adam_moments(found: Mapping[str, Any], parameters: Sequence[Parameter]) -> Iterator[tuple[Any, torch.Size]]:
    for number, state in found["state"].items():
        shape = parameters[number].shape
        yield state["step"], torch.Size([])
        yield from ((state[name], shape) for name in ("exp_avg", "exp_avg_sq"))


def _check_sums(file: Path) -> None:
    """PyTorch writes a check sum of every part of the file, but does not look at it."""
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
    except OSError as error:
        raise cannot_read(file, error) from error
    except Exception as error:  # whatever zipfile makes of damaged bytes
        raise unusable(file, "a whole training state", f"a damaged one: {error}") from error
    if damaged is not None:
        raise unusable(file, "a whole training state", f"a damaged one, in {damaged!a}")


def _is_row(row: object, fields: tuple[str, ...]) -> bool:
    return isinstance(row, dict) and tuple(row) == fields and all(map(_is_number, row.values()))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
