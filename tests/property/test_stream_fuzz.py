"""Mutated streams: each ends in a BitstreamError or in the picture it should; nothing else is raised, nothing is kept.

What "should" means depends on the checksums:

- As they were: CRC-32C finds the change, so a stream is refused unless the mutation left it as it was.  Then it gives
  exactly the picture that it gave before.
- Put right again after the mutation, as somebody who means harm would: now the stream may be a valid one, of another
  picture.  A header can ask for another quality or a smaller width, and that is what it gets.  Even a payload can be
  changed into another valid one: bits of the bypass section are part of a symbol, and whoever flips one in the last
  batch has written a stream with another symbol.  So what has to hold is that *no stream is misread*: whatever is
  accepted has the header's size, and the symbols that were read, coded again, are the payload byte for byte.  As a
  payload is the only spelling of its symbols, a payload that differs must give other symbols, and one that does not
  gives the exact picture.
"""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2c_deploy.arrays import Pixels
from s2c_deploy.codec import tiles as module
from s2c_deploy.codec.codec import Codec
from s2c_deploy.entropy.coder import Decoder, Encoder, Tables
from s2c_deploy.entropy.native import crc32c
from s2c_deploy.errors import BitstreamError
from s2c_deploy.formats.bitstream import parse

#: Mutations whose checksums find them; and those that reach the coder and the networks with right checksums.
DETECTED, PAYLOADS, HEADERS = 20_000, 2_000, 400
HEADER = 22  # bytes of docs/bitstream.md before the section table

Mutate = Callable[[random.Random, bytearray], bytearray]


def flip_bits(rng: random.Random, data: bytearray) -> bytearray:
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def set_bytes(rng: random.Random, data: bytearray) -> bytearray:
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(len(data))] = rng.choice((0, 1, 6, 7, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return data


def truncate(rng: random.Random, data: bytearray) -> bytearray:
    return data[: rng.randrange(len(data))]


def insert(rng: random.Random, data: bytearray) -> bytearray:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.randint(1, 16)) + data[at:]


def remove(rng: random.Random, data: bytearray) -> bytearray:
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.randint(1, 16) :]


def duplicate(rng: random.Random, data: bytearray) -> bytearray:
    at, size = rng.randrange(len(data)), rng.randint(1, 32)
    return data[: at + size] + data[at:]


def splice(rng: random.Random, data: bytearray) -> bytearray:
    """Two places change their content."""
    size = rng.randint(1, 16)
    a, b = rng.randrange(len(data)), rng.randrange(len(data))
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]
    return data


def randomise(rng: random.Random, data: bytearray) -> bytearray:
    """The rest is noise."""
    at = rng.randrange(len(data))
    return data[:at] + rng.randbytes(len(data) - at)


MUTATIONS: tuple[Mutate, ...] = (flip_bits, set_bytes, truncate, insert, remove, duplicate, splice, randomise)


def stream_of(fields: bytes, sections: list[bytes]) -> bytes:
    """A stream with right lengths and checksums: the fields before the table (HEADER bytes), then the sections."""
    table = b"".join(struct.pack("<II", len(section), crc32c(section)) for section in sections)
    return b"".join([fields, table, struct.pack("<I", crc32c(fields + table)), *sections])


@dataclass
class Original:
    codec: Codec
    data: bytes
    sections: list[bytes]
    picture: Pixels


@pytest.fixture(scope="module")
def originals(bundle_path: Path, photograph: Pixels) -> Iterator[list[Original]]:
    """A busy 64 x 64 picture with metadata, and a flat one in four tiles; max_pixels bounds what headers may ask."""
    with Codec.open(bundle_path, "onnxruntime", threads=1, max_pixels=128 * 128) as codec:
        found = []
        busy = photograph[220:284, 380:444]
        for data in (
            codec.compress(busy, 8, icc=b"profile", exif=b"II*\0exif"),
            codec.compress(photograph[:100, :80], 3, tile=64),
        ):
            stream = parse(data)
            sections = [section for section in (stream.icc, stream.exif) if section] + list(stream.tiles)
            assert stream_of(data[:HEADER], sections) == data
            found.append(Original(codec=codec, data=data, sections=sections, picture=codec.decompress(data)))
        yield found


class Recorder(Decoder):
    """A decoder that keeps what it reads, and at its end proves that it did not misread."""

    last: bytes | None = None

    def __init__(self, tables: Tables, payload: bytes, *, threads: int = 1) -> None:
        super().__init__(tables, payload, threads=threads)
        self._again, self._bytes = Encoder(tables), bytes(payload)

    def read(self, indexes: Any, out: Any = None) -> Any:
        symbols = super().read(indexes, out)
        self._again.push(symbols.copy(), indexes.copy())
        return symbols

    def finish(self) -> None:
        super().finish()
        assert self._again.finish(lanes_log2=self._bytes[0]) == self._bytes, "misread"


def outcome(original: Original, data: bytes) -> Pixels | None:
    """The picture, or None if the stream was refused; whatever else is raised fails the test."""
    try:
        return original.codec.decompress(data)
    except BitstreamError:
        return None


def test_mutations_are_found_by_their_checksums(originals: list[Original], monkeypatch: pytest.MonkeyPatch) -> None:
    decoding: list[Decoder] = []
    monkeypatch.setattr(
        module, "Decoder", lambda *given, threads: decoding.append(Decoder(*given, threads=threads)) or decoding[-1]
    )
    rng, unchanged = random.Random(1), 0
    for number in range(DETECTED):
        original = originals[number % 2]
        mutated = bytes(MUTATIONS[number % len(MUTATIONS)](rng, bytearray(original.data)))
        decoding.clear()
        picture = outcome(original, mutated)
        assert (picture is not None) == (mutated == original.data), mutated.hex()
        assert (picture is not None) == bool(decoding), "the coder saw what a checksum refuses"
        if picture is not None:
            unchanged += 1
            np.testing.assert_array_equal(picture, original.picture)
    assert 0 < unchanged < DETECTED / 20  # a splice of equal bytes, for one


def test_refusing_takes_little_memory(originals: list[Original]) -> None:
    """Lengths and sizes in a damaged header are not believed: no more is held than a copy of the file."""
    rng, largest = random.Random(2), max(len(original.data) for original in originals)
    batch = [
        bytes(MUTATIONS[number % len(MUTATIONS)](rng, bytearray(originals[number % 2].data))) for number in range(2000)
    ]
    batch += [stream_of(bytes(set_bytes(rng, bytearray(o.data[:HEADER]))), o.sections) for o in originals * 500]
    tracemalloc.start()
    try:
        for data in batch:
            try:
                parse(data, max_pixels=128 * 128)
            except BitstreamError:
                continue
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * largest + 50_000


def test_mutated_payloads_with_right_checksums(originals: list[Original], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Decoder", Recorder)
    rng, refused, same, other = random.Random(3), 0, 0, 0
    for number in range(PAYLOADS):
        original = originals[number % 2]
        sections = list(original.sections)
        tile = rng.randrange(2 if number % 2 == 0 else 0, len(sections))  # the first original's first two are metadata
        payload = bytes(MUTATIONS[number // 2 % len(MUTATIONS)](rng, bytearray(sections[tile])))
        if not payload:
            continue
        changed = payload != sections[tile]
        sections[tile] = payload
        picture = outcome(original, stream_of(original.data[:HEADER], sections))
        if picture is None:
            refused += 1
            assert changed
        elif changed:
            other += 1
            assert picture.shape == original.picture.shape
        else:
            same += 1
            np.testing.assert_array_equal(picture, original.picture)
    assert refused > PAYLOADS * 0.9
    assert other < PAYLOADS / 20
    assert refused + same + other > PAYLOADS * 0.99


def test_mutated_headers_with_right_checksums(originals: list[Original], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Decoder", Recorder)
    rng, accepted = random.Random(4), 0
    for number in range(HEADERS):
        original = originals[number % 2]
        fields = bytearray(original.data[:HEADER])
        if number % 4 < 2:  # anywhere
            fields = (flip_bits, set_bytes)[number // 4 % 2](rng, fields)
        elif number % 8 < 4:  # another quality, which a valid stream may well ask for
            fields[7] = rng.randrange(256)
        else:  # another size, often one that the payload still fits
            struct.pack_into("<2H", fields, 8, rng.randint(0, 130), rng.randint(0, 130))
        picture = outcome(original, stream_of(bytes(fields), original.sections))
        if picture is not None:
            accepted += 1
            width, height = struct.unpack_from("<2H", fields, 8)
            assert picture.shape == (height, width, 3)
            assert width * height <= 128 * 128
    assert HEADERS / 20 < accepted < HEADERS * 0.9


def test_metadata_is_not_looked_into(originals: list[Original]) -> None:
    rng, original = random.Random(5), originals[0]
    for _ in range(20):
        sections = [rng.randbytes(rng.randint(1, 40)), rng.randbytes(rng.randint(1, 40)), *original.sections[2:]]
        picture = outcome(original, stream_of(original.data[:HEADER], sections))
        assert picture is not None
        np.testing.assert_array_equal(picture, original.picture)


def test_a_picture_over_the_limit_is_refused_before_the_networks_see_it(
    originals: list[Original], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = originals[0]
    monkeypatch.setattr(module.TileCoder, "decode", lambda *_: pytest.fail("it was decoded"))
    for width, height in ((129, 128), (65535, 65535), (65535, 1)):
        fields = bytearray(original.data[:HEADER])
        struct.pack_into("<2H", fields, 8, width, height)
        with pytest.raises(BitstreamError, match="at most 16384 pixels"):
            original.codec.decompress(stream_of(bytes(fields), original.sections))
