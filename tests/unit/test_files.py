"""Files that never show half-written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from s2c_deploy.errors import InputError
from s2c_deploy.files import (
    atomic_write,
    check_folder_writable,
    check_writable,
    make_folder,
    read_bytes,
    status_of,
    write_bytes,
    write_text,
)


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


def test_a_full_disk_is_an_input_error(tmp_path: Path) -> None:
    """A process that may write a kilobyte, as a quota or a full disk ends a file in its middle."""
    code = (
        "import resource, sys\n"
        "from s2c_deploy.errors import InputError\n"
        "from s2c_deploy.files import write_bytes\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_bytes('small', bytes(1000))\n"
        "try:\n    write_bytes('large', bytes(1001))\n"
        "except InputError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "cannot write large: File too large (make room, or choose another place)\n"
    assert os.listdir(tmp_path) == ["small"]


def test_atomic_write_replaces_a_link_itself(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"mine")
    for target in ("real", "nothing"):
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(target)
        write_bytes(tmp_path / "link", b"new", follow_links=False)
        assert not (tmp_path / "link").is_symlink()
        assert (tmp_path / "link").read_bytes() == b"new"
    assert (tmp_path / "real").read_bytes() == b"mine"
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]


def test_write_bytes_refuses_what_appeared_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"mine")
    with pytest.raises(InputError, match="exists"):
        write_bytes(tmp_path / "a", b"new", replace=False)
    assert (tmp_path / "a").read_bytes() == b"mine"
    assert os.listdir(tmp_path) == ["a"]


def test_a_suffix_as_long_as_a_name(tmp_path: Path) -> None:
    write_bytes(tmp_path / ("a." + "x" * 253), b"1")
    assert len(os.listdir(tmp_path)) == 1


def test_write_text_of_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "a", os.fsdecode(b"caf\xe9 \xc3\xa9"))
    assert (tmp_path / "a").read_text(encoding="utf-8") == "caf\\udce9 é"


def test_reading(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    assert read_bytes(tmp_path / "a") == b"1"
    for path, message in (
        (tmp_path / "none", "no such file"),
        (tmp_path, "Is a directory"),
        (Path("/dev/zero"), "is a device"),
        (tmp_path / ("x" * 300), "File name too long"),
        (tmp_path / "a" / "b", "Not a directory"),
    ):
        with pytest.raises(InputError, match=message):
            read_bytes(path)


def test_looking(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "link").symlink_to("nothing")
    assert status_of(tmp_path / "a") is not None
    for name in ("none", "a/b", "link"):
        assert status_of(tmp_path / name) is None
    with pytest.raises(InputError, match="File name too long"):
        status_of(tmp_path / ("x" * 300))


def test_making_folders(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    for path, message in (
        (tmp_path / "file", "is a file"),
        (tmp_path / "file" / "b", "Not a directory"),
        (Path("/proc/nope"), "cannot make the folder /proc/nope"),
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        with pytest.raises(InputError, match=message):
            make_folder(path)


def test_trying_places_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    check_writable(tmp_path / "new")
    check_writable(tmp_path / "file")
    check_folder_writable(tmp_path)
    check_folder_writable(tmp_path / "new" / "deep")
    for check, path, message in (
        (check_writable, tmp_path / "none" / "a", "no folder"),
        (check_writable, tmp_path, "not a regular file"),
        (check_writable, Path("/proc/r.json"), "cannot write /proc/r.json"),
        (check_writable, tmp_path / ("x" * 300), "File name too long"),
        (check_folder_writable, tmp_path / "file", "is a file"),
        (check_folder_writable, Path("/proc/nope/deep"), "cannot write /proc/nope/deep"),
        (check_folder_writable, tmp_path / ("x" * 300), "File name too long"),
    ):
        with pytest.raises(InputError, match=message):
            check(path)
    assert os.listdir(tmp_path) == ["file"]
