"""A numcodecs codec, ``{"id": "s2c"}``: for arrays of zarr's format 2, and whatever else asks numcodecs."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numcodecs.abc import Codec
from numcodecs.compat import ensure_bytes

from s2c_deploy.arrays import Pixels
from s2c_deploy.chunks.settings import NAME, Settings, picture_of
from s2c_deploy.codec.functions import decode, encode
from s2c_deploy.errors import InputError
from s2c_deploy.formats.head import read_head


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
        if out is None:
            return decode(buf)
        head = read_head(io.BytesIO(ensure_bytes(buf)))
        into = _bytes_of(out, (head.height, head.width, 3))  # before anything is decoded
        pixels = decode(buf)
        into[...] = pixels.reshape(into.shape)
        return out  # type: ignore[no-any-return]

    def get_config(self) -> dict[str, Any]:
        return {"id": NAME, **self._settings.configuration()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> S2C:
        try:
            return cls(**config)
        except TypeError as error:
            raise InputError(f"codec {NAME}: expected quality and tile, found {', '.join(map(str, config))}") from error

    def __repr__(self) -> str:
        return f"S2C(quality={self._settings.quality:g}, tile={self._settings.tile})"


def _bytes_of(out: Any, shape: tuple[int, int, int]) -> Pixels:
    """A view that the pixels of this shape can be written through; InputError where they would not be a picture."""
    into = np.asarray(out)
    whole = into.shape == shape or into.shape == (math.prod(shape),)
    if into.dtype != np.uint8 or not whole or not into.flags.c_contiguous or not into.flags.writeable:
        order = "" if into.flags.c_contiguous else ", not in row order"
        raise InputError(f"out: expected uint8 of {shape}, or as many bytes, found {into.dtype} {into.shape}{order}")
    return into
