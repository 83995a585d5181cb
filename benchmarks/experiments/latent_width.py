"""How much of a picture the latent has room for: PSNR of the Karhunen-Loeve start by number of latent channels.

    python -m benchmarks.experiments.latent_width --data PHOTOS --images KODAK [--preset tiny] [--out FILE.json]

Nothing is quantised: what is missing is what the first M principal components of 16 x 16 pixels of PHOTOS leave out of
the pictures in KODAK.  A trained transform is not bound to these components, but to their number.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from s2c_deploy.image import read_image
from s2c_deploy.listing import list_images
from s2c_deploy.models import S2CModel
from s2c_deploy.presets import PRESETS, model_config
from s2c_deploy.train import hold_out, open_cache
from s2c_deploy.train.data import Pictures
from s2c_deploy.train.klt import klt_start
from s2c_deploy.train.validation import middle

CHANNELS = (64, 96, 128, 192, 256, 320)


@torch.no_grad()
def ceiling(preset: str, channels: int, pictures: Pictures, images: Sequence[Path]) -> float:
    """Mean over the images of the PSNR in dB, each of its middle of at most 512 x 512."""
    config = replace(model_config("identity", preset), latent_channels=channels)
    model = S2CModel(config)
    model.load_state_dict(klt_start(config, pictures, seed=0))
    psnr = []
    for image in images:
        x = middle(read_image(image).pixels)
        psnr.append(-10 * np.log10(float((model.g_s(model.g_a(x)).clamp(0, 1) - x).square().mean())))
    return float(np.mean(psnr))


def _shown(channels: Sequence[int]) -> Iterable[int]:
    return track(channels, description="transforms", console=Console(stderr=True))


def main() -> None:
    parser = argparse.ArgumentParser(description="PSNR without quantisation, by number of latent channels.")
    parser.add_argument("--data", type=Path, required=True, help="pictures that the components are taken from")
    parser.add_argument("--images", type=Path, required=True, help="pictures to look at")
    parser.add_argument("--cache", type=Path, default=Path("runs/pictures.u8"))
    parser.add_argument("--preset", choices=PRESETS, default="tiny", help="widths of the stages")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    pictures = hold_out(open_cache(arguments.data, arguments.cache), 16)
    images = list_images(arguments.images)
    found = {m: ceiling(arguments.preset, m, pictures, images) for m in _shown(CHANNELS)}
    print("| latent channels | " + " | ".join(map(str, found)) + " |")
    print("|---|" + "---|" * len(found))
    print("| PSNR dB | " + " | ".join(f"{psnr:.2f}" for psnr in found.values()) + " |")
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        record = {"preset": arguments.preset, "pictures": len(images), "psnr_db": found}
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
