"""What the tests of training share: a small model, a short run, and pictures for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from s2c_deploy.presets import ModelConfig
from s2c_deploy.train import TrainSettings, hold_out, open_cache
from s2c_deploy.train.data import Pictures

CONFIG = ModelConfig(
    variant="conv",
    preset="tiny",
    widths=(8, 8, 16),
    depths=(1, 1, 1),
    expansion=2,
    latent_channels=48,
    hyper_channels=16,
    context_width=16,
    lmbdas=(0.0018, 0.0067, 0.025),
)
SETTINGS = TrainSettings(
    steps=8,
    batch=4,
    crop=64,
    last_crop=128,
    last_crop_from=0.6,
    exact_from=0.75,
    warmup=2,
    save_every=3,
    validate_every=4,
)


def nine_pictures(folder: Path) -> Pictures:
    """Noise on gradients, of three sizes; two are held out."""
    rng = np.random.default_rng(3)
    for i, (height, width) in enumerate([(128, 192), (150, 130), (64, 100)] * 3):
        ramp = np.linspace(0, 200, width)[None, :, None] * np.linspace(0.2, 1, height)[:, None, None]
        noise = rng.integers(0, 56, (height, width, 3))
        Image.fromarray((ramp + noise).astype(np.uint8)).save(folder / f"{i}.png")
    return hold_out(open_cache(folder, folder / "cache.u8"), 2)
