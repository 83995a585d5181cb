"""Training pictures: decoded once into one memory map, then cropped at random."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.progress import track

from s2c_deploy.errors import InputError

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".ppm"}


@dataclass(frozen=True, kw_only=True)
class PictureCache:
    """pixels: flat uint8 memory map; shapes: (height, width) of every picture, in file-name order."""

    pixels: npt.NDArray[np.uint8]
    shapes: tuple[tuple[int, int], ...]
    offsets: tuple[int, ...]

    def picture(self, i: int) -> npt.NDArray[np.uint8]:
        """H x W x 3 view of picture i."""
        h, w = self.shapes[i]
        return self.pixels[self.offsets[i] : self.offsets[i] + h * w * 3].reshape(h, w, 3)


def open_cache(folder: Path, cache: Path) -> PictureCache:
    """Decodes every picture of ``folder`` into ``cache`` (a .u8 file with a .json index beside it), once.

    The cache is made again when the folder's file names or sizes have changed.  InputError when there is none.
    """
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES) if folder.is_dir() else []
    if not files:
        raise InputError(f"no pictures in {folder}", hint="give a folder of photographs with --data")
    listing = [[p.name, p.stat().st_size] for p in files]
    index = cache.with_suffix(".json")
    if not (cache.exists() and index.exists() and json.loads(index.read_text())["listing"] == listing):
        _decode(files, listing, cache, index)
    shapes = tuple((h, w) for h, w in json.loads(index.read_text())["shapes"])
    ends = np.cumsum([h * w * 3 for h, w in shapes], dtype=np.int64)
    pixels = np.memmap(cache, dtype=np.uint8, mode="r", shape=(int(ends[-1]),))
    return PictureCache(pixels=pixels, shapes=shapes, offsets=(0, *(int(end) for end in ends[:-1])))


def _decode(files: list[Path], listing: list[list[object]], cache: Path, index: Path) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    index.unlink(missing_ok=True)
    shapes = []
    with cache.open("wb") as out:
        for path in track(files, description="decoding"):
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
            shapes.append(pixels.shape[:2])
            out.write(pixels.tobytes())
    # The index is written last: it vouches for a complete cache.
    index.write_text(json.dumps({"listing": listing, "shapes": shapes}))


def random_crops(
    cache: PictureCache, *, batch: int, crop: int, rng: np.random.Generator
) -> Iterator[npt.NDArray[np.float32]]:
    """Endless batches, B x 3 x crop x crop float32 in [0, 1]; pictures are drawn by their area, flipped at random.

    Drawing by area makes every pixel as likely, so large photographs are not starved by many small ones.
    """
    usable = [i for i, (h, w) in enumerate(cache.shapes) if min(h, w) >= crop]
    if not usable:
        raise InputError(f"no picture is as large as the crop of {crop}", hint="lower --crop")
    areas = np.array([cache.shapes[i][0] * cache.shapes[i][1] for i in usable], dtype=np.float64)
    chances = areas / areas.sum()
    while True:
        out = np.empty((batch, 3, crop, crop), dtype=np.float32)
        for b, i in enumerate(rng.choice(usable, size=batch, p=chances)):
            h, w = cache.shapes[i]
            top, left = rng.integers(h - crop + 1), rng.integers(w - crop + 1)
            piece = cache.picture(i)[top : top + crop, left : left + crop]
            if rng.random() < 0.5:
                piece = piece[:, ::-1]
            if rng.random() < 0.5:
                piece = piece.transpose(1, 0, 2)
            out[b] = piece.transpose(2, 0, 1)
        out /= 255.0
        yield out
