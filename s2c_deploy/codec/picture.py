"""A picture: pixels to its tiles' symbols, and its tiles' latents to pixels, from the top down in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby, islice

import numpy as np

from s2c_deploy.arrays import FloatArray, Pixels
from s2c_deploy.codec.blocks import Area, block_side, bytes_per_pixel, steps
from s2c_deploy.codec.choice import Choice
from s2c_deploy.codec.networks import Networks
from s2c_deploy.codec.prefetch import side_by_side
from s2c_deploy.codec.sliding import SlidingRows
from s2c_deploy.codec.tiles import TileCoder
from s2c_deploy.codec.transforms import Transforms
from s2c_deploy.contract import ALIGNMENT, LATENT_STRIDE, padded
from s2c_deploy.entropy.coder import Encoder
from s2c_deploy.errors import InputError
from s2c_deploy.formats.bitstream import Stream
from s2c_deploy.formats.bundle import Bundle
from s2c_deploy.formats.grid import Tile, tile_grid
from s2c_deploy.lifetime import Lifetime
from s2c_deploy.runtime.backends import GPU_BACKENDS

Size = tuple[int, int]
#: Tiles that are coded at once, at most.
_MOST_AT_ONCE = 8
#: A tile's walk takes this part of what a transform takes for as many pixels.
_OF_A_TRANSFORM = 1 / 3


class PictureCoder:
    """Transforms around tiles.

    lifetime: that of the networks, which the threads that code tiles use; memory: bytes that a transform may take.
    """

    def __init__(
        self,
        bundle: Bundle,
        networks: Networks,
        tiles: TileCoder,
        transforms: Transforms,
        *,
        lifetime: Lifetime,
        memory: Callable[[], int],
    ) -> None:
        self._config = bundle.config
        self._networks, self._tiles, self._transforms = networks, tiles, transforms
        self._lifetime, self._memory = lifetime, memory

    def encode(
        self, pixels: SlidingRows[np.uint8], size: Size, tile: int, quality: float, choice: Choice | None = None
    ) -> Iterator[tuple[Encoder, FloatArray]]:
        """Of every tile in the stream's order: an encoder with all its symbols, and y_hat.

        Size is (height, width).  Rows of pixels are taken as they are needed.  choice: of symbols.
        """
        height, width = size
        side = self._side(size, tile)
        band = max(tile, side // tile * tile) if tile else padded(height)
        for top in range(0, padded(height), band):
            rows = Area(top=top, bottom=min(top + band, padded(height)), left=0, right=padded(width))
            y = self._transforms.analyze(pixels, rows, size, quality, side)
            parts = tile_grid(width, min(band, height - top), tile)
            encode = partial(self._encode, y, parts, quality, choice)
            groups = self._together(range(len(parts)), parts.__getitem__)
            for coded in side_by_side(encode, groups, self._workers(len(parts), parts[0])):
                yield from coded

    def _encode(
        self, y: FloatArray, parts: Sequence[Tile], quality: float, choice: Choice | None, numbers: Sequence[int]
    ) -> list[tuple[Encoder, FloatArray]]:
        areas = [area_of(parts[number]).scaled(LATENT_STRIDE) for number in numbers]
        of_tiles = np.concatenate([y[:, :, area.top : area.bottom, area.left : area.right] for area in areas])
        encoders = [self._tiles.encoder() for _ in areas]
        with self._lifetime.use():
            y_hat = self._tiles.encode(of_tiles, quality, encoders, choice=choice)
        return list(zip(encoders, _apart(y_hat), strict=True))

    def analyze(self, image: Pixels, stream: Stream) -> FloatArray:
        """The gained latent of a whole picture, 1 x M x h x w."""
        size = (stream.height, stream.width)
        rows = SlidingRows(iter([image]), axis=0)
        return self._transforms.analyze(rows, whole_area(stream), size, stream.quality, self._side(size, stream.tile))

    def _workers(self, tiles: int, largest: Tile) -> int:
        """Threads for some tiles: as many as memory has room for; on a GPU one, where the graphs of a latent are one
        thread's at a time."""
        if tiles < 2 or self._networks.backend in GPU_BACKENDS:
            return 1
        taken = padded(largest.width) * padded(largest.height) * bytes_per_pixel(self._config) * _OF_A_TRANSFORM
        return max(1, min(tiles, self._networks.threads, _MOST_AT_ONCE, int(self._memory() / taken)))

    def _together(self, numbers: Iterable[int], part: Callable[[int], Tile]) -> Iterator[list[int]]:
        """The numbers of tiles in groups: neighbours of one size, as many as a call of a network takes."""

        def size(number: int) -> Size:
            tile = part(number)
            return padded(tile.height), padded(tile.width)

        for (height, width), alike in groupby(numbers, size):
            most = self._networks["h_s"].batch(height // ALIGNMENT, width // ALIGNMENT)
            while group := list(islice(alike, most)):
                yield group

    def needed(self, stream: Stream, area: Area) -> list[list[int]]:
        """The tiles whose latents an area's pixels depend on: their numbers in the stream, row by row."""
        if not stream.tile:
            return [[0]]
        if stream.seamless:
            field = self._networks.field(self._networks.synthesis)
            whole = whole_area(stream).scaled(LATENT_STRIDE)
            seen = area.scaled(LATENT_STRIDE).around(field, whole.bottom, whole.right)
            scale = LATENT_STRIDE
        else:
            seen, scale = area, 1
        top, bottom, left, right = (scale * edge for edge in (seen.top, seen.bottom, seen.left, seen.right))
        columns = -(-stream.width // stream.tile)
        return [
            [row * columns + column for column in range(left // stream.tile, -(-right // stream.tile))]
            for row in range(top // stream.tile, -(-bottom // stream.tile))
        ]

    def decode(self, stream: Stream, numbers: Sequence[int]) -> Iterator[FloatArray]:
        """y_hat of tiles, in their order, some at a time side by side."""
        groups = self._together(numbers, stream.part)
        workers = self._workers(len(numbers), stream.part(numbers[0]))
        for latents in side_by_side(partial(self._decode, stream), groups, workers):
            yield from _apart(latents)

    def _decode(self, stream: Stream, numbers: Sequence[int]) -> FloatArray:
        with self._lifetime.use():
            payloads = [stream.tiles[number] for number in numbers]
            return self._tiles.decode(payloads, stream.part(numbers[0]), stream.quality)

    def bands(self, stream: Stream, area: Area, latents: Iterable[FloatArray]) -> Iterator[Pixels]:
        """The pixels of an area, some rows after another, as far as the picture goes.

        latents: of the tiles that are ``needed``, in this order, taken as they are; InputError for other shapes.
        """
        tiles = self.needed(stream, area)
        remaining = iter(latents)
        if stream.tile and not stream.seamless:
            yield from self._bands_of_tiles(stream, area, tiles, remaining)
            return
        size = (stream.height, stream.width)
        side = self._side(size, stream.tile)
        first = area_of(stream.part(tiles[0][0])).scaled(LATENT_STRIDE)
        pieces = (self._latent_row(stream, row, remaining) for row in tiles)
        rows = SlidingRows(pieces, axis=2, top=first.top, left=first.left)
        for top, bottom in steps(area.top, area.bottom, side):
            band = Area(top=top, bottom=bottom, left=area.left, right=area.right)
            yield self._transforms.synthesize(rows, band, size, stream.quality, side)

    def _latent_row(self, stream: Stream, numbers: list[int], latents: Iterator[FloatArray]) -> FloatArray:
        """The latents of tiles side by side, as one; of many, only a few are there twice at any time."""
        if len(numbers) == 1:
            return self._checked(next(latents, None), stream.part(numbers[0]))
        areas = [area_of(stream.part(number)).scaled(LATENT_STRIDE) for number in numbers]
        left, shape = areas[0].left, (areas[0].height, areas[-1].right - areas[0].left)
        row = np.empty((1, self._config.latent_channels, *shape), np.float32)
        for number, area in zip(numbers, areas, strict=True):
            row[..., area.left - left : area.right - left] = self._checked(next(latents, None), stream.part(number))
        return row

    def _bands_of_tiles(
        self, stream: Stream, area: Area, tiles: list[list[int]], latents: Iterator[FloatArray]
    ) -> Iterator[Pixels]:
        """Of a stream whose tiles are pictures of their own."""
        right = min(area.right, stream.width)
        for numbers in tiles:
            first = stream.part(numbers[0])
            top, bottom = max(first.top, area.top), min(first.top + first.height, area.bottom)
            band = np.empty((bottom - top, right - area.left, 3), np.uint8)
            for number in numbers:
                part = stream.part(number)
                y_hat = self._checked(next(latents, None), part)
                size = (part.height, part.width)
                inside = Area.whole(*size)
                rows, side = SlidingRows(iter([y_hat]), axis=2), self._side(size, 0)
                pixels = self._transforms.synthesize(rows, inside, size, stream.quality, side)
                from_left, to_right = max(part.left, area.left), min(part.left + part.width, right)
                band[:, from_left - area.left : to_right - area.left] = pixels[
                    top - part.top : bottom - part.top, from_left - part.left : to_right - part.left
                ]
            yield band

    def _checked(self, y_hat: object, part: Tile) -> FloatArray:
        area = area_of(part).scaled(LATENT_STRIDE)
        wanted = (1, self._config.latent_channels, area.height, area.width)
        if not isinstance(y_hat, np.ndarray) or y_hat.shape != wanted or y_hat.dtype != np.float32:
            found = f"{y_hat.dtype} {y_hat.shape}" if isinstance(y_hat, np.ndarray) else type(y_hat).__name__
            raise InputError(f"latents: expected float32 {wanted}, found {found}", hint="pass what read_latents gives")
        return y_hat

    def _side(self, size: Size, tile: int) -> int:
        return block_side(self._config, height=size[0], width=size[1], tiled=bool(tile), memory=self._memory())


def _apart(latents: FloatArray) -> Iterator[FloatArray]:
    """B x M x h x w to 1 x M x h x w, one after another."""
    return (latents[k : k + 1] for k in range(len(latents)))


def area_of(part: Tile) -> Area:
    """A tile with its padding.  Tiles begin at multiples of 64."""
    return Area(
        top=part.top,
        bottom=part.top + padded(part.height),
        left=part.left,
        right=part.left + padded(part.width),
    )


def whole_area(stream: Stream) -> Area:
    """A stream's picture."""
    return Area.whole(stream.height, stream.width)
