"""Ranges of the entropy networks' activations on real pictures, and the exact model made from them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from s2c_deploy.errors import ExportError
from s2c_deploy.models import S2CModel
from s2c_deploy.models.entropy_model import GroupContext, HyperSynthesis
from s2c_deploy.presets import ModelConfig
from s2c_deploy.quantize.exact_entropy import (
    LIMITS,
    ContextRanges,
    ExactGroupContext,
    ExactHyperSynthesis,
    HyperRanges,
)


class _Largest:
    """Running largest magnitude per channel of named activations."""

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}

    def see(self, name: str, x: Tensor) -> None:
        largest = x.detach().abs().amax((0, 2, 3))
        self.values[name] = torch.maximum(self.values[name], largest) if name in self.values else largest

    def output_of(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _module, _inputs, output: self.see(name, output)

    def input_of(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _module, inputs: self.see(name, inputs[0])


def _watch(model: S2CModel, seen: _Largest) -> None:
    for i in (1, 3, 5):
        model.h_s[i].register_forward_hook(seen.output_of(f"h_s.{i}"))
    for k, context in enumerate(model.group_contexts):
        context.mix.register_forward_pre_hook(seen.input_of(f"{k}.mixed"))
        for network in ("anchor", "nonanchor"):
            layers = getattr(context, f"{network}_parameters")
            layers[0].register_forward_hook(seen.output_of(f"{k}.features"))
            layers[2].register_forward_hook(seen.output_of(f"{k}.{network}_hidden"))


@torch.no_grad()
def activation_ranges(model: S2CModel, pictures: Iterable[Tensor]) -> dict[str, Tensor]:
    """Largest magnitude per channel of every activation that is held as integers, by name.

    pictures: float32 1 x 3 x H x W in [0, 1], sides multiples of 64; each is run at every quality level.
    """
    model = copy.deepcopy(model).eval()
    seen = _Largest()
    _watch(model, seen)
    for x in pictures:
        for level in range(model.config.levels):
            output = model(x, torch.full((x.shape[0],), level))
            seen.see("y_hat", output.y_hat)
    return seen.values


def exact_model(model: S2CModel, ranges: Mapping[str, Tensor]) -> S2CModel:
    """A copy of a float model whose entropy networks are exact-integer ones, on grids chosen from ``ranges``.

    Raises ExportError when a range is missing; the layers prove themselves when their integers are asked for.
    """
    return exact_twin(copy.deepcopy(model), ranges).eval()


def exact_twin(model: S2CModel, ranges: Mapping[str, Tensor]) -> S2CModel:
    """As ``exact_model``, but on the float model's own parameters: training the twin trains the model."""
    contexts = model.group_contexts
    if missing := sorted(set(range_names(len(contexts))) - set(ranges)):
        raise ExportError(f"calibration: expected ranges of {', '.join(missing)}, found none")
    _check_sizes(model, ranges)
    assert isinstance(model.h_s, HyperSynthesis)
    h_s = ExactHyperSynthesis(
        model.h_s,
        HyperRanges(first=ranges["h_s.1"], second=ranges["h_s.3"], hyper=ranges["h_s.5"]),
        LIMITS[model.config.operand_bits],
    )
    exact = [_exact_context(k, context, h_s, ranges, model.config) for k, context in enumerate(contexts)]
    twin = copy.copy(model)
    # A shallow copy shares its table of submodules with the model; the twin's must be its own.
    twin._modules = dict(model._modules)
    twin.h_s = h_s  # type: ignore[assignment]
    twin.contexts = nn.ModuleList(exact)
    return twin


def _check_sizes(model: S2CModel, ranges: Mapping[str, Tensor]) -> None:
    config = model.config
    n, width = config.hyper_channels, config.context_width
    sizes = {"y_hat": config.latent_channels, "h_s.1": n, "h_s.3": n, "h_s.5": config.hyper_features}
    for name in range_names(len(config.groups)):
        if ranges[name].shape != (sizes.get(name, width),):
            raise ExportError(
                f"calibration: {name}: expected {sizes.get(name, width)} channels, found {tuple(ranges[name].shape)}"
            )


def range_names(groups: int) -> list[str]:
    """Names of the ranges that a model with so many latent groups needs."""
    parts = ("mixed", "features", "anchor_hidden", "nonanchor_hidden")
    return ["y_hat", "h_s.1", "h_s.3", "h_s.5", *(f"{k}.{part}" for k in range(groups) for part in parts)]


def _exact_context(
    k: int,
    context: GroupContext,
    h_s: ExactHyperSynthesis,
    seen: Mapping[str, Tensor],
    config: ModelConfig,
) -> ExactGroupContext:
    start = sum(config.groups[:k])
    ranges = ContextRanges(
        mixed=seen[f"{k}.mixed"],
        features=seen[f"{k}.features"],
        anchor_hidden=seen[f"{k}.anchor_hidden"],
        nonanchor_hidden=seen[f"{k}.nonanchor_hidden"],
        earlier=seen["y_hat"][:start],
        current=seen["y_hat"][start : start + config.groups[k]],
    )
    return ExactGroupContext(f"context_{k}", context, h_s.hyper_grid, ranges, LIMITS[config.operand_bits])
