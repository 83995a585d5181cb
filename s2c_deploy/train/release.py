"""From a training run to the files that are released: float16 weights and calibrated ranges."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from s2c_deploy.export.checkpoint import CALIBRATION, WEIGHTS
from s2c_deploy.files import atomic_write
from s2c_deploy.models import S2CModel
from s2c_deploy.presets import ALIGNMENT, ModelConfig
from s2c_deploy.quantize import activation_ranges
from s2c_deploy.train.data import PictureCache


def release(
    config: ModelConfig, weights: Mapping[str, Tensor], cache: PictureCache, out: Path, *, pictures: int
) -> None:
    """Writes ``out/weights.safetensors``: float16 weights, and the ranges of those very weights on ``pictures``
    training pictures."""
    halves = {name: tensor.half() for name, tensor in weights.items()}
    model = S2CModel(config)
    model.load_state_dict({name: tensor.float() for name, tensor in halves.items()})
    chosen = np.linspace(0, len(cache.shapes) - 1, pictures).astype(int)
    ranges = activation_ranges(model, (_cropped(cache, int(i)) for i in chosen))
    tensors = halves | {CALIBRATION + name: tensor.float().clone() for name, tensor in ranges.items()}
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(out / WEIGHTS) as temporary:
        temporary.write_bytes(save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def _cropped(cache: PictureCache, i: int) -> Tensor:
    pixels = cache.picture(i)
    height, width = (side // ALIGNMENT * ALIGNMENT for side in pixels.shape[:2])
    return torch.from_numpy(pixels[:height, :width].copy()).permute(2, 0, 1)[None].float() / 255
