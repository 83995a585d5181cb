"""The codec: pixels to ``.s2c`` bytes and back, on any engine.

    with Codec.open("engines/conv-small") as codec:
        data = codec.compress(pixels, quality=4)
        pixels = codec.decompress(data)

One codec serves any number of threads.  It can be pickled: the other process opens its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from s2c_deploy.arrays import FloatArray, Indexes, Pixels, Symbols
from s2c_deploy.codec.networks import Networks
from s2c_deploy.codec.prefetch import ahead
from s2c_deploy.codec.tiles import TileCoder, cut
from s2c_deploy.entropy.coder import MAX_THREADS
from s2c_deploy.errors import BitstreamError, BundleError, InputError, OutOfMemoryError
from s2c_deploy.formats.bitstream import (
    FINGERPRINT_SIZE,
    Stream,
    Tile,
    check_size,
    pack,
    parse,
    round_quality,
    tile_grid,
)
from s2c_deploy.formats.bundle import Bundle, graph_names, open_bundle
from s2c_deploy.lifetime import Lifetime
from s2c_deploy.presets import FULL
from s2c_deploy.runtime.backends import PRECISIONS


class Codec:
    """A bundle, opened.  Threads may share it; a process that was forked after it was opened must open its own."""

    def __init__(
        self, bundle: Bundle, networks: Networks, *, tiles: TileCoder | None = None, max_pixels: int | None = None
    ) -> None:
        self.bundle = bundle
        self._networks = networks
        self._tiles = TileCoder(bundle, networks) if tiles is None else tiles
        self._latents, self._tables = self._tiles.latents, self._tiles.tables
        self._max_pixels = max_pixels
        self._lifetime = Lifetime("codec")
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
    ) -> Codec:
        """Opens the bundle in a folder on a backend: auto, or one of ``runtime.BACKENDS``.

        threads: 0 lets the engine choose; synthesis: which of the bundle's g_s (``Bundle.syntheses``): full, or a
        lighter one, such as fast; precision: of g_s: auto, float32, bfloat16 on a CPU, float16 of a TensorRT engine
        (of both choices, symbols are the same, pixels may differ); max_pixels: larger streams are refused before
        anything is allocated, counted with their padding to multiples of 64; by default 2^27 of a picture and 2^25 of a
        tile, for which S2C-Conv `small` takes some 21 GB (630 bytes a pixel).
        Raises InputError, BundleError, EngineError, OutOfMemoryError or DependencyError.
        """
        threads, max_pixels = whole(threads), whole(max_pixels)
        check_options(backend, threads, synthesis, precision, max_pixels)
        opened = open_bundle(_folder(bundle))
        options = {"backend": backend, "threads": threads, "synthesis": synthesis, "precision": precision}
        networks = Networks(opened, backend, threads=threads, synthesis=synthesis, precision=precision)
        codec = cls(opened, networks, max_pixels=max_pixels)
        codec._opened = {**options, "max_pixels": max_pixels}
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

        quality: 1 (small) to 8 (good), in steps of 1/32; tile: side of independently coded tiles in pixels, a
        multiple of 64, or 0 for none; icc, exif: carried along.  InputError for anything else, OutOfMemoryError where
        memory does not hold the picture.
        """
        tile = whole(tile)
        quality, grid = self._check_picture(image, quality, tile)
        _check_metadata(icc=icc, exif=exif)
        height, width = image.shape[:2]
        payloads = []
        with self._lifetime.use(), _memory_for(f"compressing {width}x{height} pixels", tile):
            for part in grid:
                encoder = self._tiles.encoder()
                self._tiles.encode(cut(image, part), quality, encoder)
                payloads.append(self._tiles.finish(encoder))
        config = self.bundle.config
        return pack(
            Stream(
                width=width,
                height=height,
                variant=config.variant,
                preset=config.preset,
                quality=quality,
                tile=tile,
                fingerprint=self.bundle.fingerprint[:FINGERPRINT_SIZE],
                tiles=tuple(payloads),
                icc=icc,
                exif=exif,
            )
        )

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
        latents = self._read_latents(stream)
        for _ in stream.tiles:
            with self._lifetime.use():
                y_hat = next(latents)
            yield y_hat

    def _read_latents(self, stream: Stream) -> Iterator[FloatArray]:
        for part, payload in stream.parts:
            with _memory_for(f"decompressing {stream.width}x{stream.height} pixels", stream.tile):
                y_hat = self._tiles.decode(payload, part, stream.quality)
            yield y_hat

    def synthesize(self, stream: Stream, latents: Iterable[FloatArray]) -> Pixels:
        """The second half: the picture, from what ``read_latents`` gives; InputError for latents of another shape."""
        self.check_stream(stream)
        with self._lifetime.use():
            return self._draw(stream, latents)

    def _draw(self, stream: Stream, latents: Iterable[FloatArray]) -> Pixels:
        with _memory_for(f"decompressing {stream.width}x{stream.height} pixels", stream.tile):
            image = np.empty((stream.height, stream.width, 3), np.uint8)
            remaining = iter(latents)
            for part, _ in stream.parts:
                cut(image, part)[:] = self._tiles.synthesize(next(remaining, None), part, stream.quality)
        return image

    def reconstruct(self, image: Pixels, quality: float = 4, *, tile: int = 0) -> Pixels:
        """The picture that ``decompress`` will give, from the encoder's own latents, without a stream."""
        quality, grid = self._check_picture(image, quality, tile)
        out = np.empty_like(image)
        with self._lifetime.use(), _memory_for(f"reconstructing {image.shape[1]}x{image.shape[0]} pixels", tile):
            for part in grid:
                y_hat = self._tiles.encode(cut(image, part), quality, self._tiles.encoder())
                cut(out, part)[:] = self._tiles.synthesize(y_hat, part, quality)
        return out

    def symbols(self, image: Pixels, quality: float = 4) -> tuple[Symbols, Indexes]:
        """What ``compress`` gives to the coder, flat, int16 and uint8, in coding order: for measuring coders."""
        quality, _ = self._check_picture(image, quality, 0)
        encoder = self._tiles.encoder()
        with self._lifetime.use():
            self._tiles.encode(image, quality, encoder)
        symbols, indexes = zip(*encoder.batches, strict=True)
        return np.concatenate([s.reshape(-1) for s in symbols]), np.concatenate([i.reshape(-1) for i in indexes])

    def _check_picture(self, image: Pixels, quality: float, tile: int) -> tuple[float, list[Tile]]:
        if (
            not isinstance(image, np.ndarray)
            or isinstance(image, np.ma.MaskedArray)
            or image.dtype != np.uint8
            or image.ndim != 3
            or image.shape[2] != 3
        ):
            found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise InputError(f"image: expected uint8 of height x width x 3, found {found}")
        height, width = image.shape[:2]
        grid = tile_grid(width, height, tile)
        problem = check_size(width, height, tile, self._max_pixels)
        if problem is not None:
            expected, found, hint = problem
            raise InputError(f"image: expected {expected}, found {found}", hint=hint)
        return round_quality(quality), grid

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


def check_options(backend: object, threads: object, synthesis: object, precision: object, max_pixels: object) -> None:
    """InputError for values of other types than ``Codec.open`` names."""
    for name, value in (("backend", backend), ("synthesis", synthesis), ("precision", precision)):
        if not isinstance(value, str):
            raise InputError(f"{name}: expected a name, found {type(value).__name__}")
    if precision not in PRECISIONS:
        raise InputError(f"precision: expected {', '.join(PRECISIONS)}, found {precision!r:.80}")
    if type(threads) is not int or not 0 <= threads <= MAX_THREADS:
        raise InputError(f"threads: expected 0 to {MAX_THREADS}, found {threads!r:.80}")
    if max_pixels is not None and (type(max_pixels) is not int or max_pixels < 1):
        raise InputError(f"max_pixels: expected None or 1 or more, found {max_pixels!r:.80}")


def _check_metadata(**blocks: object) -> None:
    for name, block in blocks.items():
        if block is not None and not isinstance(block, bytes):
            raise InputError(f"{name}: expected bytes or None, found {type(block).__name__}")


@contextmanager
def _memory_for(what: str, tile: int) -> Iterator[None]:
    """Says what memory did not suffice for, whoever ran out of it: numpy, the coder or an engine."""
    try:
        yield
    except (MemoryError, OutOfMemoryError) as error:
        hint = "free some, or take smaller tiles" if tile else "free some, or code it in tiles: tile=1024, --tile 1024"
        raise OutOfMemoryError(what, hint=hint) from error
