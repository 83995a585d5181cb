"""Pictures that memory does not hold, and parts of them, from the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import Run
from PIL import Image as Pil

from s2c_deploy import Codec
from s2c_deploy.arrays import Pixels
from s2c_deploy.cli.files import huge
from s2c_deploy.formats.bitstream import parse
from s2c_deploy.image import read_image

#: Pictures of more pixels than this are read and written in strips, here.
LARGEST = 10_000


@pytest.fixture
def bundle(bundle_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> Path:
    monkeypatch.setenv("S2C_BUNDLE", str(bundle_path))
    monkeypatch.setattr(huge, "MAX_PIXELS", LARGEST)
    return bundle_path


@pytest.fixture
def picture(photograph: Pixels) -> Pixels:
    return np.ascontiguousarray(photograph[:200, :300])


@pytest.fixture
def in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are not so large here that their reading is left to their turn."""
    for module in ("compress", "decompress"):
        monkeypatch.setattr(f"s2c_deploy.cli.{module}.READ_AHEAD_PIXELS", LARGEST)


def test_there_and_back(run: Run, bundle: Path, picture: Pixels, in_strips: None) -> None:
    """As in memory: the same stream, and the same picture, for every format."""
    Pil.fromarray(picture).save("a.tif", compression="tiff_adobe_deflate")
    Pil.fromarray(picture).save("b.png")
    Pil.fromarray(picture).save("c.ppm")
    with Codec.open(bundle) as codec:
        expected = codec.compress(picture, 5, tile=64)
        decoded = codec.decompress(expected)
    for name in ("a.tif", "b.png", "c.ppm"):
        result = run("compress", "-q", 5, "--tile", 64, "--strip-metadata", name, "--json")
        assert result.code == 0, result.err
        assert Path(name).with_suffix(".s2c").read_bytes() == expected
        assert json.loads(result.out)["bytes"] == len(expected)
    for name in ("out.tif", "out.png", "out.ppm"):
        assert run("decompress", "a.s2c", name).code == 0
        np.testing.assert_array_equal(read_image(name).pixels, decoded)


def test_several_at_once(run: Run, bundle: Path, picture: Pixels, in_strips: None) -> None:
    """Small ones and large ones in one folder; one that is damaged stops no other."""
    Path("in").mkdir()
    Pil.fromarray(picture).save("in/large.png")
    Pil.fromarray(picture[:50, :60]).save("in/small.png")
    Path("in/bad.png").write_bytes(Path("in/large.png").read_bytes()[:-5000])
    result = run("compress", "--tile", 128, "in", "out/")
    assert result.code == 3
    assert "bad.png" in result.err
    assert sorted(path.name for path in Path("out").iterdir()) == ["large.s2c", "small.s2c"]
    assert run("decompress", "out", "back/").code == 0
    assert sorted(path.name for path in Path("back").iterdir()) == ["large.png", "small.png"]


def test_what_is_too_large(run: Run, bundle: Path, picture: Pixels, in_strips: None) -> None:
    Pil.fromarray(picture).save("a.png")
    Pil.fromarray(picture).save("b.jpg")
    result = run("compress", "a.png")
    assert (result.code, "--tile 1024" in result.err) == (3, True)
    result = run("compress", "b.jpg", "--tile", 64)
    assert (result.code, "expected PNG, TIFF or PPM" in result.err) == (3, True)
    assert run("compress", "a.png", "--tile", 64, "--max-pixels", 50_000).code == 3
    assert not list(Path().glob("*.s2c"))


def test_a_memory_limit(run: Run, bundle: Path, picture: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too large for memory: in strips where the format allows it, else held all the same."""
    monkeypatch.setattr(huge, "MAX_PIXELS", 2**27)
    monkeypatch.setattr("s2c_deploy.cli.compress.READ_AHEAD_PIXELS", 0)
    called: list[str] = []
    original = huge.compress_in_strips
    monkeypatch.setattr(
        "s2c_deploy.cli.compress.compress_in_strips",
        lambda codec, job, settings: (called.append(job.source_name), original(codec, job, settings))[1],
    )
    Pil.fromarray(picture).save("a.png")
    Pil.fromarray(picture).save("b.jpg")
    for limit, strips in (("300K", ["a.png"]), ("1G", [])):
        called.clear()
        result = run("compress", "a.png", "b.jpg", "out/", "--tile", 64, "--memory-limit", limit, "--force")
        assert result.code == 0, result.err
        assert called == strips
    for wrong in ("", "x", "1X", "-1G", "nan"):
        result = run("compress", "a.png", "--memory-limit", wrong)
        assert (result.code, "--memory-limit: expected a size" in result.err) == (3, True)


def test_regions(run: Run, bundle: Path, picture: Pixels) -> None:
    Pil.fromarray(picture).save("a.png")
    assert run("compress", "a.png", "--tile", 64).code == 0
    assert run("decompress", "a.s2c", "whole.png").code == 0
    whole = read_image("whole.png").pixels
    result = run("decompress", "a.s2c", "part.png", "--region", "70,30,101x99", "--json")
    assert json.loads(result.out)["region"] == {"left": 70, "top": 30, "width": 101, "height": 99}
    part = read_image("part.png").pixels
    assert np.abs(part.astype(int) - whole[30:129, 70:171]).max() <= 1
    for wrong, code in (("0,0", 3), ("0,0,5x", 3), ("-1,0,5x5", 3), ("0,0,301x1", 3), ("0,0,0x5", 3)):
        result = run("decompress", "a.s2c", "none.png", f"--region={wrong}")
        assert (result.code, "region: expected" in result.err) == (code, True)
    assert not Path("none.png").exists()


def test_a_region_of_a_damaged_stream(run: Run, bundle: Path, picture: Pixels) -> None:
    """Tiles that are not needed are not looked at; one that is needed is named."""
    Pil.fromarray(picture).save("a.png")
    assert run("compress", "a.png", "--tile", 64).code == 0
    data = bytearray(Path("a.s2c").read_bytes())
    data[-1] ^= 1  # of the last tile
    Path("a.s2c").write_bytes(data)
    assert run("decompress", "a.s2c", "part.png", "--region", "0,0,64x64").code == 0
    result = run("decompress", "a.s2c", "last.png", "--region", "290,190,10x10")
    assert (result.code, "checksum of tile 19" in result.err) == (4, True)
    assert not Path("last.png").exists()


def test_killed_in_the_middle(bundle_path: Path, photograph: Pixels, tmp_path: Path) -> None:
    """SIGKILL leaves no target, and not half of one."""
    Pil.fromarray(np.tile(photograph, (12, 8, 1))).save(tmp_path / "a.ppm")
    program = (
        "import sys; from s2c_deploy.cli.files import huge; huge.MAX_PIXELS = 1000;"
        "from s2c_deploy.cli import main; main.main()"
    )
    arguments = ["compress", "a.ppm", "a.s2c", "--tile", "64", "--bundle", str(bundle_path), "--threads", "1"]
    process = subprocess.Popen([sys.executable, "-c", program, *arguments], cwd=tmp_path)
    try:
        deadline = time.monotonic() + 120
        while not any(path.stat().st_size > 100_000 for path in tmp_path.glob(".a.*")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "a.s2c").exists()


def test_a_stream_without_its_head_is_none(bundle: Path, picture: Pixels) -> None:
    """What a killed writer leaves: tiles behind a table of nothing, in a file of another name."""
    with Codec.open(bundle) as codec:
        data = codec.compress(picture, tile=64)
    stream = parse(data)
    start = len(data) - sum(map(len, stream.tiles))
    with pytest.raises(Exception, match="file size"):
        parse(data[:22] + bytes(8 * 20) + _crc(data[:22] + bytes(8 * 20)) + data[start:])


def _crc(head: bytes) -> bytes:
    from s2c_deploy.entropy.native import crc32c

    return crc32c(head).to_bytes(4, "little")
