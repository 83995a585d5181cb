"""Weights of a smaller model as the beginning of a larger one: ``train --preset small --from export/conv-tiny``.

Every tensor of the smaller model becomes a block of its larger counterpart.  New channels read the old ones, but no old
one reads a new one at first; new latents and hyper-latents begin as zeros that cost nothing, and new blocks as the
identity.  LayerNorms see new channels too: if a stage of n channels gets m, the new ones begin as the mean of the old
ones, which leaves the mean as it was and divides the variance by m / n, and the norm's weight takes that factor back.
So the larger model begins as the smaller one, but for the little that makes its new channels differ from one another.
(Net2Net, arXiv 1511.05641, widens hidden layers so.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from s2c_deploy.errors import InputError
from s2c_deploy.models.adapters import operator_of
from s2c_deploy.presets import ModelConfig, attention_heads

#: Tensors whose second axis is latents.
_READS_LATENTS = r"h_a\.0\.|g_s\.0\.0\.|contexts\.\d+\.channel\.|log_gain|log_inverse_gain"
#: Those that read new latents and hyper-latents from the start (they are zero): something must tell g_a and h_a what to
#: put there.
_SYNTHESIS = r"[gh]_s\.0\.0\."
#: Indexes and means: zero for new latents.
_PARAMETERS = r"contexts\.\d+\.(non)?anchor_parameters\.3\."
#: Zero for new hyper-latents: what writes them, and their indexes.
_HYPER_LATENTS = r"h_a\.4\.|z_index"
#: Those that write the channels of a stage, its first convolution and the ends of its blocks' branches; of these, the
#: ones that write a channel as four rows.
_WRITES_STAGE = r"g_a\.\d+\.(weight|bias)|g_s\.\d+\.0\.|g_[as]\.\d+\.(spatial|aggregation)\.project\."
_SUBPIXEL = r"g_s\.\d+\.0\."
#: How much of a fresh start new channels of a stage have besides the mean: all alike, they would stay so for ever.
_SPREAD = 0.1
#: Tensors whose first axis is several kinds of channel, one after the other: indexes and means; Q, K and V.
_KINDS = {_PARAMETERS: 2, r"g_[as]\.\d+\.spatial\.qkv\.": 3}


def is_growth(config: ModelConfig, start: ModelConfig) -> bool:
    """Whether ``config`` has other sizes than ``start``, and none smaller."""
    pairs = list(zip(_sizes(config), _sizes(start), strict=True))
    return any(new > old for new, old in pairs) and all(new >= old for new, old in pairs)


def grown(
    config: ModelConfig, fresh: Mapping[str, Tensor], start: ModelConfig, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """What the larger model takes over, and the names of its tensors that stay ``fresh``.

    config, fresh: the larger model and its state dict as initialised; start, tensors: the smaller one's, trained.
    Spatial interactions of another kind stay fresh.  InputError if the two differ in more than sizes and variant.
    """
    for name in ("aggregation", "spatial_norm", "objective", "lmbdas"):
        wanted, found = getattr(config, name), getattr(start, name)
        if wanted != found:
            raise InputError(
                f"a larger preset takes weights of the same {name}: expected {wanted!r}, found {found!r}",
                hint="train the smaller model so first, or start without --from",
            )
    positions, latent = _positions(config, start), _latent_channels(config, start)
    writes_latents = rf"g_a\.{len(config.widths) + sum(config.depths)}\."
    taken = {}
    for name, tensor in fresh.items():
        old = tensors.get(_old_name(name, positions))
        if old is None or not _fits(name, tensor, old):
            continue
        of_latents = [re.match(pattern, name) for pattern in (writes_latents, _READS_LATENTS)]
        axes = range(min(2, old.dim()))
        index = [latent[: old.shape[i]] if of_latents[i] else _first(name, i, tensor, old) for i in axes]
        around, old = tensor.clone(), old.float()
        if re.match(f"{writes_latents}|{_PARAMETERS}|{_HYPER_LATENTS}", name):
            around.zero_()
        elif old.dim() == 4 and not re.match(_SYNTHESIS, name):
            around[index[0]] = 0
        if re.match(_WRITES_STAGE, name) and not re.match(writes_latents, name):
            _begin_as_means(around, old, index, rows=4 if re.match(_SUBPIXEL, name) else 1)
        if name.endswith(".norm.weight"):
            old = old * (len(old) / len(tensor)) ** 0.5
        taken[name] = _placed(around, old, index)
    torn = {operator_of(name) for name in fresh if name not in taken} - {None}
    taken = {name: tensor for name, tensor in taken.items() if operator_of(name) not in torn}
    return taken, sorted(set(fresh) - set(taken))


def _sizes(config: ModelConfig) -> tuple[int, ...]:
    hidden = tuple(config.expansion * width for width in config.widths)
    return (*config.widths, *hidden, *config.depths, *config.groups, config.hyper_channels, config.context_width)


def _positions(config: ModelConfig, start: ModelConfig) -> dict[str, str]:
    """Layers of g_a and g_s, and where the smaller model has them: stage by stage, the first blocks."""
    found = {}
    for transform, stages in (("g_a", (0, 1, 2)), ("g_s", (2, 1, 0))):
        new = old = 0
        for stage in stages:
            for i in range(1 + start.depths[stage]):
                found[f"{transform}.{new + i}."] = f"{transform}.{old + i}."
            new, old = new + 1 + config.depths[stage], old + 1 + start.depths[stage]
        found[f"{transform}.{new}."] = f"{transform}.{old}."
    return found


def _old_name(name: str, positions: Mapping[str, str]) -> str:
    """The smaller model's name of a tensor; empty if it has no such layer."""
    layer = re.match(r"g_[as]\.\d+\.", name)
    if layer is None:
        return name
    return positions[layer[0]] + name[layer.end() :] if layer[0] in positions else ""


def _latent_channels(config: ModelConfig, start: ModelConfig) -> Tensor:
    """Where the smaller model's latents are: the first channels of every group."""
    firsts = [sum(config.groups[:k]) for k in range(len(config.groups))]
    return torch.cat([first + torch.arange(size) for first, size in zip(firsts, start.groups, strict=True)])


def _fits(name: str, fresh: Tensor, old: Tensor) -> bool:
    """Kernels of one size; attention heads, too: a head cannot be cut in two."""
    if fresh.dim() != old.dim() or fresh.shape[2:] != old.shape[2:]:
        return False
    widths = fresh.shape[0] // 3, old.shape[0] // 3
    return ".spatial.qkv." not in name or len({width // attention_heads(width) for width in widths}) == 1


def _first(name: str, axis: int, fresh: Tensor, old: Tensor) -> Tensor:
    """The first channels of an axis, or of every kind in it."""
    kinds = next((count for part, count in _KINDS.items() if axis == 0 and re.match(part, name)), 1)
    starts = torch.arange(kinds)[:, None] * (fresh.shape[axis] // kinds)
    return (starts + torch.arange(old.shape[axis] // kinds)).flatten()


def _begin_as_means(around: Tensor, old: Tensor, index: list[Tensor], *, rows: int) -> None:
    """Makes the new channels that a layer writes begin near the mean of the old ones; rows: of ``old``, per channel."""
    new = around[len(old) :].mul_(_SPREAD)
    mean = old.reshape(-1, rows, *old.shape[1:]).mean(0)
    means = mean.repeat(len(new) // rows, *[1] * (old.dim() - 1))
    if old.dim() == 1:
        new += means
    else:
        new[:, index[1]] += means


def _placed(around: Tensor, old: Tensor, index: list[Tensor]) -> Tensor:
    """``around`` with ``old`` in it."""
    if old.dim() == 1:
        around[index[0]] = old
    else:
        around[index[0][:, None], index[1]] = old
    return around
