"""The codec: pixels to ``.s2c`` bytes and back, on any engine.

    with Codec.open("engines/conv-small") as codec:
        data = codec.compress(pixels, quality=4)
        pixels = codec.decompress(data)

One codec serves any number of threads.  It can be pickled: the other process opens its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from s2c_deploy.arrays import FloatArray, Indexes, Pixels, Symbols
from s2c_deploy.codec.blocks import Area
from s2c_deploy.codec.checks import (
    check_metadata,
    check_options,
    check_picture,
    check_region,
    checked_rows,
    memory_for,
    whole,
)
from s2c_deploy.codec.networks import Networks
from s2c_deploy.codec.picture import PictureCoder, Size, whole_area
from s2c_deploy.codec.prefetch import ahead
from s2c_deploy.codec.search import GRADIENT, Search, Searcher, check_effort, choice_of
from s2c_deploy.codec.sliding import SlidingRows
from s2c_deploy.codec.tiles import TileCoder
from s2c_deploy.codec.transforms import Transforms
from s2c_deploy.contract import ALIGNMENT, padded
from s2c_deploy.entropy.coder import Encoder
from s2c_deploy.errors import BitstreamError, BundleError, InputError
from s2c_deploy.formats.bitstream import FINGERPRINT_SIZE, Stream, pack, parse, round_quality
from s2c_deploy.formats.bundle import Bundle, graph_names, open_bundle
from s2c_deploy.formats.grid import check_size, tile_count
from s2c_deploy.host import memory_to_take
from s2c_deploy.lifetime import Lifetime
from s2c_deploy.presets import FULL

Item = TypeVar("Item")


class Codec:
    """A bundle, opened.  Threads may share it; a process that was forked after it was opened must open its own."""

    def __init__(
        self,
        bundle: Bundle,
        networks: Networks,
        *,
        tiles: TileCoder | None = None,
        transforms: Transforms | None = None,
        max_pixels: int | None = None,
        memory_limit: int | None = None,
    ) -> None:
        self.bundle = bundle
        self._networks = networks
        self._lifetime = Lifetime("codec")
        self._tiles = TileCoder(bundle, networks) if tiles is None else tiles
        self._latents, self._tables = self._tiles.latents, self._tiles.tables
        self._pictures = PictureCoder(
            bundle,
            networks,
            self._tiles,
            Transforms(bundle, networks) if transforms is None else transforms,
            lifetime=self._lifetime,
            memory=lambda: memory_to_take() if memory_limit is None else memory_limit,
        )
        self._searcher = Searcher(bundle, networks, self._tiles, self._pictures)
        self._max_pixels = max_pixels
        #: How to open it again elsewhere; only ``open`` knows.
        self._opened: dict[str, Any] | None = None

    @classmethod
    def open(
        cls,
        bundle: str | os.PathLike[str],
        backend: str = "auto",
        *,
        threads: int = 0,
        synthesis: str = FULL,
        precision: str = "auto",
        max_pixels: int | None = None,
        memory_limit: int | None = None,
    ) -> Codec:
        """Opens the bundle in a folder on a backend: auto, or one of ``runtime.BACKENDS``.

        threads: 0 lets the engine choose; synthesis: which of the bundle's g_s (``Bundle.syntheses``): full, or a
        lighter one, such as fast; precision: of g_s: auto, float32, bfloat16 on a CPU, float16 of a TensorRT engine
        (of both choices, symbols are the same, pixels may differ); max_pixels: larger streams are refused before
        anything is allocated, counted with their padding to multiples of 64; by default 2^27 of a picture and 2^25 of a
        tile; memory_limit: bytes that g_a and g_s may take (630 a pixel of S2C-Conv `small`), by default three quarters
        of what is free: larger pictures are run through them in overlapping blocks.
        Raises InputError, BundleError, EngineError, OutOfMemoryError or DependencyError.
        """
        threads, max_pixels, memory_limit = whole(threads), whole(max_pixels), whole(memory_limit)
        check_options(backend, threads, synthesis, precision, max_pixels, memory_limit)
        opened = open_bundle(_folder(bundle))
        options = {"backend": backend, "threads": threads, "synthesis": synthesis, "precision": precision}
        networks = Networks(opened, backend, threads=threads, synthesis=synthesis, precision=precision)
        codec = cls(opened, networks, max_pixels=max_pixels, memory_limit=memory_limit)
        codec._opened = {**options, "max_pixels": max_pixels, "memory_limit": memory_limit}
        return codec

    @property
    def backend(self) -> str:
        """The backend that runs; what ``auto`` became."""
        return self._networks.backend

    @property
    def synthesis(self) -> str:
        """The graph of the g_s that draws, as the bundle names it."""
        return self._networks.synthesis

    def load(self, *, encoder: bool = True, decoder: bool = True) -> None:
        """Opens the graphs of either direction now, rather than at the first picture."""
        sides = {"g_a": encoder, "h_a": encoder, "g_s": decoder}
        with self._lifetime.use():
            for name in graph_names(self.bundle.config):
                if sides.get(name, True):
                    self._networks[self._networks.synthesis if name == "g_s" else name]

    def close(self) -> None:
        """Frees the engines, once other threads' calls have ended; using the codec afterwards is an InputError."""
        if self._lifetime.close():
            self._networks.close()
            self._tiles.close()

    def __enter__(self) -> Codec:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., Codec], tuple[Any, ...]]:
        """Pickled, it is how it was opened; whoever unpickles it opens the bundle again, which must be the same."""
        if self._opened is None or type(self) is not Codec:
            raise TypeError("only a codec that Codec.open made can be copied or pickled")
        return _open_again, (str(self.bundle.path.resolve()), self.bundle.fingerprint, self._opened)

    def compress(
        self,
        image: Pixels,
        quality: float = 4,
        *,
        tile: int = 0,
        icc: bytes | None = None,
        exif: bytes | None = None,
        effort: int = 0,
        search: Search | None = None,
    ) -> bytes:
        """A picture, uint8 H x W x 3 (RGB), to a ``.s2c`` stream.

        quality: 1 (small) to 8 (good), in steps of 1/32; tile: side of the tiles that are coded apart, in pixels, a
        multiple of 64, or 0 for none; icc, exif: carried along; effort: 0 to 9, how long to look for fewer bits
        (docs/effort.md), from 2 on with PyTorch; search: is told what that found.  InputError for anything else,
        OutOfMemoryError where memory does not hold the picture.
        """
        effort = check_effort(whole(effort))
        described = self.describe(check_picture(image), quality, tile=tile, icc=icc, exif=exif)
        with self._lifetime.use(), memory_for("compressing", described):
            coded = self._encoded(described, iter([image]), effort)
            if effort >= GRADIENT:
                coded = self._searcher.encode(described, image, effort, Search() if search is None else search)
            payloads = [self._tiles.finish(encoder) for encoder, _ in coded]
        return pack(replace(described, tiles=tuple(payloads)))

    def describe(
        self,
        size: Size,
        quality: float,
        *,
        tile: int = 0,
        icc: bytes | None = None,
        exif: bytes | None = None,
        in_rows: bool = False,
    ) -> Stream:
        """A stream of this bundle without its payloads; InputError for what cannot be one, as ``compress`` says.

        size: height and width; in_rows: the picture will not be in memory whole, so that only tiles can be too large.
        """
        tile = whole(tile)
        height, width = size
        tiles = tile_count(width, height, tile)
        if (problem := check_size(width, height, tile, self._max_pixels, in_rows=in_rows)) is not None:
            expected, found, hint = problem
            raise InputError(f"image: expected {expected}, found {found}", hint=hint)
        check_metadata(icc=icc, exif=exif)
        config = self.bundle.config
        return Stream(
            width=width,
            height=height,
            variant=config.variant,
            preset=config.preset,
            quality=round_quality(quality),
            tile=tile,
            fingerprint=self.bundle.fingerprint[:FINGERPRINT_SIZE],
            tiles=(b"",) * tiles,
            icc=icc,
            exif=exif,
            seamless=tiles > 1,
        )

    def payloads(self, stream: Stream, rows: Iterator[Pixels]) -> Iterator[bytes]:
        """The payload of every tile of a described stream, from the rows of its picture.

        rows: any number after another, from the top, uint8 h x W x 3; only as many are asked for and held as the next
        tiles need, and all where the stream has one tile.  InputError for others, or more or fewer than the height.
        """
        checked = checked_rows(rows, (stream.height, stream.width))
        with memory_for("compressing", stream):
            yield from self._one_by_one(self._tiles.finish(encoder) for encoder, _ in self._encoded(stream, checked))
        for _ in checked:  # there are none: it says so
            pass

    def decompress(self, data: bytes) -> Pixels:
        """A ``.s2c`` stream, in memory, to its picture, uint8 H x W x 3 (RGB).

        BitstreamError for anything but a whole stream of this bundle, InputError for what is no bytes, OutOfMemoryError
        where memory does not hold the picture.
        """
        return self.decompress_stream(parse(data, max_pixels=self._max_pixels))

    def decompress_all(self, streams: Iterable[bytes]) -> Iterator[Pixels]:
        """As ``decompress``, one after another: the symbols of a stream are read while g_s runs for the one before.

        The first bad stream ends it with its error.  Streams are asked for in another thread.
        """
        if not isinstance(streams, Iterable):
            raise InputError(f"streams: expected several, found {type(streams).__name__}", hint="pass a list of bytes")
        parsed = (parse(data, max_pixels=self._max_pixels) for data in streams)
        read = ((stream, list(self.read_latents(stream))) for stream in parsed)
        for stream, latents in ahead(read):
            yield self.synthesize(stream, latents)

    def decompress_stream(self, stream: Stream) -> Pixels:
        """As ``decompress``, of a parsed stream."""
        self.check_stream(stream)
        with self._lifetime.use():
            return self._draw(stream, self._read_rows(stream, whole_area(stream)))

    def read_latents(self, stream: Stream) -> Iterator[FloatArray]:
        """The first half of decoding: y_hat of every tile, float32 1 x M x h x w in 1/16 steps.

        May run in one thread while ``synthesize`` runs in another.
        """
        self.check_stream(stream)
        yield from self._one_by_one(self._read_latents(stream))

    def _one_by_one(self, items: Iterator[Item]) -> Iterator[Item]:
        """The same items; between two of them the codec may be closed."""
        while True:
            with self._lifetime.use():
                item = next(items, None)
            if item is None:
                return
            yield item

    def _read_latents(self, stream: Stream, numbers: Sequence[int] | None = None) -> Iterator[FloatArray]:
        with memory_for("decompressing", stream):
            yield from self._pictures.decode(stream, range(len(stream.tiles)) if numbers is None else numbers)

    def _read_rows(self, stream: Stream, area: Area) -> Iterator[FloatArray]:
        """The latents that an area needs, and none ahead of its row of tiles: g_s, which runs between rows, takes as
        much memory, and all processors, too."""
        for numbers in self._pictures.needed(stream, area):
            yield from self._read_latents(stream, numbers)

    def synthesize(self, stream: Stream, latents: Iterable[FloatArray]) -> Pixels:
        """The second half: the picture, from what ``read_latents`` gives; InputError for latents of another shape."""
        self.check_stream(stream)
        with self._lifetime.use():
            return self._draw(stream, latents)

    def _draw(self, stream: Stream, latents: Iterable[FloatArray]) -> Pixels:
        with memory_for("decompressing", stream):
            image = np.empty((stream.height, stream.width, 3), np.uint8)
            row = 0
            for band in self._pictures.bands(stream, whole_area(stream), latents):
                image[row : row + len(band)] = band
                row += len(band)
        return image

    def decompress_rows(self, stream: Stream) -> Iterator[Pixels]:
        """As ``decompress_stream``, some rows after another, from the top, uint8 h x W x 3.

        Of a tiled stream only those tiles are held that the next rows need.
        """
        self.check_stream(stream)
        latents = self._read_rows(stream, whole_area(stream))
        with memory_for("decompressing", stream):
            yield from self._one_by_one(self._pictures.bands(stream, whole_area(stream), latents))

    def latent(self, stream: Stream, number: int) -> FloatArray:
        """y_hat of one tile, by its number in the stream, float32 1 x M x h x w in 1/16 steps."""
        self.check_stream(stream)
        with self._lifetime.use():
            (y_hat,) = self._read_latents(stream, [number])
        return y_hat

    def decompress_region(
        self,
        stream: Stream,
        left: int,
        top: int,
        width: int,
        height: int,
        *,
        latent: Callable[[int], FloatArray] | None = None,
    ) -> Pixels:
        """A rectangle of a picture, uint8 height x width x 3: of a tiled stream at the cost of the tiles around it.

        The pixels are those of the whole picture, up to the engine's rounding.  With ``stream_file.open_stream`` only
        these tiles are read and checked.  latent: gives ``self.latent`` of a tile, for who keeps them.  InputError for
        a rectangle that is empty or not inside the picture.
        """
        self.check_stream(stream)
        left, top, width, height = check_region(stream, left, top, width, height)
        area = Area(
            top=top // ALIGNMENT * ALIGNMENT,
            bottom=padded(top + height),
            left=left // ALIGNMENT * ALIGNMENT,
            right=padded(left + width),
        )
        with self._lifetime.use(), memory_for("decompressing", stream):
            numbers = (number for row in self._pictures.needed(stream, area) for number in row)
            latents = self._read_rows(stream, area) if latent is None else map(latent, numbers)
            pixels = np.concatenate(list(self._pictures.bands(stream, area, latents)))
        first, start = top - area.top, left - area.left
        return np.ascontiguousarray(pixels[first : first + height, start : start + width])

    def reconstruct(self, image: Pixels, quality: float = 4, *, tile: int = 0) -> Pixels:
        """The picture that ``decompress`` will give, from the encoder's own latents, without a stream."""
        stream = self.describe(check_picture(image), quality, tile=tile)
        with self._lifetime.use(), memory_for("reconstructing", stream):
            return self._draw(stream, (y_hat for _, y_hat in self._encoded(stream, iter([image]))))

    def symbols(self, image: Pixels, quality: float = 4) -> tuple[Symbols, Indexes]:
        """What ``compress`` gives to the coder, flat, int16 and uint8, in coding order: for measuring coders."""
        stream = self.describe(check_picture(image), quality)
        with self._lifetime.use():
            ((encoder, _),) = self._encoded(stream, iter([image]))
        symbols, indexes = zip(*encoder.batches, strict=True)
        return np.concatenate([s.reshape(-1) for s in symbols]), np.concatenate([i.reshape(-1) for i in indexes])

    def _encoded(self, stream: Stream, rows: Iterator[Pixels], effort: int = 0) -> Iterator[tuple[Encoder, FloatArray]]:
        size = (stream.height, stream.width)
        choice = choice_of(self.bundle, stream.quality) if effort else None
        return self._pictures.encode(SlidingRows(rows, axis=0), size, stream.tile, stream.quality, choice)

    def check_stream(self, stream: Stream) -> None:
        """BitstreamError with both fingerprints if a stream is of another bundle, InputError if it is not parsed."""
        if not isinstance(stream, Stream):
            raise InputError(f"stream: expected a parsed one, found {type(stream).__name__}", hint="parse(data)")
        if not self.bundle.reads(stream.fingerprint):
            mine = self.bundle.fingerprint[:FINGERPRINT_SIZE]
            raise BitstreamError(
                "fingerprint",
                expected=f"{mine.hex()} ({self.bundle.config.name}, {self.bundle.path})",
                found=f"{stream.fingerprint.hex()} ({stream.variant}-{stream.preset})",
                hint="decompress with the bundle that made the stream: --bundle",
            )


def _open_again(path: str, fingerprint: bytes, options: dict[str, Any]) -> Codec:
    codec = Codec.open(path, **options)
    if codec.bundle.fingerprint != fingerprint:
        codec.close()
        raise BundleError(
            f"{path}: expected the bundle {fingerprint.hex()[:16]} that the codec was opened with, "
            f"found {codec.bundle.fingerprint.hex()[:16]}",
            hint="it was exported again meanwhile: open it anew",
        )
    return codec


def _folder(bundle: object) -> Path:
    if not isinstance(bundle, str | os.PathLike):
        raise InputError(f"bundle: expected the path of a folder, found {type(bundle).__name__}")
    return Path(bundle)
