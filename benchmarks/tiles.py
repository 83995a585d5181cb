"""What tiles cost: bytes, and quality beside their borders, against the same pictures coded whole.

    python -m benchmarks.tiles --images KODAK [--qualities 2,5,8] [--tiles 128,256,512] [--count 24]

Each stream is decoded twice: with one g_s over the whole latent, and in blocks of its tiles' size with what lies around
them; the table has the largest difference of a sample.  Seams are the 16 pixels on each side of a border.  The table is
what docs/large.md shows.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from s2c_deploy import Codec
from s2c_deploy.arrays import Pixels
from s2c_deploy.bench.cases import photographs
from s2c_deploy.codec.blocks import bytes_per_pixel
from s2c_deploy.formats.bundle import open_bundle
from s2c_deploy.report.table import Table, markdown

_BESIDE = 16
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture at one quality, in tiles against whole."""

    tile: int
    #: Of the stream, over the whole one's.
    bytes_ratio: float
    #: PSNR beside the borders, less the whole picture's in the same pixels; dB, NaN where there is no border.
    seam: float
    #: The same, of all pixels.
    everywhere: float
    #: Levels of 255, between one g_s and many.
    difference: int


def borders(height: int, width: int, tile: int) -> Mask:
    """Where a picture lies beside a border of its tiles: bool, height x width."""
    beside = np.zeros((height, width), bool)
    for k in range(tile, max(height, width), tile):
        beside[max(k - _BESIDE, 0) : k + _BESIDE] = True
        beside[:, max(k - _BESIDE, 0) : k + _BESIDE] = True
    return beside


def decibels(picture: Pixels, decoded: Pixels, where: Mask) -> float:
    error = decoded[where].astype(np.float64) - picture[where]
    return float(10 * np.log10(255**2 / np.mean(error**2))) if error.size else float("nan")


def memory_for(per_pixel: float, side: int) -> int:
    """The memory limit that makes blocks of this side."""
    return int(2 * (side + 192) ** 2 * per_pixel) + 2


def measure(codec: Codec, blocks: Mapping[int, Codec], picture: Pixels, quality: float) -> Iterator[Sample]:
    """blocks: codecs that run g_s in blocks of a tile's side, by it."""
    height, width = picture.shape[:2]
    whole = codec.compress(picture, quality)
    reference = codec.decompress(whole)
    for tile, in_blocks in blocks.items():
        data = codec.compress(picture, quality, tile=tile)
        decoded = codec.decompress(data)
        difference = int(np.abs(in_blocks.decompress(data).astype(np.int16) - decoded).max())
        beside, everywhere = borders(height, width, tile), np.ones((height, width), bool)
        yield Sample(
            tile=tile,
            bytes_ratio=len(data) / len(whole),
            seam=decibels(picture, decoded, beside) - decibels(picture, reference, beside),
            everywhere=decibels(picture, decoded, everywhere) - decibels(picture, reference, everywhere),
            difference=difference,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("engines/conv-small"))
    parser.add_argument("--images", type=Path, default=Path("export/photographs"))
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--qualities", default="2,5,8", help="with commas between")
    parser.add_argument("--tiles", default="128,256,512", help="with commas between")
    parser.add_argument("--count", type=int, help="of pictures; all")
    arguments = parser.parse_args()
    qualities = [float(quality) for quality in arguments.qualities.split(",")]
    tiles = [int(tile) for tile in arguments.tiles.split(",")]
    sources = photographs(arguments.images, arguments.count)
    per_pixel = bytes_per_pixel(open_bundle(arguments.bundle).config)
    with ExitStack() as stack:
        codec = stack.enter_context(Codec.open(arguments.bundle, arguments.backend))
        blocks = {
            tile: stack.enter_context(
                Codec.open(arguments.bundle, arguments.backend, memory_limit=memory_for(per_pixel, tile))
            )
            for tile in tiles
        }
        samples = [
            sample
            for source in sources
            for quality in qualities
            for sample in measure(codec, blocks, source.pixels, quality)
        ]
        name, backend = codec.bundle.config.name, codec.backend
    rows = []
    for tile in tiles:
        of_tile = [sample for sample in samples if sample.tile == tile]
        seams = [sample.seam for sample in of_tile if not np.isnan(sample.seam)]
        cells = (
            f"{100 * (np.mean([sample.bytes_ratio for sample in of_tile]) - 1):+.2f} %",
            f"{np.mean(seams):+.3f} dB",
            f"{min(seams):+.3f} dB",
            f"{np.mean([sample.everywhere for sample in of_tile]):+.3f} dB",
            str(max(sample.difference for sample in of_tile)),
        )
        rows.append((f"{tile}", *cells))
    print(f"{len(sources)} pictures, qualities {arguments.qualities}, {name}, {backend}; against the same whole\n")
    columns = ("tile", "bytes", "PSNR beside borders", "of the worst picture", "PSNR of all", "largest difference")
    print(markdown(Table(title="tiles", columns=columns, rows=tuple(rows))))


if __name__ == "__main__":
    main()
