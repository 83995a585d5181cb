"""Arrays from elsewhere: what is allocated is bounded by the file, before it is allocated."""

from __future__ import annotations

import io
import struct
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2c_deploy.formats.npz import npz_bytes, parse_npz

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(7, np.int64)}


def npy(header: str, data: bytes, magic: bytes = b"\x93NUMPY\x01\x00") -> bytes:
    return magic + struct.pack("<H", len(header)) + header.encode() + data


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as z:
        for name, data in members.items():
            z.writestr(name, data)
    return out.getvalue()


def head(shape: object, descr: str = "<f4", order: bool = False) -> str:
    return f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}}}\n"


def test_what_numpy_wrote_comes_back() -> None:
    found = parse_npz(npz_bytes(ARRAYS))
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
        assert found[name].flags.writeable


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "zip"),
        (b"PK\x03\x04 no zip", "zip"),
        (archive({"a.npy": npy(head((1,)), b"\0" * 4)}, zipfile.ZIP_DEFLATED), "uncompressed|at most the file's"),
        (archive({"a.npy": npy(head((1,)), b"\0" * 3)}), "found 3 bytes"),
        (archive({"a.npy": npy(head((1,)), b"\0" * 5)}), "found 5 bytes"),
        (archive({"a.npy": npy(head((2**40, 2**20)), b"\0" * 4)}), "found 4 bytes"),
        (archive({"a.npy": npy(head((-1,)), b"")}), "no .npy array|found 0 bytes"),
        (archive({"a.npy": npy(head((1,), "|O"), b"\0" * 8)}), "plain numbers"),
        (archive({"a.npy": npy(head((1,), "|V0"), b"")}), "plain numbers"),
        (archive({"a.npy": npy(head((1,), ">f4"), b"\0" * 4)}), "little-endian"),
        (archive({"a.npy": npy(head((2, 1), order=True), b"\0" * 8)}), "C order"),
        (archive({"a.npy": npy("{'descr': __import__('os').system('true')}", b"")}), "no .npy array"),
        (archive({"a.npy": b"hello"}), "no .npy array"),
        (archive({"a.txt": npy(head((1,)), b"\0" * 4)}), "expected .npy files"),
        (archive({f"{i}.npy": b"" for i in range(5000)}), "at most 4096 arrays"),
    ],
)
def test_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_npz(data)


def test_two_arrays_of_one_name() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr("a.npy", npy(head((1,)), b"\0" * 4))
        with pytest.warns(UserWarning, match="Duplicate"):
            z.writestr("a.npy", npy(head((1,)), b"\1" * 4))
    with pytest.raises(ValueError, match="different names"):
        parse_npz(out.getvalue())


def test_members_that_share_their_bytes() -> None:
    """A thousand names for one member: little on disk, much in memory."""
    large = npy(head((250_000,)), b"\0" * 1_000_000)
    data = bytearray(archive({f"{i:04}.npy": large if i == 0 else b"" for i in range(1000)}))
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        first, start = z.infolist()[0], z.start_dir
    for _ in range(1000):  # every entry of the directory gets the first one's sizes, sum and place
        name, extra, comment = struct.unpack_from("<3H", data, start + 28)
        struct.pack_into("<3I", data, start + 16, first.CRC, first.compress_size, first.file_size)
        struct.pack_into("<I", data, start + 42, first.header_offset)
        start += 46 + name + extra + comment
    with pytest.raises(ValueError, match="at most the file's"):
        parse_npz(bytes(data))


@given(st.data())
def test_damaged_files_are_refused_or_arrays(data: Any) -> None:
    whole = bytearray(npz_bytes(ARRAYS))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    end = data.draw(st.integers(0, len(whole)))
    for damaged in (bytes(whole), bytes(whole[:end])):
        try:
            found = parse_npz(damaged)
        except ValueError:
            continue
        assert sum(array.nbytes for array in found.values()) <= len(damaged)
