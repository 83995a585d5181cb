"""Files below a folder from elsewhere: nothing behind a link, nothing but regular files, and nothing half-written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from s2c_deploy.inside import names_in, open_file, read_file, remove_file, size_of, write_file


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the user's, outside of the folder."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "secret").write_bytes(b"dear")
    return tmp_path / "mine" / "secret"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "theirs" / "sub").mkdir(parents=True)
    (tmp_path / "theirs" / "sub" / "file").write_bytes(b"content")
    return tmp_path / "theirs"


def reading(folder: Path, *parts: str) -> bytes:
    return read_file(folder, *parts, limit=100)


def opening(folder: Path, *parts: str) -> bytes:
    with open_file(folder, *parts) as file:
        return file.read()


def sizing(folder: Path, *parts: str) -> int:
    return size_of(folder, *parts)


USES = pytest.mark.parametrize("use", [reading, opening, sizing])


def test_what_is_there(folder: Path) -> None:
    assert reading(folder, "sub", "file") == opening(folder, "sub", "file") == b"content"
    assert size_of(folder, "sub", "file") == 7
    assert [name for name, _ in names_in(folder)] == ["sub"]
    assert names_in(folder, "nothing") == names_in(folder, "sub", "file") == []


@USES
@pytest.mark.parametrize("target", ["secret", "sub/file", "nowhere"])
def test_a_link_is_not_followed_wherever_it_leads(
    folder: Path, secret: Path, use: Callable[..., object], target: str
) -> None:
    (folder / "link").symlink_to(secret if target == "secret" else target)
    with pytest.raises(OSError, match=r"symbolic link|regular file"):
        use(folder, "link")


@USES
def test_a_link_on_the_way_is_not_followed(folder: Path, secret: Path, use: Callable[..., object]) -> None:
    (folder / "way").symlink_to(secret.parent, target_is_directory=True)
    with pytest.raises(OSError, match=r"symbolic link|Not a directory"):
        use(folder, "way", "secret")
    assert names_in(folder, "way") == []


@USES
def test_a_pipe_does_not_wait_for_its_other_end(folder: Path, use: Callable[..., object]) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(OSError, match="a pipe"):
        use(folder, "pipe")


@USES
@pytest.mark.parametrize("name", ["", ".", "..", "sub/file", "../mine/secret", "a\0b"])
def test_names_are_plain(folder: Path, secret: Path, use: Callable[..., object], name: str) -> None:
    with pytest.raises(OSError, match="plain file name"):
        use(folder, name)


def test_the_folder_itself_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "short").symlink_to(folder)
    assert reading(tmp_path / "short", "sub", "file") == b"content"


def test_no_more_than_the_limit_is_read(folder: Path) -> None:
    assert read_file(folder, "sub", "file", limit=7) == b"content"
    with pytest.raises(OSError, match="at most 6 bytes, found 7"):
        read_file(folder, "sub", "file", limit=6)


def test_writing_makes_folders_and_replaces_regular_files(folder: Path) -> None:
    for data in (b"one", b"two"):
        write_file(folder, "a", "b", "new", data=data)
        assert (folder / "a" / "b" / "new").read_bytes() == data
    assert os.listdir(folder / "a" / "b") == ["new"]


@pytest.mark.parametrize("dangling", [True, False])
def test_nothing_is_written_through_a_link(folder: Path, secret: Path, dangling: bool) -> None:
    outside = secret.with_name("new") if dangling else secret
    (folder / "link").symlink_to(outside)
    (folder / "way").symlink_to(secret.parent, target_is_directory=True)
    for parts in (("link",), ("way", "secret"), ("way", "other")):
        with pytest.raises(OSError, match=r"symbolic link|Not a directory"):
            write_file(folder, *parts, data=b"theirs")
    assert secret.read_bytes() == b"dear"
    assert os.listdir(secret.parent) == ["secret"]


def test_what_is_no_file_is_not_replaced(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    for name in ("pipe", "sub"):
        with pytest.raises(OSError, match="expected a regular file"):
            write_file(folder, name, data=b"x")
    assert sorted(os.listdir(folder)) == ["pipe", "sub"]


def test_a_failed_write_leaves_what_was_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="No space left"):
        write_file(folder, "sub", "file", data=b"new")
    assert os.listdir(folder / "sub") == ["file"]
    assert reading(folder, "sub", "file") == b"content"


def test_removing_a_link_spares_what_it_names(folder: Path, secret: Path) -> None:
    (folder / "link").symlink_to(secret)
    remove_file(folder, "link")
    remove_file(folder, "link")
    assert secret.exists()
    assert not (folder / "link").is_symlink()
    (folder / "way").symlink_to(secret.parent, target_is_directory=True)
    for parts in (("way", "secret"), ("../mine/secret",)):
        with pytest.raises(OSError, match=r"symbolic link|Not a directory|plain file name"):
            remove_file(folder, *parts)
    assert secret.exists()
