"""Lighter versions of g_s beside a model's weights: ``g_s.fast.safetensors`` and ``g_s.fast.toml``.

The first holds the tensors, float16; the second the shape, which weights it belongs to, and how it was trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from s2c_deploy.errors import ExportError, InputError
from s2c_deploy.models.folder_files import fill, parse_recipe, read_recipe, read_weights
from s2c_deploy.models.transforms import Synthesis
from s2c_deploy.presets import SYNTHESES, ModelConfig, SynthesisConfig

_MOST_CHANNELS, _MOST_BLOCKS = 1 << 12, 64


@dataclass(frozen=True, kw_only=True)
class LighterSynthesis:
    """A g_s for the latents of a model, in evaluation mode."""

    shape: SynthesisConfig
    module: Synthesis


def synthesis_files(name: str) -> tuple[str, str]:
    """Names of the files of weights and of the recipe."""
    return f"g_s.{name}.safetensors", f"g_s.{name}.toml"


def load_syntheses(folder: Path, config: ModelConfig, weights_sha256: str) -> tuple[LighterSynthesis, ...]:
    """Every lighter g_s in a model's folder, in the order of ``presets.SYNTHESES``.

    weights_sha256: of the folder's own tensors.  InputError for a damaged recipe; ExportError for tensors that do not
    fit, or that belong to other weights than the folder's.
    """
    found = [name for name in SYNTHESES if (folder / synthesis_files(name)[1]).is_file()]
    return tuple(_load(folder, config, weights_sha256, name) for name in found)


def _load(folder: Path, config: ModelConfig, weights_sha256: str, name: str) -> LighterSynthesis:
    weights, recipe_file = synthesis_files(name)
    data = read_recipe(folder, recipe_file)
    try:
        shape, of = _shape(name, parse_recipe(data)["synthesis"])
    except (ValueError, KeyError, TypeError, RecursionError, InputError) as error:
        raise InputError(
            f"{folder / recipe_file}: expected a [synthesis] table with widths, depths and upsampling: {error!s:.300}"
        ) from error
    if of != weights_sha256:
        raise ExportError(
            f"{folder / recipe_file}: expected a g_s of the weights {weights_sha256[:16]}, found one of {of[:16]!a}",
            hint=f"train it for these (s2c-deploy train --only g_s --synthesis {name}), or remove its two files",
        )
    module = Synthesis(config, shape)
    fill(_Named(module), read_weights(folder, weights, module))
    return LighterSynthesis(shape=shape, module=module.eval())


class _Named(nn.Module):
    """A g_s under the name that its tensors have in a whole model."""

    def __init__(self, g_s: Synthesis) -> None:
        super().__init__()
        self.g_s = g_s


def _shape(name: str, table: Mapping[str, Any]) -> tuple[SynthesisConfig, str]:
    """TypeError, InputError or KeyError for a shape that nobody trains."""
    widths, depths = table["widths"], table["depths"]
    for what, counts, most in (("widths", widths, _MOST_CHANNELS), ("depths", depths, _MOST_BLOCKS)):
        if not isinstance(counts, list) or not all(type(count) is int and 0 < count <= most for count in counts):
            raise TypeError(f"{what}: expected whole numbers up to {most}, found {counts!r:.80}")
    if table["name"] != name:
        raise TypeError(f"name: expected {name}, found {table['name']!r:.80}")
    int8 = table.get("int8", False)
    if type(int8) is not bool:
        raise TypeError(f"int8: expected true or false, found {int8!r:.80}")
    kind = str(table["upsampling"])
    shape = SynthesisConfig(name=name, widths=tuple(widths), depths=tuple(depths), upsampling=kind, int8=int8)
    return shape, str(table["weights_sha256"])


def with_synthesis(state: Mapping[str, Tensor], g_s: Synthesis) -> dict[str, Tensor]:
    """A model's state dict with another g_s in it."""
    return {name: tensor for name, tensor in state.items() if not name.startswith("g_s.")} | _Named(g_s).state_dict()
