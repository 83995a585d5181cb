"""Training pictures: decoded once into one memory map, then cropped at random."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import track

from s2c_deploy.errors import InputError
from s2c_deploy.presets import ALIGNMENT

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

    The cache is made again when the folder's file names or sizes have changed.  InputError when there is no picture,
    or one that cannot be decoded.
    """
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES) if folder.is_dir() else []
    if not files:
        raise InputError(f"no pictures in {folder}", hint="give a folder of photographs")
    listing = [[p.name, p.stat().st_size] for p in files]
    index = cache.with_suffix(".json")
    cache.parent.mkdir(parents=True, exist_ok=True)
    with cache.with_suffix(".lock").open("w") as lock:
        # Of several processes that start at once, one decodes and the others wait.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (cache.exists() and index.exists() and json.loads(index.read_text())["listing"] == listing):
            _decode(files, listing, cache, index)
    shapes = tuple((h, w) for h, w in json.loads(index.read_text())["shapes"])
    ends = np.cumsum([h * w * 3 for h, w in shapes], dtype=np.int64)
    pixels = np.memmap(cache, dtype=np.uint8, mode="r", shape=(int(ends[-1]),))
    return PictureCache(pixels=pixels, shapes=shapes, offsets=(0, *(int(end) for end in ends[:-1])))


def _decode(files: list[Path], listing: list[list[object]], cache: Path, index: Path) -> None:
    index.unlink(missing_ok=True)
    shapes = []
    with cache.open("wb") as out:
        for path in track(files, description="decoding", console=Console(stderr=True)):
            try:
                with Image.open(path) as image:
                    pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
            except (OSError, ValueError, Image.DecompressionBombError) as error:
                raise InputError(f"{path}: cannot be decoded: {error}", hint="remove it from the folder") from error
            shapes.append(pixels.shape[:2])
            out.write(pixels.tobytes())
    # The index is written last: it vouches for a complete cache.
    index.write_text(json.dumps({"listing": listing, "shapes": shapes}))


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The pictures of a cache that a run trains on, and those that it holds out, by number."""

    cache: PictureCache
    training: tuple[int, ...]
    held_out: tuple[int, ...]


def hold_out(cache: PictureCache, count: int) -> Pictures:
    """Sets ``count`` pictures apart for validation, evenly spread over the file names: at most a quarter, at least one.

    Pictures with a side below 64 serve nothing and are left out.  InputError if nothing remains to train on.
    """
    usable = [i for i, shape in enumerate(cache.shapes) if min(shape) >= ALIGNMENT]
    total = len(usable)
    if total < 2:
        raise InputError(
            f"training: expected at least 2 pictures (of no side below {ALIGNMENT}), one of them to validate with; "
            f"found {total}",
            hint="give a folder with more photographs",
        )
    chosen = {usable[int(i)] for i in np.linspace(0, total - 1, max(1, min(count, total // 4)), dtype=int)}
    training = tuple(i for i in usable if i not in chosen)
    return Pictures(cache=cache, training=training, held_out=tuple(sorted(chosen)))


class Crops:
    """Random crops of the training pictures, each a function of (seed, step, sample) and nothing else.

    So a run that is resumed, or spread over more processes, sees the very crops it would have seen.  Pictures are
    drawn by their area, which makes every pixel as likely; crops are flipped and transposed at random.
    """

    def __init__(self, pictures: Pictures, *, levels: int, seed: int) -> None:
        self.pictures = pictures
        self.levels = levels
        self.seed = seed
        self._chances: dict[int, tuple[list[int], npt.NDArray[np.float64]]] = {}

    def batch(
        self, step: int, samples: Sequence[int], side: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Crops, float32 B x 3 x side x side in [0, 1], and a quality level drawn for each, int64 B.

        InputError when no picture is as large as the crop.
        """
        usable, cumulative = self._usable(side)
        crops = np.empty((len(samples), 3, side, side), dtype=np.float32)
        levels = np.empty(len(samples), dtype=np.int64)
        for b, sample in enumerate(samples):
            rng = np.random.default_rng([self.seed, step, sample])
            levels[b] = rng.integers(self.levels)
            picture = usable[int(np.searchsorted(cumulative, rng.random(), side="right"))]
            crops[b] = self._crop(self.pictures.cache.picture(picture), side, rng).transpose(2, 0, 1)
        crops /= 255.0
        return crops, levels

    def _usable(self, side: int) -> tuple[list[int], npt.NDArray[np.float64]]:
        if side not in self._chances:
            shapes = self.pictures.cache.shapes
            usable = [i for i in self.pictures.training if min(shapes[i]) >= side]
            if not usable:
                raise InputError(f"no picture is as large as the crop of {side}", hint="lower --crop and --last-crop")
            areas = np.array([shapes[i][0] * shapes[i][1] for i in usable], dtype=np.float64)
            cumulative = np.cumsum(areas / areas.sum())
            cumulative[-1] = 1.0  # above every draw, whatever the rounding
            self._chances[side] = usable, cumulative
        return self._chances[side]

    @staticmethod
    def _crop(pixels: npt.NDArray[np.uint8], side: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
        top, left = (int(rng.integers(length - side + 1)) for length in pixels.shape[:2])
        piece = pixels[top : top + side, left : left + side]
        if rng.random() < 0.5:
            piece = piece[:, ::-1]
        if rng.random() < 0.5:
            piece = piece.transpose(1, 0, 2)
        return piece
