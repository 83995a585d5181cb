"""Files that never show half-written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from s2c_deploy.errors import InputError
from s2c_deploy.files import atomic_write


def test_atomic_write(tmp_path: Path) -> None:
    target = tmp_path / "a.npz"
    target.write_bytes(b"old")
    with atomic_write(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".npz"
        temporary.write_bytes(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.npz"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_atomic_write_cleans_up(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(error), atomic_write(tmp_path / "a") as temporary:  # noqa: PT012
        temporary.write_bytes(b"half")
        raise error
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_atomic_write_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        for name, content in (("new", b"1"), ("kept", b"2")):
            if name == "kept":
                (tmp_path / name).write_bytes(b"")
                (tmp_path / name).chmod(0o604)
            with atomic_write(tmp_path / name) as temporary:
                temporary.write_bytes(content)
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o604


def test_atomic_write_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    with atomic_write(tmp_path / "link") as temporary:
        temporary.write_bytes(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_atomic_write_refuses(tmp_path: Path) -> None:
    for path, message in (
        (tmp_path, "not a regular file"),
        (Path("/dev/null"), "not a regular file"),
        (tmp_path / "none" / "a", "no folder"),
        (tmp_path / ("x" * 256), "File name too long"),
    ):
        with pytest.raises(InputError, match=message), atomic_write(path):
            pass
    assert os.listdir(tmp_path) == []


def test_atomic_write_when_the_place_is_taken_meanwhile(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Is a directory"), atomic_write(tmp_path / "a"):
        (tmp_path / "a").mkdir()
    assert os.listdir(tmp_path) == ["a"]
