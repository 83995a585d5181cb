"""Tiles for viewers: the whole picture in pieces, each decoded once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from s2c_deploy import Codec
from s2c_deploy.arrays import Pixels
from s2c_deploy.errors import BitstreamError, InputError
from s2c_deploy.tiles import TiledPicture


@pytest.fixture(scope="module")
def stream(bundle_path: Path, photograph: Pixels, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pixels]:
    """A file of 5 x 4 tiles, and its picture."""
    path = tmp_path_factory.mktemp("streams") / "a.s2c"
    with Codec.open(bundle_path, "onnxruntime", threads=1) as codec:
        path.write_bytes(codec.compress(np.ascontiguousarray(photograph[:200, :300]), 4, tile=64, icc=b"profile"))
        return path, codec.decompress(path.read_bytes())


def open_tiles(path: Path, bundle: Path, cache: int = 2**28) -> TiledPicture:
    return TiledPicture(path, bundle=bundle, backend="onnxruntime", threads=1, cache=cache)


def test_the_tiles_are_the_picture(stream: tuple[Path, Pixels], bundle_path: Path) -> None:
    path, whole = stream
    with open_tiles(path, bundle_path) as picture:
        assert (picture.width, picture.height, picture.tile, picture.columns, picture.rows) == (300, 200, 64, 5, 4)
        assert picture.icc == b"profile"
        with ThreadPoolExecutor(3) as pool:
            tiles = list(pool.map(lambda k: picture.pixels(k % 5, k // 5), range(20)))
        found = np.concatenate([np.concatenate(tiles[row * 5 : row * 5 + 5], axis=1) for row in range(4)])
        assert np.abs(found.astype(int) - whole).max() <= 1
        region = picture.region(50, 60, 100, 80)
        assert np.abs(region.astype(int) - whole[60:140, 50:150]).max() <= 1


@pytest.mark.parametrize("kept", [0, 3, 20])
def test_latents_are_kept_as_far_as_there_is_room(
    stream: tuple[Path, Pixels], bundle_path: Path, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = stream
    read: list[int] = []
    with open_tiles(path, bundle_path) as picture:
        one = picture._latent(0).nbytes
    with open_tiles(path, bundle_path, cache=kept * one) as picture:
        decode = picture._codec.latent
        monkeypatch.setattr(picture._codec, "latent", lambda s, number: (read.append(number), decode(s, number))[1])
        for _ in range(2):
            picture.region(0, 0, 300, 200)
        assert len(picture._latents) == kept
        assert sum(latent.nbytes for latent in picture._latents.values()) == picture._held
    assert len(read) == (20 if kept == 20 else 40)


@pytest.mark.parametrize("place", [(-1, 0), (0, -1), (5, 0), (0, 4)])
def test_places_outside_the_grid(stream: tuple[Path, Pixels], bundle_path: Path, place: tuple[int, int]) -> None:
    with open_tiles(stream[0], bundle_path) as picture, pytest.raises(InputError, match="5 columns and 4 rows, found"):
        picture.pixels(*place)


def test_files_that_are_none(bundle_path: Path, tmp_path: Path) -> None:
    (tmp_path / "a.s2c").write_bytes(b"no stream")
    with pytest.raises(BitstreamError):
        open_tiles(tmp_path / "a.s2c", bundle_path)
    with pytest.raises(InputError, match="no such file"):
        open_tiles(tmp_path / "b.s2c", bundle_path)


@pytest.mark.parametrize("cache", [-1, None, "all", True])
def test_caches_that_are_none(stream: tuple[Path, Pixels], bundle_path: Path, cache: int) -> None:
    with pytest.raises(InputError, match="cache: expected 0 bytes or more"):
        open_tiles(stream[0], bundle_path, cache=cache)


def test_no_place_and_no_file(stream: tuple[Path, Pixels], bundle_path: Path) -> None:
    with open_tiles(stream[0], bundle_path) as picture:
        for place in (("a", 0), (0, None), (0.0, 0), (5, 0), (-1, 0)):
            with pytest.raises(InputError, match="tile: expected one of 5 columns and 4 rows"):
                picture.pixels(*place)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="this picture is closed"):
        picture.pixels(0, 0)
