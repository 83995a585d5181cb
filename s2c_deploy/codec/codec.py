"""The codec: pixels to ``.s2c`` bytes and back, on any engine.

    with Codec.open("engines/conv-small") as codec:
        data = codec.compress(pixels, quality=4)
        pixels = codec.decompress(data)

One codec serves any number of threads.  It can be pickled: the other process opens its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from s2c_deploy.arrays import FloatArray, Indexes, Pixels, Symbols
from s2c_deploy.codec.blocks import Area, padded
from s2c_deploy.codec.networks import Networks
from s2c_deploy.codec.picture import PictureCoder, Size
from s2c_deploy.codec.prefetch import ahead
from s2c_deploy.codec.sliding import SlidingRows
from s2c_deploy.codec.tiles import TileCoder
from s2c_deploy.codec.transforms import Transforms
from s2c_deploy.contract import ALIGNMENT
from s2c_deploy.entropy.coder import MAX_THREADS, Encoder
from s2c_deploy.errors import BitstreamError, BundleError, InputError, OutOfMemoryError
from s2c_deploy.formats.bitstream import (
    FINGERPRINT_SIZE,
    Stream,
    check_size,
    pack,
    parse,
    round_quality,
    tile_count,
)
from s2c_deploy.formats.bundle import Bundle, graph_names, open_bundle
from s2c_deploy.host import free_memory
from s2c_deploy.lifetime import Lifetime
from s2c_deploy.presets import FULL
from s2c_deploy.runtime.backends import PRECISIONS

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
        self._pictures = PictureCoder(
            bundle,
            networks,
            self._tiles,
            Transforms(bundle, networks) if transforms is None else transforms,
            lifetime=self._lifetime,
            memory=lambda: 3 * free_memory() // 4 if memory_limit is None else memory_limit,
        )
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
    ) -> bytes:
        """A picture, uint8 H x W x 3 (RGB), to a ``.s2c`` stream.

        quality: 1 (small) to 8 (good), in steps of 1/32; tile: side of the tiles that are coded apart, in pixels, a
        multiple of 64, or 0 for none; icc, exif: carried along.  InputError for anything else, OutOfMemoryError where
        memory does not hold the picture.
        """
        size = check_picture(image)
        described = self.describe(size, quality, tile=tile, icc=icc, exif=exif)
        return pack(replace(described, tiles=tuple(self.payloads(described, iter([image])))))

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
        _check_metadata(icc=icc, exif=exif)
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
        checked = _checked_rows(rows, (stream.height, stream.width))
        with _memory_for("compressing", stream):
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
        """As ``decompress``, of a parsed stream; its tiles overlap as the streams of ``decompress_all`` do."""
        self.check_stream(stream)
        with self._lifetime.use():
            latents = self._read_latents(stream)
            return self._draw(stream, ahead(latents) if len(stream.tiles) > 1 else latents)

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
        with _memory_for("decompressing", stream):
            yield from self._pictures.decode(stream, range(len(stream.tiles)) if numbers is None else numbers)

    def synthesize(self, stream: Stream, latents: Iterable[FloatArray]) -> Pixels:
        """The second half: the picture, from what ``read_latents`` gives; InputError for latents of another shape."""
        self.check_stream(stream)
        with self._lifetime.use():
            return self._draw(stream, latents)

    def _draw(self, stream: Stream, latents: Iterable[FloatArray]) -> Pixels:
        with _memory_for("decompressing", stream):
            image = np.empty((stream.height, stream.width, 3), np.uint8)
            row = 0
            for band in self._pictures.bands(stream, _whole_area(stream), latents):
                image[row : row + len(band)] = band
                row += len(band)
        return image

    def decompress_rows(self, stream: Stream) -> Iterator[Pixels]:
        """As ``decompress_stream``, some rows after another, from the top, uint8 h x W x 3.

        Of a tiled stream only those tiles are held that the next rows need.
        """
        self.check_stream(stream)
        latents = ahead(self._one_by_one(self._read_latents(stream)))
        with _memory_for("decompressing", stream):
            yield from self._one_by_one(self._pictures.bands(stream, _whole_area(stream), latents))

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
        with self._lifetime.use(), _memory_for("decompressing", stream):
            numbers = [number for row in self._pictures.needed(stream, area) for number in row]
            latents = self._read_latents(stream, numbers) if latent is None else map(latent, numbers)
            bands = self._pictures.bands(stream, area, ahead(latents) if len(numbers) > 1 else latents)
            pixels = np.concatenate(list(bands))
        first, start = top - area.top, left - area.left
        return np.ascontiguousarray(pixels[first : first + height, start : start + width])

    def reconstruct(self, image: Pixels, quality: float = 4, *, tile: int = 0) -> Pixels:
        """The picture that ``decompress`` will give, from the encoder's own latents, without a stream."""
        stream = self.describe(check_picture(image), quality, tile=tile)
        with self._lifetime.use(), _memory_for("reconstructing", stream):
            return self._draw(stream, (y_hat for _, y_hat in self._encoded(stream, iter([image]))))

    def symbols(self, image: Pixels, quality: float = 4) -> tuple[Symbols, Indexes]:
        """What ``compress`` gives to the coder, flat, int16 and uint8, in coding order: for measuring coders."""
        stream = self.describe(check_picture(image), quality)
        with self._lifetime.use():
            ((encoder, _),) = self._encoded(stream, iter([image]))
        symbols, indexes = zip(*encoder.batches, strict=True)
        return np.concatenate([s.reshape(-1) for s in symbols]), np.concatenate([i.reshape(-1) for i in indexes])

    def _encoded(self, stream: Stream, rows: Iterator[Pixels]) -> Iterator[tuple[Encoder, FloatArray]]:
        size = (stream.height, stream.width)
        return self._pictures.encode(SlidingRows(rows, axis=0), size, stream.tile, stream.quality)

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


def whole(value: Any) -> Any:
    """numpy's whole numbers as Python's; anything else as it is, for the checks to see."""
    return int(value) if isinstance(value, np.integer) else value


def check_options(
    backend: object, threads: object, synthesis: object, precision: object, max_pixels: object, memory_limit: object
) -> None:
    """InputError for values of other types than ``Codec.open`` names."""
    for name, value in (("backend", backend), ("synthesis", synthesis), ("precision", precision)):
        if not isinstance(value, str):
            raise InputError(f"{name}: expected a name, found {type(value).__name__}")
    if precision not in PRECISIONS:
        raise InputError(f"precision: expected {', '.join(PRECISIONS)}, found {precision!r:.80}")
    if type(threads) is not int or not 0 <= threads <= MAX_THREADS:
        raise InputError(f"threads: expected 0 to {MAX_THREADS}, found {threads!r:.80}")
    for name, value in (("max_pixels", max_pixels), ("memory_limit", memory_limit)):
        if value is not None and (type(value) is not int or value < 1):
            raise InputError(f"{name}: expected None or 1 or more, found {value!r:.80}")


def check_picture(image: object) -> Size:
    """Height and width of a picture; InputError for anything but uint8 H x W x 3."""
    if (
        not isinstance(image, np.ndarray)
        or isinstance(image, np.ma.MaskedArray)
        or image.dtype != np.uint8
        or image.ndim != 3
        or image.shape[2] != 3
    ):
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f"image: expected uint8 of height x width x 3, found {found}")
    return image.shape[0], image.shape[1]


def _checked_rows(rows: Iterator[Pixels], size: Size) -> Iterator[Pixels]:
    """The same rows; InputError for what cannot be them, or where there are more or fewer."""
    height, width = size
    found = 0
    for some in rows:
        if not isinstance(some, np.ndarray) or some.dtype != np.uint8 or some.shape[1:] != (width, 3):
            told = f"{some.dtype} {some.shape}" if isinstance(some, np.ndarray) else type(some).__name__
            raise InputError(f"rows: expected uint8 of n x {width} x 3, found {told}")
        found += len(some)
        if found > height:
            break
        yield some
    if found != height:
        raise InputError(f"rows: expected {height} rows, found {found}")


def check_region(stream: Stream, left: int, top: int, width: int, height: int) -> tuple[int, int, int, int]:
    """A rectangle as Python's integers; InputError unless it has pixels and all are in the picture."""
    edges = tuple(whole(value) for value in (left, top, width, height))
    if any(type(value) is not int for value in edges):
        raise InputError(f"region: expected whole numbers, found {edges!r:.80}")
    left, top, width, height = edges
    inside = 0 <= left < left + width <= stream.width and 0 <= top < top + height <= stream.height
    if not inside:
        raise InputError(
            f"region: expected a rectangle inside {stream.width}x{stream.height} pixels, "
            f"found {left},{top},{width}x{height}",
            hint="left, top, width and height, in pixels from the top left corner",
        )
    return left, top, width, height


def _whole_area(stream: Stream) -> Area:
    return Area(top=0, bottom=padded(stream.height), left=0, right=padded(stream.width))


def _check_metadata(**blocks: object) -> None:
    for name, block in blocks.items():
        if block is not None and not isinstance(block, bytes):
            raise InputError(f"{name}: expected bytes or None, found {type(block).__name__}")


@contextmanager
def _memory_for(doing: str, stream: Stream) -> Iterator[None]:
    """Says what memory did not suffice for, whoever ran out of it: numpy, the coder or an engine."""
    try:
        yield
    except (MemoryError, OutOfMemoryError) as error:
        smaller = "smaller tiles" if stream.tile else "tiles: tile=1024, --tile 1024"
        raise OutOfMemoryError(
            f"{doing} {stream.width}x{stream.height} pixels",
            hint=f"free some, lower memory_limit (--memory-limit), or take {smaller}",
        ) from error
