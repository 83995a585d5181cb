"""Training pictures: which are taken, and a cache of them that is believed only where it is whole."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from s2c_deploy.errors import InputError
from s2c_deploy.train import cache as cache_module
from s2c_deploy.train import hold_out, open_cache
from s2c_deploy.train.cache import PictureCache, list_pictures


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three pictures of one value each."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in (1, 2, 3):
        Image.fromarray(np.full((64, 64 + number, 3), number, dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def check_values(cache: PictureCache, *values: int) -> None:
    """Whole pictures of one value each, as ``photos`` are."""
    assert [int(cache.picture(i)[0, 0, 0]) for i in range(len(cache.shapes))] == list(values)
    for i, value in enumerate(values):
        assert (cache.picture(i) == value).all()


def test_one_of_two_pictures_is_held_out_and_one_alone_is_refused(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        Image.fromarray(np.full((64, 64, 3), number, dtype=np.uint8)).save(tmp_path / f"{number}.png")
        cache = open_cache(tmp_path, tmp_path / "cache.u8")
        if number == 1:
            with pytest.raises(InputError, match=r"expected at least 2 pictures.*found 1"):
                hold_out(cache, 16)
        else:
            pictures = hold_out(cache, 16)
            assert (len(pictures.training), len(pictures.held_out)) == (number - 1, 1)


def test_pictures_that_no_crop_fits_in_serve_nothing(tmp_path: Path) -> None:
    for number, size in enumerate([(64, 64), (63, 200), (100, 80), (200, 40)]):
        Image.fromarray(np.zeros((*size, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    pictures = hold_out(open_cache(tmp_path, tmp_path / "cache.u8"), 1)
    assert {*pictures.training, *pictures.held_out} == {0, 2}


def test_the_cache_notices_changes_and_bad_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pictures"):
        open_cache(tmp_path, tmp_path / "cache.u8")
    Image.new("RGB", (70, 80), (1, 2, 3)).save(tmp_path / "a.png")
    assert open_cache(tmp_path, tmp_path / "cache.u8").shapes == ((80, 70),)
    Image.new("L", (90, 64), 7).save(tmp_path / "b.png")
    cache = open_cache(tmp_path, tmp_path / "cache.u8")
    assert cache.shapes == ((80, 70), (64, 90))
    assert (cache.picture(0) == (1, 2, 3)).all()
    assert (cache.picture(1) == 7).all()
    (tmp_path / "c.png").write_bytes(b"\x89PNG, or so it says")
    with pytest.raises(InputError, match=r"1 of 3 pictures cannot be decoded: .*c\.png is "):
        open_cache(tmp_path, tmp_path / "cache.u8")


def test_small_pictures_are_named(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (63, 200)).save(photos / "thin [bold].png")
    hold_out(open_cache(photos, tmp_path / "cache.u8"), 1)
    told = " ".join(capsys.readouterr().err.split())
    assert "left out, since a side is below 64: 1 of the pictures: thin [bold].png" in told


def test_pictures_that_cannot_be_used_are_all_named(tmp_path: Path, photos: Path) -> None:
    whole = (photos / "3.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    (photos / "empty.jpg").write_bytes(b"")
    Image.new("RGBA", (64, 64), (1, 2, 3, 100)).save(photos / "glass.png")
    Image.new("CMYK", (64, 64)).save(photos / "print.tif")
    frames = [Image.new("RGB", (64, 64), (i, i, i)) for i in (1, 200)]
    frames[0].save(photos / "moving.webp", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match=r"5 of 8 pictures cannot be decoded.*remove them") as caught:
        open_cache(photos, tmp_path / "cache.u8")
    for name in ("cut.png", "empty.jpg", "glass.png", "print.tif", "moving.webp"):
        assert name in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "cache.u8.lock"}


def test_opaque_alpha_and_grey_of_16_bits_are_pictures(tmp_path: Path, photos: Path) -> None:
    Image.new("RGBA", (64, 64), (4, 4, 4, 255)).save(photos / "4.png")
    Image.fromarray(np.full((64, 64), 5 * 257, dtype=np.uint16)).save(photos / "5.png")
    check_values(open_cache(photos, tmp_path / "cache.u8"), 1, 2, 3, 4, 5)


@pytest.mark.parametrize("kind", ["folder", "pipe", "dangling link"])
def test_what_only_looks_like_a_picture(tmp_path: Path, photos: Path, kind: str) -> None:
    """It is left out, as what other systems and interrupted writing leave behind; a link out of the folder is not."""
    strange = photos / "strange.png"
    make: dict[str, Callable[[], object]] = {
        "folder": strange.mkdir,
        "pipe": lambda: os.mkfifo(strange),
        "dangling link": lambda: strange.symlink_to(tmp_path / "nowhere.png"),
    }
    make[kind]()
    (photos / "._1.png").write_bytes(b"of another system")
    (tmp_path / "elsewhere.png").write_bytes((photos / "1.png").read_bytes())
    (photos / "9.png").symlink_to(tmp_path / "elsewhere.png")
    names = open_cache(photos, tmp_path / "cache.u8").names
    assert "9.png" in names
    assert not {"strange.png", "._1.png"} & set(names)
    listing = list_pictures(photos)
    assert ([entry.path.name for entry in listing.left_out], listing.hidden) == (["strange.png"], 1)


def test_a_lock_that_is_somebodys_file(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "cache.u8.lock").write_text("mine")
    with pytest.raises(InputError, match=r"cache\.u8\.lock: expected an empty file"):
        open_cache(photos, tmp_path / "cache.u8")
    assert sorted(os.listdir(tmp_path)) == ["cache.u8.lock", "photos"]


# the cache


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5])


def flip(file: Path) -> None:
    """One bit of every 50th byte."""
    data = bytearray(file.read_bytes())
    for place in range(20, len(data), 50):
        data[place] ^= 4
    file.write_bytes(bytes(data))


def swap_sides(file: Path) -> None:
    """Heights for widths: as many bytes."""
    told = json.loads(file.read_text())
    told["shapes"] = [shape[::-1] for shape in told["shapes"]]
    file.write_text(json.dumps(told))


def older(file: Path) -> None:
    """As another version of this package would write it."""
    file.write_text(json.dumps(json.loads(file.read_text()) | {"version": 1}))


def write(content: bytes) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(content)


DAMAGE: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "pixels cut": ("cache.u8", cut),
    "pixels changed": ("cache.u8", flip),
    "pixels gone": ("cache.u8", Path.unlink),
    "index cut": ("cache.u8.json", cut),
    "index changed": ("cache.u8.json", flip),
    "index gone": ("cache.u8.json", Path.unlink),
    "index not UTF-8": ("cache.u8.json", write(b"\xff\xfe")),
    "index of another type": ("cache.u8.json", write(b"[1]")),
    "index too deep": ("cache.u8.json", write(b"[" * 100_000)),
    "index of other values": ("cache.u8.json", write(b'{"version": 2, "shapes": [[1e999, null]]}')),
    "sides swapped": ("cache.u8.json", swap_sides),
    "another version": ("cache.u8.json", older),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_made_again(tmp_path: Path, photos: Path, damage: str) -> None:
    check_values(open_cache(photos, tmp_path / "cache.u8"), 1, 2, 3)
    name, break_it = DAMAGE[damage]
    break_it(tmp_path / name)
    check_values(open_cache(photos, tmp_path / "cache.u8"), 1, 2, 3)


def test_a_whole_cache_is_not_made_again(tmp_path: Path, photos: Path) -> None:
    open_cache(photos, tmp_path / "cache.u8")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache.*")}
    check_values(open_cache(photos, tmp_path / "cache.u8"), 1, 2, 3)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache.*")} == before


def test_a_picture_that_changed_in_place_is_noticed(tmp_path: Path, photos: Path) -> None:
    Image.new("RGB", (64, 64), (4, 4, 4)).save(photos / "4.bmp")
    check_values(open_cache(photos, tmp_path / "cache.u8"), 1, 2, 3, 4)
    size = (photos / "4.bmp").stat().st_size
    Image.new("RGB", (64, 64), (9, 9, 9)).save(photos / "4.bmp")
    assert (photos / "4.bmp").stat().st_size == size
    check_values(open_cache(photos, tmp_path / "cache.u8"), 1, 2, 3, 9)


def test_a_full_disk_leaves_nothing_that_is_believed(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = cache_module._decode_one

    def until_full(path: Path, out: Any) -> tuple[int, int]:
        if path.name == "2.png":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return decode(path, out)

    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "_decode_one", until_full)
        with pytest.raises(InputError, match=r"cannot write .*cache\.u8: No space left"):
            open_cache(photos, tmp_path / "cache.u8")
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "cache.u8.lock"}
    check_values(open_cache(photos, tmp_path / "cache.u8"), 1, 2, 3)


def test_files_that_are_no_cache_are_left_alone(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(InputError, match=r"1\.png: expected a name that ends in \.u8"):
        open_cache(photos, photos / "1.png")
    (tmp_path / "folder.u8").mkdir()
    with pytest.raises(InputError, match=r"folder\.u8: expected a regular file"):
        open_cache(photos, tmp_path / "folder.u8")
    os.mkfifo(tmp_path / "pipe.u8.json")
    with pytest.raises(InputError, match=r"pipe\.u8\.json: expected a regular file"):
        open_cache(photos, tmp_path / "pipe.u8")
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "cache.u8", tmp_path / f"{'long' * 100}.u8"):
        with pytest.raises(InputError):
            open_cache(photos, place)
    with pytest.raises(InputError, match="no pictures in"):
        open_cache(photos / "1.png", tmp_path / "cache.u8")


def test_two_processes_that_start_at_once(tmp_path: Path, photos: Path) -> None:
    """Both end with the pictures; one decoded them."""
    script = (
        "import sys; from pathlib import Path; from s2c_deploy.train import open_cache\n"
        "cache = open_cache(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "print([int(cache.picture(i).max()) for i in range(3)])"
    )
    command = [sys.executable, "-c", script, str(photos), str(tmp_path / "cache.u8")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=120) for process in both]
    assert [out for out, _ in told] == ["[1, 2, 3]\n"] * 2
    assert sum("decoding" in errors for _, errors in told) == 1
