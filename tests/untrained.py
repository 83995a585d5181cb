"""Small models with random weights, for tests that need no trained ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from s2c_deploy.export.checkpoint import Checkpoint
from s2c_deploy.models import S2CModel
from s2c_deploy.presets import ModelConfig
from s2c_deploy.quantize import activation_ranges


def checkpoint_of(variant: str, **changes: Any) -> Checkpoint:
    """Untrained weights of a small model in which every block says something."""
    torch.manual_seed(0)
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
    config = ModelConfig(**(fields | changes))
    model = S2CModel(config).eval()
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and not layer.weight.any():
            nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
    ranges = activation_ranges(model, [torch.rand(1, 3, 128, 192)])
    return Checkpoint(config=config, model=model, ranges=ranges, recipe={"by": "a test"}, sha256="5" * 64)
