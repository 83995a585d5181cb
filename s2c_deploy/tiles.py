"""A tiled stream for viewers: the pixels of one tile of its grid, or of any rectangle, at the cost of a few tiles.

    with TiledPicture("scan.s2c") as picture:
        pixels = picture.pixels(column, row)  # uint8 h x w x 3

A server for OpenSeadragon and its like is in ``examples/tile_server.py``.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from types import TracebackType

from s2c_deploy.arrays import FloatArray, Pixels
from s2c_deploy.codec.checks import whole
from s2c_deploy.codec.shared import Opening, bundle_folder, decoder
from s2c_deploy.errors import InputError
from s2c_deploy.formats.stream_file import open_stream
from s2c_deploy.pictures.reading import open_regular
from s2c_deploy.presets import FULL


class TiledPicture:
    """A ``.s2c`` file, opened; threads may share it.

    Attributes: width, height and tile (its side; the larger one of an untiled picture), in pixels; columns and rows of
    tiles; icc, the colour profile, or None.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        bundle: str | os.PathLike[str] | None = None,
        backend: str = "auto",
        threads: int = 0,
        synthesis: str = FULL,
        max_pixels: int | None = None,
        cache: int = 2**28,
    ) -> None:
        """Reads what stands before the tiles, and opens the codec of the stream's bundle, or takes the process's own.

        bundle, backend, threads, synthesis: as :meth:`Codec.open` and :func:`s2c_deploy.decode`; max_pixels: as for
        :meth:`Codec.open`; cache: bytes of decoded latents that are kept, since every tile needs its neighbours' (5 for
        a pixel of S2C-Conv `small`).  Raises InputError, BitstreamError, BundleError, EngineError, DependencyError or
        OutOfMemoryError.
        """
        cache = whole(cache)
        if type(cache) is not int or cache < 0:
            raise InputError(f"cache: expected 0 bytes or more, found {cache!r:.80}")
        opening = Opening(bundle=bundle_folder(bundle), backend=backend, threads=threads, synthesis=synthesis)
        self._file = open_regular(path)
        try:
            self._stream = stream = open_stream(self._file, max_pixels=max_pixels)
            self._codec = decoder(opening, stream.fingerprint, f"{stream.variant}-{stream.preset}")
            self._codec.check_stream(stream)
        except BaseException:
            self._file.close()
            raise
        self.width, self.height, self.icc = stream.width, stream.height, stream.icc
        self.tile = stream.tile or max(stream.width, stream.height)
        self.columns, self.rows = -(-self.width // self.tile), -(-self.height // self.tile)
        self._cache_bytes, self._held = cache, 0
        self._latents: OrderedDict[int, FloatArray] = OrderedDict()
        self._lock = threading.Lock()

    def pixels(self, column: int, row: int) -> Pixels:
        """A tile by its place in the grid, uint8 h x w x 3; those at the right and the bottom may be smaller.

        InputError for a place that is not in the grid, BitstreamError for damaged tiles.
        """
        column, row = whole(column), whole(row)
        is_place = type(column) is int and type(row) is int
        if not (is_place and 0 <= column < self.columns and 0 <= row < self.rows):
            raise InputError(
                f"tile: expected one of {self.columns} columns and {self.rows} rows, found {column!r:.80}, {row!r:.80}"
            )
        left, top = column * self.tile, row * self.tile
        return self.region(left, top, min(self.tile, self.width - left), min(self.tile, self.height - top))

    def region(self, left: int, top: int, width: int, height: int) -> Pixels:
        """A rectangle, uint8 height x width x 3, as :meth:`Codec.decompress_region`."""
        if self._file.closed:
            raise InputError("this picture is closed", hint="open it again")
        return self._codec.decompress_region(self._stream, left, top, width, height, latent=self._latent)

    def _latent(self, number: int) -> FloatArray:
        """Of a tile: the one that was kept, or a new one, for which the ones unused for longest make room."""
        with self._lock:
            if number in self._latents:
                self._latents.move_to_end(number)
                return self._latents[number]
        latent = self._codec.latent(self._stream, number)
        with self._lock:
            if number not in self._latents:
                self._latents[number] = latent
                self._held += latent.nbytes
            while self._held > self._cache_bytes:
                self._held -= self._latents.popitem(last=False)[1].nbytes
        return latent

    def close(self) -> None:
        """Closes the file; the codec is the process's, and stays open."""
        self._file.close()

    def __enter__(self) -> TiledPicture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
