"""A new folder in the place of an old one: never neither, whenever a process dies."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from s2c_deploy import replace
from s2c_deploy.errors import InputError
from s2c_deploy.replace import check_place, new_folder, recover


def fill(path: Path, text: str) -> None:
    with new_folder(path) as new:
        (new / "file").write_text(text)


def text_of(path: Path) -> str:
    return (path / "file").read_text()


@pytest.fixture(params=["exchange", "two renames"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "two renames":
        monkeypatch.setattr(replace, "_exchanged", lambda *_: False)


@pytest.mark.usefixtures("_way")
def test_new_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a" / "x"
    for text in ("one", "two"):
        fill(path, text)
        assert text_of(path) == text
        assert os.listdir(path.parent) == ["x"]


@pytest.mark.usefixtures("_way")
def test_a_block_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x"
    fill(path, "one")

    def failing() -> None:
        with new_folder(path) as new:
            (new / "file").write_text("two")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert text_of(path) == "one"
    assert os.listdir(tmp_path) == ["x"]


def in_a_child(work: Callable[[], None]) -> int:
    """How a process ended that did some work."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1]


def die(*_args: object, **_options: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize("call", [1, 2, 3])
def test_killed_after_any_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    path, calls, rename = tmp_path / "x", [0], os.rename
    fill(path, "one")

    def dying(source: Path, target: Path) -> None:
        rename(source, target)
        calls[0] += 1
        if calls[0] == call:
            die()

    def work() -> None:
        monkeypatch.setattr(os, "rename", dying)
        monkeypatch.setattr(shutil, "rmtree", die)  # the step after the last
        fill(path, "two")

    assert in_a_child(work) == signal.SIGKILL
    recover(path)
    assert text_of(path) in ("one", "two")
    fill(path, "three")
    assert text_of(path) == "three"
    assert os.listdir(tmp_path) == ["x"], "leftovers are cleared"


def test_killed_while_filling(tmp_path: Path) -> None:
    path = tmp_path / "x"
    fill(path, "one")

    def work() -> None:
        with new_folder(path) as new:
            (new / "file").write_text("half")
            die()

    assert in_a_child(work) == signal.SIGKILL
    assert text_of(path) == "one"
    assert len(os.listdir(tmp_path)) == 2
    fill(path, "two")
    assert os.listdir(tmp_path) == ["x"]


def test_what_another_process_is_filling_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with new_folder(path) as mine:
        in_a_child(lambda: fill(path, "theirs"))
        assert mine.is_dir()
        (mine / "file").write_text("mine")
    assert text_of(path) == "mine"
    assert os.listdir(tmp_path) == ["x"]


def test_processes_that_write_there_at_once(tmp_path: Path) -> None:
    """The last one wins, and none takes another's folder for a dead process's."""
    path = tmp_path / "x"
    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            failed = 1
            try:
                for _ in range(50):
                    fill(path, f"of {number}")
                failed = 0
            finally:
                os._exit(failed)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert text_of(path) in {f"of {number}" for number in range(4)}
    assert os.listdir(tmp_path) == ["x"]


def test_other_peoples_files_are_no_leftovers(tmp_path: Path) -> None:
    others = [".x.0123456789ab.part.txt", ".y.0123456789ab.part", ".x.short.part"]
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / "real").mkdir()
    (tmp_path / ".x.0123456789ab.part").symlink_to(tmp_path / "real")
    fill(tmp_path / "x", "one")
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "real", ".x.0123456789ab.part", "x"])


def test_where_nothing_can_be_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="mount point"):
        check_place(Path("/"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="current folder"):
        check_place(Path())
    (tmp_path / "link").symlink_to("x")
    assert check_place(tmp_path / "link") == tmp_path.resolve() / "x"
