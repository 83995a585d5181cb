"""Writes the symbols of real pictures, as ``compress`` gives them to the coder, for ``benchmarks.coder``.

python -m benchmarks.latents --images KODAK_DIR --quality 5 --out latents.npz
python -m benchmarks.latents --images KODAK_DIR --quality 5 --mosaic 3840x2160 --out 4k.npz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track

from s2c_deploy import Codec
from s2c_deploy.image import read_image
from s2c_deploy.listing import list_images


def mosaic(pictures: list[npt.NDArray[np.uint8]], width: int, height: int) -> npt.NDArray[np.uint8]:
    """One picture, uint8 [height, width, 3], of all of them in rows; upright ones lie on their side."""
    side = [picture if picture.shape[1] >= picture.shape[0] else np.rot90(picture) for picture in pictures]
    rows, columns = min(p.shape[0] for p in side), min(p.shape[1] for p in side)
    across, down = -(-width // columns), -(-height // rows)
    cells = [[side[(y * across + x) % len(side)][:rows, :columns] for x in range(across)] for y in range(down)]
    return np.ascontiguousarray(np.concatenate([np.concatenate(row, axis=1) for row in cells])[:height, :width])


def main() -> None:
    parser = argparse.ArgumentParser(description="Symbols of real pictures for the coder benchmark.")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, default=Path("engines/conv-small"))
    parser.add_argument("--quality", type=float, default=5)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--mosaic", metavar="WxH", help="all pictures as one of this size")
    arguments = parser.parse_args()
    pictures = [read_image(path).pixels for path in list_images(arguments.images)]
    if arguments.mosaic:
        width, height = (int(side) for side in arguments.mosaic.split("x"))
        pictures = [mosaic(pictures, width, height)]
    with Codec.open(arguments.bundle) as codec:
        pairs = [codec.symbols(picture, arguments.quality) for picture in track(pictures, description="encoding")]
    np.savez_compressed(
        arguments.out,
        symbols=np.concatenate([symbols for symbols, _ in pairs]),
        indexes=np.concatenate([indexes for _, indexes in pairs]),
        lengths=np.array([symbols.size for symbols, _ in pairs], np.int64),
    )


if __name__ == "__main__":
    main()
