"""``.s2c`` files that are not held in memory: tiles are read when they are asked for, and written as they are made."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import BinaryIO, overload

import numpy as np

from s2c_deploy.entropy.native import crc32c
from s2c_deploy.errors import BitstreamError
from s2c_deploy.formats.bitstream import (
    DAMAGED,
    MAX_SECTION,
    Stream,
    check_crc,
    check_file_size,
    pack_head,
    refuse_large,
    stream_metadata,
)
from s2c_deploy.formats.head import Head, read_head, read_up_to


def open_stream(file: BinaryIO, *, max_pixels: int | None = None) -> Stream:
    """A stream whose tiles are read from a file that can be sought in, each when it is asked for, by any thread.

    Reads what stands before the tiles.  Raises :class:`BitstreamError` as ``bitstream.parse`` does: for a file of
    another size than its section table says at once, for a damaged tile when it is read.  The file must stay open, and
    must not be changed meanwhile.
    """
    file.seek(0)
    head = read_head(file)
    refuse_large(head.width, head.height, head.tile, max_pixels)
    check_file_size(head.size, file.seek(0, io.SEEK_END))
    return Stream(
        width=head.width,
        height=head.height,
        variant=head.variant,
        preset=head.preset,
        quality=head.quality,
        tile=head.tile,
        fingerprint=head.fingerprint,
        icc=head.icc,
        exif=head.exif,
        seamless=head.seamless,
        tiles=_TilesOfFile(file, head),
    )


class _TilesOfFile(Sequence[bytes]):
    """Payloads in a file, checked when they are read."""

    def __init__(self, file: BinaryIO, head: Head) -> None:
        self._file, self._lock = file, Lock()
        self._entries = np.frombuffer(head.entries, "<u4").reshape(-1, 2)
        lengths = self._entries[:, 0].astype(np.int64)
        self._starts = head.start + np.cumsum(lengths) - lengths

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, number: int) -> bytes: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[bytes]: ...
    def __getitem__(self, number: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(number, slice):
            return [self[k] for k in range(*number.indices(len(self)))]
        length, crc = (int(value) for value in self._entries[number])
        with self._lock:
            self._file.seek(int(self._starts[number]))
            payload = read_up_to(self._file, length)
        if len(payload) != length:
            raise BitstreamError(f"tile {number}", expected=f"{length} bytes", found=f"{len(payload)}", hint=DAMAGED)
        check_crc(f"tile {number}", memoryview(payload), crc)
        return payload


def write_stream(file: BinaryIO, stream: Stream, payloads: Iterable[bytes]) -> int:
    """Writes a stream to an empty file, each of its tiles when there is a payload, and then its head; returns bytes.

    stream: its own tiles may be empty, and are not looked at.  BitstreamError where there are fewer payloads or more,
    or one is too long.
    """
    metadata = stream_metadata(stream)
    entries = [(len(data), crc32c(data)) for data in metadata]
    empty = [(0, 0)] * (len(metadata) + len(stream.tiles))
    size = file.write(pack_head(stream, empty))
    for data in metadata:
        size += file.write(data)
    for payload in payloads:
        if len(payload) > MAX_SECTION:
            raise BitstreamError("tile", expected=f"at most {MAX_SECTION} bytes", found=len(payload))
        entries.append((len(payload), crc32c(payload)))
        size += file.write(payload)
    if len(entries) != len(empty):
        raise BitstreamError("tiles", expected=len(empty) - len(metadata), found=len(entries) - len(metadata))
    file.seek(0)
    file.write(pack_head(stream, entries))
    return size
