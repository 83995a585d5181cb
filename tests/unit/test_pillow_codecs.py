"""The conventional codecs of an evaluation: what they cannot code is an error of this package."""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image as Pil
import pytest

from s2c_deploy.errors import InputError, OutOfMemoryError
from s2c_deploy.evaluation.pillow_codecs import pillow_codec

PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def test_picture_that_a_format_cannot_hold() -> None:
    with pytest.raises(InputError, match=r"WebP fails at coding 16384x1 pixels: .*leave webp out"):
        pillow_codec("webp").encode(np.zeros((1, 16384, 3), np.uint8), 50)


def test_more_pixels_than_pillow_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = pillow_codec("jpeg")
    data = codec.encode(PIXELS, 90)
    monkeypatch.setattr(Pil, "MAX_IMAGE_PIXELS", 7)
    with pytest.raises(InputError, match=r"JPEG fails at decoding \d+ bytes: .*16 pixels"):
        codec.decode(data)


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    codec = pillow_codec("jpeg")
    data = codec.encode(PIXELS, 90)
    monkeypatch.setattr(Pil.Image, "save", fail)
    with pytest.raises(OutOfMemoryError, match="coding 4x4 pixels as JPEG"):
        codec.encode(PIXELS, 90)
    monkeypatch.setattr(Pil.Image, "convert", fail)
    with pytest.raises(OutOfMemoryError, match="decoding"):
        codec.decode(data)
