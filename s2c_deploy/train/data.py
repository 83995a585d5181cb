"""Crops of training pictures, and the pictures that are held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.console import Console

from s2c_deploy.contract import ALIGNMENT
from s2c_deploy.errors import InputError
from s2c_deploy.train.cache import PictureCache

#: Pictures left out that are named.
_MOST_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The pictures of a cache that a run trains on, and those that it holds out, by number."""

    cache: PictureCache
    training: tuple[int, ...]
    held_out: tuple[int, ...]


def hold_out(cache: PictureCache, count: int) -> Pictures:
    """Sets ``count`` pictures apart for validation, evenly spread over the file names: at most a quarter, at least one.

    Pictures with a side below 64 serve nothing and are left out, which is said on the error stream.  InputError if
    nothing remains to train on.
    """
    usable = [i for i, shape in enumerate(cache.shapes) if min(shape) >= ALIGNMENT]
    total = len(usable)
    _tell_small([name for name, shape in zip(cache.names, cache.shapes, strict=True) if min(shape) < ALIGNMENT])
    if total < 2:
        raise InputError(
            f"training: expected at least 2 pictures (of no side below {ALIGNMENT}), one of them to validate with; "
            f"found {total}",
            hint="give a folder with more photographs",
        )
    chosen = {usable[int(i)] for i in np.linspace(0, total - 1, max(1, min(count, total // 4)), dtype=int)}
    training = tuple(i for i in usable if i not in chosen)
    return Pictures(cache=cache, training=training, held_out=tuple(sorted(chosen)))


def _tell_small(names: list[str]) -> None:
    if not names:
        return
    shown = ", ".join(names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")
    text = f"left out, since a side is below {ALIGNMENT}: {len(names)} of the pictures: {shown}"
    # A file's name may be no text that a terminal can show.
    Console(stderr=True).print(text.encode("utf-8", "backslashreplace").decode(), markup=False, highlight=False)


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
