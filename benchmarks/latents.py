"""Writes the symbols of real pictures, as ``compress`` gives them to the coder, for ``benchmarks.coder``.

    python -m benchmarks.latents --images KODAK_DIR --quality 5 --out latents.npz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.progress import track

from s2c_deploy import Codec
from s2c_deploy.image import list_images, read_image


def main() -> None:
    parser = argparse.ArgumentParser(description="Symbols of real pictures for the coder benchmark.")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, default=Path("engines/conv-tiny"))
    parser.add_argument("--quality", type=float, default=5)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    with Codec.open(arguments.bundle) as codec:
        pairs = [
            codec.symbols(read_image(path).pixels, arguments.quality)
            for path in track(list_images(arguments.images), description="encoding")
        ]
    np.savez_compressed(
        arguments.out,
        symbols=np.concatenate([symbols for symbols, _ in pairs]),
        indexes=np.concatenate([indexes for _, indexes in pairs]),
        lengths=np.array([symbols.size for symbols, _ in pairs], np.int64),
    )


if __name__ == "__main__":
    main()
