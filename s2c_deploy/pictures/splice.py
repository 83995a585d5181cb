"""A file without some of its parts, or with other bytes in some places."""

from __future__ import annotations

import io
from bisect import bisect_right
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Parts = list[tuple[int, int]]


def keep(parts: Parts, start: int, end: int) -> None:
    """Append a part, from start up to before end, that lies behind all others."""
    if parts and parts[-1][1] == start:
        parts[-1] = (parts[-1][0], end)
    else:
        parts.append((start, end))


def splice(file: BinaryIO, parts: Parts) -> BinaryIO:
    """The parts of a seekable file as a file of their own; nothing is copied before it is read."""
    return io.BufferedReader(_Spliced(file, parts), 2**16)


def patch(file: BinaryIO, patches: dict[int, bytes]) -> BinaryIO:
    """A seekable file with other bytes in some places; nothing is copied before it is read."""
    return io.BufferedReader(_Patched(file, patches), 2**16)


class _Patched(io.RawIOBase):
    """A file of which some bytes, by their place, are others."""

    def __init__(self, file: BinaryIO, patches: dict[int, bytes]) -> None:
        self._file = file
        self._patches = patches

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        start = self._file.tell()
        data = bytearray(self._file.read(len(view)))
        for place, patched in self._patches.items():
            first, last = max(place, start), min(place + len(patched), start + len(data))
            if first < last:
                data[first - start : last - start] = patched[first - place : last - place]
        view[: len(data)] = data
        return len(data)


class _Spliced(io.RawIOBase):
    """Parts of a file, read as if they were one; nothing is copied before it is read."""

    def __init__(self, file: BinaryIO, parts: list[tuple[int, int]]) -> None:
        self._file = file
        self._starts = [start for start, _ in parts]
        self._offsets = [0]
        for start, end in parts:
            self._offsets.append(self._offsets[-1] + end - start)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._offsets[-1]}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        if self._at >= self._offsets[-1]:
            return 0
        part = bisect_right(self._offsets, self._at) - 1
        view = memoryview(buffer).cast("B")
        self._file.seek(self._starts[part] + self._at - self._offsets[part])
        data = self._file.read(min(len(view), self._offsets[part + 1] - self._at))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
