"""What a folder holds, and what is left out of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from s2c_deploy.errors import InputError
from s2c_deploy.listing import STREAM_SUFFIXES, describe_left_out, list_folder, list_images, shortened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "folder"
    path.mkdir()
    return path


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(b"")


def reasons(folder: Path, **options: bool) -> dict[str, str]:
    listing = list_folder(folder, **options)
    return {os.path.relpath(entry.path, folder): entry.reason for entry in listing.left_out}


def test_pictures_by_suffix_in_any_case(folder: Path) -> None:
    taken = ["a.jpg", "b.PNG", "c.webp", "d.jfif", "e.JIF", "f.pjpeg", "g.pjp", "h.TIFF"]
    make(folder, *taken, ".hidden.png", "._a.jpg", "notes.txt", "noext", "x.s2c")
    assert list_images(folder) == [folder / name for name in taken]
    listing = list_folder(folder)
    assert listing.hidden == 2
    assert reasons(folder) == dict.fromkeys(("noext", "notes.txt", "x.s2c"), "no picture's suffix")


def test_streams_by_suffix_in_any_case(folder: Path) -> None:
    make(folder, "a.s2c", "b.S2C", "._a.s2c", ".b.0123456789ab.part.s2c", "c.png")
    listing = list_folder(folder, STREAM_SUFFIXES)
    assert listing.files == (folder / "a.s2c", folder / "b.S2C")
    assert listing.hidden == 2
    assert [entry.reason for entry in listing.left_out] == ["no .s2c suffix"]


def test_only_regular_files(folder: Path) -> None:
    make(folder, "a.png", "sub/b.png")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "nothing.png").symlink_to("/nonexistent")
    (folder / "ring.png").symlink_to("ring.png")
    (folder / "null.png").symlink_to("/dev/null")
    assert list_images(folder) == [folder / "a.png"]
    assert reasons(folder, follow_links=True) == {
        "folder.png": "a subfolder: --recursive",
        "sub": "a subfolder: --recursive",
        "pipe.png": "not a regular file",
        "null.png": "not a regular file",
        "nothing.png": "a link to nothing",
        "ring.png": "a link to nothing",
    }


def test_links_out_of_the_folder_only_where_asked_for(folder: Path, tmp_path: Path) -> None:
    make(tmp_path, "secret.png", "folder2/b.png")
    make(folder, "real.jpg")
    (folder / "inside.png").symlink_to("real.jpg")
    (folder / "out.png").symlink_to("../secret.png")
    (folder / "far.png").symlink_to(tmp_path / "folder2" / "b.png")  # begins with the folder's own path
    assert list_images(folder) == [folder / "inside.png", folder / "real.jpg"]
    assert reasons(folder) == dict.fromkeys(("out.png", "far.png"), "a link out of the folder: --follow-links")
    names = [path.name for path in list_images(folder, follow_links=True)]
    assert names == ["far.png", "inside.png", "out.png", "real.jpg"]


def test_a_folder_that_is_itself_a_link(folder: Path, tmp_path: Path) -> None:
    make(folder, "a.png")
    (tmp_path / "link").symlink_to("folder")
    assert list_images(tmp_path / "link") == [tmp_path / "link" / "a.png"]


def test_recursive(folder: Path, tmp_path: Path) -> None:
    make(folder, "a.png", "sub/b.png", "sub/deep/c.png", ".git/d.png")
    make(tmp_path, "outside/e.png")
    (folder / "sub" / "up").symlink_to("..")  # a ring
    (folder / "away").symlink_to("../outside")
    listing = list_folder(folder, recursive=True)
    assert [str(path.relative_to(folder)) for path in listing.files] == ["a.png", "sub/b.png", "sub/deep/c.png"]
    assert {os.path.relpath(entry.path, folder): entry.reason for entry in listing.left_out} == {
        "away": "a link out of the folder: --follow-links",
        "sub/up": "a folder that is listed elsewhere",
    }
    followed = list_folder(folder, recursive=True, follow_links=True)
    assert folder / "away" / "e.png" in followed.files
    assert len(followed.files) == 4


def test_what_was_left_out_in_words(folder: Path) -> None:
    make(folder, "a.png")
    assert describe_left_out([list_folder(folder)]) == ""
    make(folder, *(f"{k}.txt" for k in range(7)), ".hidden")
    said = describe_left_out([list_folder(folder)])
    assert said == "left out: 8 files (no picture's suffix: 0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 2 more; 1 hidden)"
    assert shortened(["a"]) == "a"


def test_folders_that_cannot_be_listed(folder: Path) -> None:
    make(folder, "notes.txt")
    with pytest.raises(InputError, match=r"no pictures in .*; left out: 1 file \(no picture's suffix: notes.txt\)"):
        list_images(folder)
    for path, message in (
        (folder / "none", "No such file"),
        (folder / "notes.txt", "Not a directory"),
        (folder / ("x" * 300), "File name too long"),
    ):
        with pytest.raises(InputError, match=message):
            list_images(path)


def test_many_files_in_linear_time(folder: Path) -> None:
    """A hundred thousand would take hours in the square of their number."""
    make(folder, *(f"{k:05d}.s2c" for k in range(4000)))
    started = time.process_time()
    assert len(list_folder(folder, STREAM_SUFFIXES).files) == 4000
    assert time.process_time() - started < 5
