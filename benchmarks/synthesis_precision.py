"""What bfloat16 in g_s costs: PSNR and BD-rate of pictures decoded with g_s in float32 and bfloat16, same streams.

    python -m benchmarks.synthesis_precision --images KODAK_DIR [--backend openvino] [--out FILE.json]

PyTorch computes in bfloat16 on any processor (slowly where it has no instructions for it), so the pixels can be
measured anywhere; OpenVINO only where the processor has it.  Speed is measured by the bench, not here.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from s2c_deploy import Codec
from s2c_deploy.image import read_image
from s2c_deploy.listing import list_images
from s2c_deploy.metrics import bd_rate, psnr

PRECISIONS = ("float32", "bfloat16")


def main() -> None:
    parser = argparse.ArgumentParser(description="The cost of bfloat16 in g_s, in dB and as BD-rate.")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, default=Path("engines/conv-small"))
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--qualities", type=float, nargs="+", default=[1, 3, 5, 8])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    codecs = {p: Codec.open(arguments.bundle, arguments.backend, synthesis=p) for p in PRECISIONS}
    decibels: list[list[list[float]]] = []
    rates: list[list[float]] = []
    largest = 0
    for path in track(list_images(arguments.images), description="decoding"):
        pixels = read_image(path).pixels
        points, bpp = [], []
        for quality in arguments.qualities:
            data = codecs["float32"].compress(pixels, quality)
            decoded = [codecs[p].decompress(data) for p in PRECISIONS]
            largest = max(largest, int(np.abs(decoded[0].astype(int) - decoded[1]).max()))
            points.append([psnr(pixels, x) for x in decoded])
            bpp.append(8 * len(data) / (pixels.shape[0] * pixels.shape[1]))
        decibels.append(points)
        rates.append(bpp)
    means = np.mean(decibels, axis=0)
    losses = means[:, 0] - means[:, 1]
    rate = np.mean(rates, axis=0)
    cost = bd_rate(rate, means[:, 0], rate, means[:, 1])
    worst = float(np.max(np.array(decibels)[..., 0] - np.array(decibels)[..., 1]))
    print(f"{'quality':>8}{'float32':>10}{'bfloat16':>10}{'loss dB':>9}")
    for quality, mean, loss in zip(arguments.qualities, means, losses, strict=True):
        print(f"{quality:>8g}{mean[0]:>10.3f}{mean[1]:>10.3f}{loss:>9.4f}")
    print(f"worst picture {worst:.4f} dB; largest difference of a sample {largest} of 255; BD-rate {cost:+.3f} %")
    if arguments.out is not None:
        record = {
            "bundle": codecs["float32"].bundle.config.name,
            "fingerprint": codecs["float32"].bundle.fingerprint.hex(),
            "backend": arguments.backend,
            "torch": torch.__version__,
            "pictures": len(decibels),
            "qualities": arguments.qualities,
            "bpp": rate.tolist(),
            "psnr": {p: means[:, i].tolist() for i, p in enumerate(PRECISIONS)},
            "bd_rate_percent": cost,
            "worst_loss": worst,
            "largest_difference": largest,
        }
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")
    for codec in codecs.values():
        codec.close()


if __name__ == "__main__":
    main()
