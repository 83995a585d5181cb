"""The front of a stream, read without its payloads: what ``pack`` wrote, and nothing that is damaged."""

from __future__ import annotations

import io
from dataclasses import fields

import pytest

from s2c_deploy.errors import BitstreamError
from s2c_deploy.formats.bitstream import ENTRY, MAX_METADATA, Stream, pack
from s2c_deploy.formats.head import Head, read_head

EXIF = b"II*\0\x08\0\0\0\0\0\0\0\0\0"


def stream(*, icc: bytes | None = None, exif: bytes | None = None) -> Stream:
    return Stream(
        width=130,
        height=70,
        variant="conv",
        preset="tiny",
        quality=4.5,
        tile=64,
        fingerprint=bytes(range(8)),
        tiles=tuple(bytes([k]) * (5 + k) for k in range(6)),
        icc=icc,
        exif=exif,
    )


class OneByteAtATime(io.BytesIO):
    """As an unbuffered file may be."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(1 if size else size)


@pytest.mark.parametrize("icc", [None, b"profile" * 99])
@pytest.mark.parametrize("exif", [None, EXIF])
@pytest.mark.parametrize("kind", [io.BytesIO, OneByteAtATime])
def test_it_is_what_was_packed(icc: bytes | None, exif: bytes | None, kind: type[io.BytesIO]) -> None:
    packed = stream(icc=icc, exif=exif)
    data = pack(packed)
    file = kind(b"before" + data)
    io.BytesIO.read(file, 6)
    head = read_head(file)
    for name in {field.name for field in fields(Head)} - {"exif_start", "entries", "start", "size"}:
        assert getattr(head, name) == getattr(packed, name), name
    assert head.size == len(data)
    assert head.start == len(data) - sum(map(len, packed.tiles))
    assert [length for length, _ in ENTRY.iter_unpack(head.entries)] == [len(tile) for tile in packed.tiles]
    assert file.tell() == 6 + len(data) - sum(map(len, packed.tiles)), "not a byte of the payloads"
    if exif is None:
        assert head.exif_start is None
    else:
        assert head.exif_start is not None
        assert data[head.exif_start :].startswith(exif)


def test_payloads_may_be_anything() -> None:
    data = pack(stream(exif=EXIF))
    front = len(data) - sum(5 + k for k in range(6))
    for payloads in (b"", b"x", bytes(1000)):
        assert read_head(io.BytesIO(data[:front] + payloads)) == read_head(io.BytesIO(data))


def test_every_cut_and_every_flipped_bit_of_the_front_is_found() -> None:
    data = pack(stream(icc=b"profile", exif=EXIF))
    front = len(data) - sum(5 + k for k in range(6))
    for size in range(front):
        with pytest.raises(BitstreamError):
            read_head(io.BytesIO(data[:size]))
    for bit in range(8 * front):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            read_head(io.BytesIO(damaged))


def test_metadata_that_is_too_long_is_not_read() -> None:
    """Forged, with right checksums."""
    from s2c_deploy.entropy.native import crc32c

    data = bytearray(pack(stream(icc=b"profile")))
    table_end = 22 + 7 * 8
    data[22:26] = (MAX_METADATA + 1).to_bytes(4, "little")
    data[table_end : table_end + 4] = crc32c(bytes(data[:table_end])).to_bytes(4, "little")
    with pytest.raises(BitstreamError, match="at most"):
        read_head(io.BytesIO(data))
