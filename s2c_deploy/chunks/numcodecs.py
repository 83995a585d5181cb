"""A numcodecs codec, ``{"id": "s2c"}``: for arrays of zarr's format 2, and whatever else asks numcodecs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numcodecs.abc import Codec
from numcodecs.compat import ndarray_copy

from s2c_deploy.arrays import Pixels
from s2c_deploy.chunks.settings import NAME, Settings, picture_of
from s2c_deploy.codec.functions import decode, encode
from s2c_deploy.errors import InputError


class S2C(Codec):
    """Chunks of uint8 H x W x 3, lossy.  The process finds its bundle as :func:`s2c_deploy.encode` does.

    quality: 1 (small) to 8 (good); tile: as :meth:`Codec.compress`.  Raises InputError for other values.
    """

    codec_id = NAME

    def __init__(self, quality: float = 4, tile: int = 0) -> None:
        self._settings = Settings(quality=quality, tile=tile)

    def encode(self, buf: object) -> bytes:
        """A chunk to a stream.  InputError for one that is no picture, and what :func:`s2c_deploy.encode` raises.

        One in column order is refused: zarr's format 2 with ``order="F"`` reads the bytes back in that order, and the
        decoder cannot know.
        """
        picture = picture_of(buf)
        if picture.flags.f_contiguous and not picture.flags.c_contiguous:
            raise InputError("chunk: expected row order, found column order", hint='make the array with order="C"')
        return encode(picture, self._settings.quality, tile=self._settings.tile)

    def decode(self, buf: Any, out: Any = None) -> Pixels:
        """A stream to uint8 H x W x 3, into ``out`` where there is one; raises what :func:`s2c_deploy.decode` does."""
        pixels = decode(buf)
        if out is None:
            return pixels
        if np.asarray(out).nbytes != pixels.nbytes:
            raise InputError(f"out: expected {pixels.nbytes} bytes, found {np.asarray(out).nbytes}")
        copied: Pixels = ndarray_copy(pixels, out)
        return copied

    def get_config(self) -> dict[str, Any]:
        return {"id": NAME, **self._settings.configuration()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> S2C:
        try:
            return cls(**config)
        except TypeError as error:
            raise InputError(f"codec {NAME}: expected quality and tile, found {', '.join(config)}") from error

    def __repr__(self) -> str:
        return f"S2C(quality={self._settings.quality:g}, tile={self._settings.tile})"
