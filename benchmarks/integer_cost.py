"""What integers cost: rate and distortion of the exact entropy networks against the float ones they were made from.

    python -m benchmarks.integer_cost --images KODAK_DIR [--weights export/conv] [--out FILE.json]

Both run in PyTorch on the same pictures with the model's own code lengths (symbols, indexes and means rounded as the
coder sees them), so nothing but the networks' arithmetic differs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F

from s2c_deploy.contract import ALIGNMENT
from s2c_deploy.image import read_image
from s2c_deploy.listing import list_images
from s2c_deploy.metrics import bd_rate
from s2c_deploy.models import S2CModel
from s2c_deploy.models.checkpoint import load_checkpoint
from s2c_deploy.quantize import exact_model


@torch.no_grad()
def point(model: S2CModel, x: Tensor, quality: int) -> tuple[float, float]:
    """bpp and PSNR of one picture, float32 1 x 3 x H x W in [0, 1], padded as the codec does."""
    height, width = x.shape[2:]
    padded = F.pad(x, (0, -width % ALIGNMENT, 0, -height % ALIGNMENT), mode="replicate")
    output = model(padded, torch.tensor([quality - 1]))
    x_hat = torch.round(output.x_hat[:, :, :height, :width].clamp(0, 1) * 255) / 255
    mse = float((x_hat - x).square().mean())
    return float(output.bits) / (height * width), -10 * np.log10(mse)


def main() -> None:
    parser = argparse.ArgumentParser(description="The cost of exact integers, as BD-rate.")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=Path("export/conv"))
    parser.add_argument("--qualities", type=int, nargs="+", default=[1, 3, 5, 8])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(arguments.weights)
    models = {"float": checkpoint.model, "integer": exact_model(checkpoint.model, checkpoint.ranges)}
    points: dict[str, list[list[tuple[float, float]]]] = {name: [] for name in models}
    for path in track(list_images(arguments.images), description="coding"):
        x = torch.from_numpy(read_image(path).pixels).permute(2, 0, 1)[None].float() / 255
        for name, model in models.items():
            points[name].append([point(model, x, quality) for quality in arguments.qualities])
    curves = {name: np.mean(np.array(values), axis=0) for name, values in points.items()}
    floats, integers = curves["float"], curves["integer"]
    cost = bd_rate(floats[:, 0], floats[:, 1], integers[:, 0], integers[:, 1])
    print(f"{'quality':>8}{'float bpp':>12}{'PSNR':>9}{'integer bpp':>13}{'PSNR':>9}")
    for i, quality in enumerate(arguments.qualities):
        print(f"{quality:>8}{floats[i][0]:>12.5f}{floats[i][1]:>9.3f}{integers[i][0]:>13.5f}{integers[i][1]:>9.3f}")
    print(f"BD-rate of integers against floats: {cost:+.3f} %")
    if arguments.out is not None:
        record = {"qualities": arguments.qualities, "bd_rate": cost, **{k: v.tolist() for k, v in curves.items()}}
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps({"weights_sha256": checkpoint.sha256, **record}, indent=1) + "\n")


if __name__ == "__main__":
    main()
