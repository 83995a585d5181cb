"""Small models with random weights, for tests that need no trained ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from s2c_deploy.models import S2CModel
from s2c_deploy.models.checkpoint import Checkpoint
from s2c_deploy.presets import ModelConfig
from s2c_deploy.quantize import activation_ranges


def small_config(variant: str = "hybrid", **changes: Any) -> ModelConfig:
    """Every part there, in widths that cost next to nothing; groups of 8, 8, 8, 8, 16."""
    fields: dict[str, Any] = {
        "variant": variant,
        "preset": "custom",
        "widths": (8, 16, 24),
        "depths": (1, 1, 1),
        "expansion": 2,
        "latent_channels": 48,
        "hyper_channels": 16,
        "context_width": 24,
    }
    return ModelConfig(**(fields | changes))


def lively(module: nn.Module, seed: int = 0) -> nn.Module:
    """A module whose residual branches, zero in a new one, all say something."""
    torch.manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and not layer.weight.any():
            nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
    return module.eval()


def checkpoint_of(variant: str, **changes: Any) -> Checkpoint:
    """Untrained weights of a small model in which every block says something."""
    torch.manual_seed(0)
    model = S2CModel(small_config(variant, **changes))
    lively(model)
    ranges = activation_ranges(model, [torch.rand(1, 3, 128, 192)])
    return Checkpoint(config=model.config, model=model, ranges=ranges, recipe={"by": "a test"}, sha256="5" * 64)
