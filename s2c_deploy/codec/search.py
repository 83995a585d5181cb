"""How much an encoder searches for fewer bits, and what it found.  The decoder is the same for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from s2c_deploy.arrays import FloatArray, Pixels
from s2c_deploy.codec.blocks import Area
from s2c_deploy.codec.choice import Choice
from s2c_deploy.codec.networks import Networks
from s2c_deploy.codec.picture import PictureCoder, Size, area_of
from s2c_deploy.codec.tiles import TileCoder
from s2c_deploy.contract import LATENT_STRIDE, MEAN_STEPS
from s2c_deploy.entropy.coder import Encoder
from s2c_deploy.errors import DependencyError, InputError
from s2c_deploy.formats.bitstream import Stream
from s2c_deploy.formats.bundle import Bundle
from s2c_deploy.host import freed_arrays_kept

if TYPE_CHECKING:
    from s2c_deploy.effort.refine import Refiner, Surroundings

MAX_EFFORT = 9
#: From this level on latents are refined by gradient, with PyTorch.
GRADIENT = 2

#: What a squared step of a latent is worth, in bits, by quality: the best of some on S2C-Conv `small` and pictures that
#: are not Kodak's.
_QUALITIES, _WEIGHTS = (1, 4, 6, 8), (50, 50, 75, 120)


@dataclass(kw_only=True)
class Search:
    """What became of a search: summed over the tiles, and still 0 below effort 2."""

    #: Steps that were taken.
    steps: int = 0
    #: The trade-off in bits, of effort 0 and of what was found: the stream's, and the error's by the quality's lmbda.
    before: float = 0
    after: float = 0
    #: Called after each step, with the tiles done, of how many, and the part of the cost that is left.
    told: Callable[[float, int, float], None] | None = None


def check_effort(effort: object) -> int:
    """InputError unless it is 0 to 9."""
    if type(effort) is not int or not 0 <= effort <= MAX_EFFORT:
        raise InputError(f"effort: expected 0 to {MAX_EFFORT}, found {effort!r:.80}")
    return effort


class Searcher:
    """Encodes pictures in memory with an effort above 0."""

    def __init__(self, bundle: Bundle, networks: Networks, tiles: TileCoder, pictures: PictureCoder) -> None:
        self._bundle, self._networks, self._tiles, self._pictures = bundle, networks, tiles, pictures
        self._opened: Refiner | None = None

    def encode(
        self, stream: Stream, image: Pixels, effort: int, search: Search
    ) -> Iterator[tuple[Encoder, FloatArray]]:
        """As ``PictureCoder.encode``, of a described stream."""
        refiner = self._refiner()
        from s2c_deploy.effort.refine import STEPS

        quality, size = stream.quality, (stream.height, stream.width)
        y = self._pictures.analyze(image, stream)
        # What g_s will see of tiles that are not coded yet: as good a guess as any.
        y_hat = MEAN_STEPS * np.rint(y)
        count = len(stream.tiles)
        for number in range(count):
            area = area_of(stream.part(number)).scaled(LATENT_STRIDE)
            rows, columns = slice(area.top, area.bottom), slice(area.left, area.right)
            of_tile = np.ascontiguousarray(y[:, :, rows, columns])
            z = self._tiles.hyper(of_tile, quality)
            around = self._surroundings(image, y_hat, area, size)

            def told(done: int, total: int, left: float, number: int = number) -> None:
                if search.told is not None:
                    search.told(number + done / total, count, left)

            with freed_arrays_kept():
                found = refiner.refine(of_tile, z, around, quality, steps=STEPS[effort], told=told)
            search.steps += STEPS[effort]
            search.before += found.before
            search.after += found.after
            encoder = self._tiles.encoder()
            coded = self._tiles.encode(found.y, quality, [encoder], z=found.z)
            y_hat[:, :, rows, columns] = coded
            yield encoder, coded

    def _surroundings(self, image: Pixels, y_hat: FloatArray, area: Area, size: Size) -> Surroundings:
        """All pixels that a tile's latents reach, and all latents that these depend on."""
        from s2c_deploy.effort.refine import Surroundings

        rows, columns = y_hat.shape[2:]
        field = self._networks.field("g_s")
        reached = area.around(field, rows, columns)
        seen = reached.around(field, rows, columns)
        top, left = LATENT_STRIDE * reached.top, LATENT_STRIDE * reached.left
        bottom, right = min(LATENT_STRIDE * reached.bottom, size[0]), min(LATENT_STRIDE * reached.right, size[1])
        target = image[top:bottom, left:right].transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
        return Surroundings(
            y_hat=np.ascontiguousarray(y_hat[:, :, seen.top : seen.bottom, seen.left : seen.right]),
            tile=area.within(seen),
            target=np.ascontiguousarray(target),
            corner=(top - LATENT_STRIDE * seen.top, left - LATENT_STRIDE * seen.left),
        )

    def _refiner(self) -> Refiner:
        if self._opened is None:
            try:
                from s2c_deploy.effort.refine import Refiner
            except ModuleNotFoundError as error:
                raise DependencyError(error.name or "torch", extra="effort") from error
            self._opened = Refiner(self._bundle, threads=self._networks.engine_threads)
        return self._opened


def choice_of(bundle: Bundle, quality: float) -> Choice:
    """Effort 1's, at a quality."""
    return Choice(bundle.tables, float(np.interp(quality, _QUALITIES, _WEIGHTS)))
