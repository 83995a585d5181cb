"""Arrays of an .npz from elsewhere: every size is known, and bounded, before it is allocated.

A zip of a few kilobytes may unpack to gigabytes, and eleven bytes of an array's head may ask for any shape.  So members
must be stored as they are, which is how this package writes them, and an array must be as large as its member.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_ARRAYS = 4096
#: Bytes of an entry in the list of members, names included.
_MOST_OF_ENTRY = 256


def npz_bytes(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """An uncompressed .npz, the same bytes for the same arrays (they enter the fingerprint)."""
    out = io.BytesIO()
    np.savez(out, **{name: arrays[name] for name in sorted(arrays)})  # type: ignore[arg-type]
    return out.getvalue()


def parse_npz(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an .npz's bytes, ValueError if it is none, is compressed, or holds objects."""
    _check_directory(data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if len(members) > MAX_ARRAYS:
                raise ValueError(f"expected at most {MAX_ARRAYS} arrays, found {len(members)}")
            if (stored := sum(member.file_size for member in members)) > len(data):
                raise ValueError(f"expected at most the file's {len(data)} bytes inside, found {stored}")
            found: dict[str, npt.NDArray[Any]] = {}
            for member in members:
                name = member.filename.removesuffix(".npy")
                if name == member.filename or name in found:
                    raise ValueError(f"expected .npy files of different names, found {member.filename!r:.80}")
                if member.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"{name!r:.80}: expected it uncompressed")
                found[name] = _parse_npy(archive.read(member), name)
            return found
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, OSError) as error:
        raise ValueError(f"no zip archive: {error}") from error


def _check_directory(data: bytes) -> None:
    """The archive's own list of members is read whole: its size is known before (APPNOTE.TXT 4.3.16)."""
    end = data.rfind(b"PK\5\6", max(0, len(data) - 65_557))
    if end < 0 or len(data) - end < 22:
        raise ValueError("no zip archive: it has no end")
    size = int.from_bytes(data[end + 12 : end + 16], "little")
    if size > MAX_ARRAYS * _MOST_OF_ENTRY or data[max(0, end - 20) : end - 16] == b"PK\6\7":
        raise ValueError(f"expected at most {MAX_ARRAYS} arrays, found a list of {size} bytes")


def _parse_npy(data: bytes, name: str) -> npt.NDArray[Any]:
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise ValueError(f"version {version}")
        shape, columns_first, dtype = readers[version](stream)
    except Exception as error:  # of a damaged head: ValueError, SyntaxError, UnicodeError, TypeError, ...
        raise ValueError(f"{name!r:.80}: no .npy array: {error}") from error
    if dtype.kind not in "biuf" or dtype.itemsize == 0:
        raise ValueError(f"{name!r:.80}: expected plain numbers, found {dtype}")
    if (columns_first and len(shape) > 1) or dtype.byteorder == ">":
        raise ValueError(f"{name!r:.80}: expected C order and little-endian numbers")
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size != len(data) - stream.tell():
        raise ValueError(f"{name!r:.80}: expected {shape} of {dtype}, found {len(data) - stream.tell()} bytes")
    array: npt.NDArray[Any] = np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape).copy()
    return array
