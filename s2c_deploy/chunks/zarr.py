"""A codec of zarr's format 3, ``{"name": "s2c"}``: what turns a chunk into bytes ("serializer")."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from zarr.abc.codec import ArrayBytesCodec

from s2c_deploy.chunks.settings import NAME, Settings, check_axes, picture_of
from s2c_deploy.codec.functions import decode, encode
from s2c_deploy.errors import BitstreamError, InputError
from s2c_deploy.formats.head import read_head


@dataclass(frozen=True, kw_only=True)
class S2CCodec(ArrayBytesCodec):
    """Chunks of uint8 ... x H x W x 3, lossy.  The process finds its bundle as :func:`s2c_deploy.encode` does.

    InputError for other values and, when an array is made, for chunks that can be no picture.
    """

    #: Streams have the length that they have.
    is_fixed_size = False

    #: 1 (small) to 8 (good), rounded to 1/32.
    quality: float = 4
    #: In pixels, 0 for one tile.
    tile: int = 0

    def __post_init__(self) -> None:
        settings = Settings(quality=self.quality, tile=self.tile)
        object.__setattr__(self, "quality", settings.quality)
        object.__setattr__(self, "tile", settings.tile)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> S2CCodec:
        configuration = data.get("configuration", {})
        try:
            return cls(**configuration)
        except TypeError as error:
            raise InputError(f"codec {NAME}: expected quality and tile, found {', '.join(configuration)}") from error

    def to_dict(self) -> dict[str, Any]:
        settings = Settings(quality=self.quality, tile=self.tile)
        return {"name": NAME, "configuration": settings.configuration()}

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:
        # of the array, whose axes a filter may transpose before they come here
        check_axes(getattr(chunk_grid, "chunk_shape", shape), dtype.to_native_dtype())

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        raise NotImplementedError

    async def _encode_single(self, chunk_data: Any, chunk_spec: Any) -> Any:
        """The chunk's stream; threads run it, so that zarr goes on reading and writing meanwhile."""
        picture = picture_of(np.asarray(chunk_data.as_numpy_array()))
        data = await asyncio.to_thread(encode, picture, self.quality, tile=self.tile)
        return chunk_spec.prototype.buffer.from_bytes(data)

    async def _decode_single(self, chunk_data: Any, chunk_spec: Any) -> Any:
        data = chunk_data.to_bytes()
        head = read_head(io.BytesIO(data))
        if (head.height, head.width, 3) != chunk_spec.shape[-3:]:  # before anything is allocated for it
            found = f"{head.width}x{head.height} pixels"
            raise BitstreamError("dimensions", expected=f"a chunk of {chunk_spec.shape}", found=found)
        pixels = await asyncio.to_thread(decode, data)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(pixels.reshape(chunk_spec.shape))
