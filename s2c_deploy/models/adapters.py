"""Checkpoints from elsewhere: any file that holds our networks' tensors, to our names.

Understood are .safetensors and PyTorch's .pt, .pth, .pth.tar: a state dict, bare or under a usual key, written from a
module or from one wrapped for several GPUs; of one quality (no gains) or of several; with our index per channel for
the hyper-latent, or with CompressAI's ``entropy_bottleneck`` (a factorised prior), whose distributions become tables.

A ``gaussian_conditional`` must use our scale table: the parameter networks have to predict *indexes* into it, since
no scale can be turned into an index exactly inside networks of sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from s2c_deploy.contract import SCALE_LEVELS, Z_LIMIT
from s2c_deploy.entropy.tables import DEFAULT_SCALES, Table, table_from_pmf
from s2c_deploy.errors import ExportError, InputError
from s2c_deploy.models.model import INDEX_GAIN, SCALE_MIN, SCALE_STEP
from s2c_deploy.models.tensor_files import plain_tensors, read_file
from s2c_deploy.presets import ModelConfig

#: Where training scripts keep the state dict; an average is preferred to the last step.
_NESTED = ("ema", "averages", "state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.", "net.")
_BOTTLENECK, _CONDITIONAL = "entropy_bottleneck.", "gaussian_conditional."
#: A factorised prior's layers are a few values wide (CompressAI's: five layers, 3 wide).
_MOST_LAYERS, _MOST_WIDTH = 16, 64


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """Tensors of another code base under this one's names."""

    #: Our names to tensors as found.
    state: dict[str, Tensor]
    #: One per hyper-latent channel, from a factorised prior.
    z_tables: tuple[Table, ...] = ()


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The state dict of a file, as named there but for the prefixes that wrappers put in front.

    Dense real numbers on the CPU, none of more bytes than the file.  Nothing in it is executed (``weights_only``).
    InputError if there is no such file or nothing usable in it; OutOfMemoryError where memory does not hold it.
    """
    found, size = read_file(file)
    state = plain_tensors(str(file), _state_dict(found), limit=size)
    if not state:
        names = ", ".join(key for key in found if isinstance(key, str)) if isinstance(found, dict) else ""
        raise InputError(f"{file}: expected named tensors, found {(names or type(found).__name__)!a:.200}")
    bare: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if _bare(name) in bare:
            raise InputError(f"{file}: expected one tensor {_bare(name)}, found {name} as well")
        bare[_bare(name)] = tensor
    return bare


def _state_dict(found: Any) -> dict[str, Tensor]:
    """The innermost dict under the usual keys; nothing if they lead in a circle."""
    seen: set[int] = set()
    while isinstance(found, dict) and id(found) not in seen:
        seen.add(id(found))
        inner = next((found[key] for key in _NESTED if isinstance(found.get(key), dict)), None)
        if inner is None:
            return {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, Tensor)}
        found = inner
    return {}


def _bare(name: str) -> str:
    while prefix := next((p for p in _PREFIXES if name.startswith(p)), None):
        name = name.removeprefix(prefix)
    return name


def adapt(tensors: Mapping[str, Tensor], config: ModelConfig) -> Adapted:
    """Our state dict for a configuration; what is missing or strange is left for the loader to list.

    ExportError for a scale table or a factorised prior that cannot be used.
    """
    ours = {name: t for name, t in tensors.items() if not name.startswith((_BOTTLENECK, _CONDITIONAL))}
    if config.levels == 1:
        for name, width in _gain_widths(config).items():
            ours.setdefault(name, torch.zeros(1, width))
    _check_scale_table(tensors.get(_CONDITIONAL + "scale_table"))
    prior = {k.removeprefix(_BOTTLENECK): t for k, t in tensors.items() if k.startswith(_BOTTLENECK)}
    if not prior:
        return Adapted(state=ours)
    pmf = factorized_pmf(prior, config.hyper_channels)
    tables = tuple(_table(row) for row in pmf)
    ours.setdefault("z_index", _nearest_index(pmf).repeat(config.levels, 1))
    return Adapted(state=ours, z_tables=tables)


def _gain_widths(config: ModelConfig) -> dict[str, int]:
    m, n = config.latent_channels, config.hyper_channels
    return {"log_gain": m, "log_inverse_gain": m, "log_hyper_gain": n}


def _check_scale_table(table: Tensor | None) -> None:
    if table is None or table.numel() == 0:
        return
    wanted = torch.tensor(DEFAULT_SCALES)
    if table.shape != wanted.shape or not torch.allclose(table.float(), wanted, rtol=1e-3):
        found = f"{table.numel()} from {float(table.min()):.3g} to {float(table.max()):.3g}"
        raise ExportError(
            f"gaussian_conditional.scale_table: expected {SCALE_LEVELS} scales from {DEFAULT_SCALES[0]:.2f} to "
            f"{DEFAULT_SCALES[-1]:.0f}, found {found}",
            hint="the parameter networks must have been trained for that table's indexes",
        )


@torch.no_grad()
def factorized_pmf(prior: Mapping[str, Tensor], channels: int) -> Tensor:
    """Probabilities of the integers -127..127 per channel, float64 N x 255, by a factorised prior.

    prior: CompressAI's EntropyBottleneck parameters, ``_matrix0`` .. with ``_bias`` and ``_factor``, or ``matrices.0``
    ..: the cumulative of Balle et al. 2018 (arXiv 1802.01436, appendix 6.1).  The hyper-latent is rounded to integers,
    not to integers around the medians, so ``quantiles`` are not needed.  ExportError if it does not fit.
    """
    edges = torch.arange(-Z_LIMIT, Z_LIMIT + 2, dtype=torch.float64) - 0.5
    v = edges.expand(channels, 1, -1)
    layer = 0
    while layer < _MOST_LAYERS and (matrix := prior.get(_name_of(prior, "matrix", layer))) is not None:
        rows = matrix.shape[1] if matrix.dim() == 3 else 0
        matrix = _parameter(prior, "matrix", layer, (channels, min(rows, _MOST_WIDTH), v.shape[1]))
        v = F.softplus(matrix) @ v + _parameter(prior, "bias", layer, (channels, rows, 1))
        if _name_of(prior, "factor", layer) in prior:
            v = v + torch.tanh(_parameter(prior, "factor", layer, (channels, rows, 1))) * torch.tanh(v)
        layer += 1
    if not layer or v.shape[1] != 1:
        found = ", ".join(sorted(prior))
        raise ExportError(f"entropy_bottleneck: expected matrices that end in one value, found {found:.300}")
    # On the side of zero where both terms are small: 1 - tiny would lose the tiny.
    low, high = v[:, 0, :-1], v[:, 0, 1:]
    upper, lower = torch.sigmoid(-low) - torch.sigmoid(-high), torch.sigmoid(high) - torch.sigmoid(low)
    pmf = torch.where(low + high > 0, upper, lower)
    if not torch.isfinite(pmf).all() or not (pmf.sum(1) > 0.5).all():
        raise ExportError(
            f"entropy_bottleneck: expected most of each channel's probability from {-Z_LIMIT} to {Z_LIMIT}, found less",
            hint="its values may be damaged, or its hyper-latent larger than this codec's",
        )
    return pmf


def _name_of(prior: Mapping[str, Tensor], kind: str, layer: int) -> str:
    plurals = {"matrix": "matrices", "bias": "biases", "factor": "factors"}
    return name if (name := f"_{kind}{layer}") in prior else f"{plurals[kind]}.{layer}"


def _parameter(prior: Mapping[str, Tensor], kind: str, layer: int, shape: tuple[int, ...]) -> Tensor:
    """In float64; ExportError unless it is there and has that shape."""
    tensor = prior.get(_name_of(prior, kind, layer))
    if tensor is None or tensor.shape != shape:
        found = "none" if tensor is None else tuple(tensor.shape)
        raise ExportError(
            f"entropy_bottleneck, layer {layer}: expected a {kind} of {' x '.join(map(str, shape))}, found {found}"
        )
    return tensor.double()


def _table(pmf: Tensor) -> Table:
    """A table centred on the commonest integer, reaching as far as the range does on both sides."""
    center = int(pmf.argmax()) - Z_LIMIT
    radius = Z_LIMIT - abs(center)
    around = pmf[center + Z_LIMIT - radius : center + Z_LIMIT + radius + 1]
    return table_from_pmf((around / max(1.0, float(pmf.sum()))).numpy(), center)


def _nearest_index(pmf: Tensor) -> Tensor:
    """Raw z_index parameters, N: the Gaussian of the same spread, for the model's own estimate of the rate."""
    values = torch.arange(-Z_LIMIT, Z_LIMIT + 1, dtype=torch.float64)
    scale = (pmf * values.square()).sum(1).sqrt().clamp_min(SCALE_MIN)
    index = (scale / SCALE_MIN).log() / SCALE_STEP
    return (index.clamp(0, SCALE_LEVELS - 1) / INDEX_GAIN).float()


def compatible_part(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Weights to start a model from another variant's: those that fit, and the names left as they are initialised.

    A spatial interaction is taken whole or not at all: a projection that belongs to another operator would feed noise
    into a new one, whose own starts at zero.  ExportError for values that are not finite.
    """
    fits = {n for n, t in wanted.items() if n in found and found[n].shape == t.shape}
    if wild := sorted(n for n in fits if not torch.isfinite(found[n].float()).all()):
        raise ExportError(
            f"{len(wild)} tensors are not finite: {', '.join(wild[:10])}", hint="start from other weights"
        )
    torn = {operator_of(n) for n in wanted if n not in fits} | {operator_of(n) for n in found if n not in wanted}
    taken = {n for n in fits if operator_of(n) is None or operator_of(n) not in torn}
    return {n: found[n].float() for n in taken}, sorted(set(wanted) - taken)


def operator_of(name: str) -> str | None:
    """The block whose spatial interaction a tensor belongs to, if any."""
    before, separator, _ = name.partition(".spatial.")
    return before if separator else None
