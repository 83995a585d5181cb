"""Fronts of streams forged with right checksums: read by themselves and with the whole, to the same end."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import fields, replace
from typing import TypeVar

from hypothesis import example, given
from hypothesis import strategies as st

from s2c_deploy.entropy.native import crc32c
from s2c_deploy.errors import BitstreamError
from s2c_deploy.formats.bitstream import MAGIC, VERSION, Stream, parse
from s2c_deploy.formats.head import Head, read_head
from s2c_deploy.formats.stream_file import open_stream

#: Names of what only payloads can be wrong in.
PAYLOADS = ("file size", "checksum of tile")
small = st.integers(0, 300)


@given(
    flags=st.integers(0, 8),
    model=st.integers(0, 255),
    step=st.integers(0, 255),
    sides=st.tuples(small | st.integers(0, 0xFFFF), small | st.integers(0, 0xFFFF)),
    units=st.integers(0, 3),
    lengths=st.lists(st.integers(0, 40) | st.integers(0, 2**32 - 1), max_size=8),
    rest=st.binary(max_size=200),
    right=st.booleans(),
)
@example(flags=3, model=0x11, step=0, sides=(70, 70), units=0, lengths=[2**32 - 1] * 3, rest=b"x" * 9, right=True)
def test_forged_fronts(
    flags: int,
    model: int,
    step: int,
    sides: tuple[int, int],
    units: int,
    lengths: list[int],
    rest: bytes,
    right: bool,
) -> None:
    front = MAGIC + bytes([VERSION, flags, model, step])
    front += b"".join(side.to_bytes(2, "little") for side in (*sides, units)) + bytes(8)
    starts = [sum(lengths[:k]) for k in range(len(lengths))]
    for start, length in zip(starts, lengths, strict=True):
        crc = crc32c(rest[start : start + length]) if right else 0
        front += length.to_bytes(4, "little") + crc.to_bytes(4, "little")
    data = front + crc32c(front).to_bytes(4, "little") + rest
    head, stream = verdict(lambda: read_head(io.BytesIO(data))), verdict(lambda: parse(data, max_pixels=2**40))
    if isinstance(stream, Stream):
        assert isinstance(head, Head)
        assert head.size == len(data)
        lazy = open_stream(io.BytesIO(data), max_pixels=2**40)
        assert replace(lazy, tiles=tuple(lazy.tiles)) == stream
        for name in {field.name for field in fields(Head)} - {"exif_start", "entries", "start", "size"}:
            assert getattr(head, name) == getattr(stream, name)
    elif isinstance(head, Head):
        assert stream.startswith(PAYLOADS)
        assert verdict(lambda: tuple(open_stream(io.BytesIO(data), max_pixels=2**40).tiles)) == stream
    else:
        assert not head.startswith(PAYLOADS)


Result = TypeVar("Result")


def verdict(read: Callable[[], Result]) -> Result | str:
    """What was read, or the field that is wrong."""
    try:
        return read()
    except BitstreamError as error:
        return error.field
