"""--effort and targets, from the command line and from Pillow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import Run
from PIL import Image as Pil
from pillow_plugin import registered

from s2c_deploy import Codec, encode
from s2c_deploy.arrays import Pixels
from s2c_deploy.cli.files import huge
from s2c_deploy.formats.bitstream import parse
from s2c_deploy.metrics import psnr


@pytest.fixture
def here(run: Run, bundle_path: Path, small_photograph: Pixels, monkeypatch: pytest.MonkeyPatch) -> Pixels:
    """A folder with a.png in it."""
    monkeypatch.setenv("S2C_BUNDLE", str(bundle_path))
    picture = np.ascontiguousarray(small_photograph[:70, :100])
    Pil.fromarray(picture).save("a.png")
    return picture


def test_an_effort(run: Run, here: Pixels, bundle_path: Path) -> None:
    assert run("compress", "a.png", "plain.s2c").code == 0
    result = run("compress", "a.png", "found.s2c", "--effort", 3, "--json")
    assert result.code == 0, result.err
    told = json.loads(result.out)["search"]
    assert (told["effort"], told["steps"] > 0) == (3, True)
    assert told["cost_in_bits"]["after"] < told["cost_in_bits"]["before"]
    with Codec.open(bundle_path) as codec:
        assert Path("found.s2c").read_bytes() == codec.compress(here, effort=3)
        assert Path("plain.s2c").read_bytes() == codec.compress(here)


def test_targets(run: Run, here: Pixels) -> None:
    result = run("compress", "a.png", "a.s2c", "--target-size", "400", "--json")
    assert json.loads(result.out)["quality"] == parse(Path("a.s2c").read_bytes()).quality
    assert 340 < Path("a.s2c").stat().st_size <= 400
    assert run("compress", "a.png", "b.s2c", "--target-bpp", 0.4).code == 0
    assert 0.33 < Path("b.s2c").stat().st_size * 8 / 7000 <= 0.4
    assert run("compress", "a.png", "c.s2c", "--target-psnr", 38).code == 0
    assert run("decompress", "c.s2c", "c.png").code == 0
    assert psnr(here, np.asarray(Pil.open("c.png"))) == pytest.approx(38, abs=0.1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--effort", "10"), "effort: expected 0 to 9"),
        (("-q", "5", "--target-psnr", "30"), "--quality and --target-psnr contradict each other"),
        (("--target-size", "1K", "--target-bpp", "1"), "contradict each other"),
        (("--target-size", "much"), "--target-size: expected a size"),
        (("--target-bpp", "0"), "--target-bpp: expected a number above 0"),
        (("--target-psnr", "-3"), "--target-psnr: expected a number above 0"),
        (("--target-psnr", "80"), "which quality 8 has"),
        (("--target-size", "10"), "which quality 1 has"),
    ],
)
def test_mistakes(run: Run, here: Pixels, options: tuple[str, ...], said: str) -> None:
    result = run("compress", "a.png", "a.s2c", *options)
    assert (result.code, said in result.err) == (3, True), result.err
    assert not Path("a.s2c").exists()


def test_a_picture_in_strips_has_no_effort(run: Run, here: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huge, "MAX_PIXELS", 100)
    monkeypatch.setattr("s2c_deploy.cli.compress.READ_AHEAD_PIXELS", 100)
    for options in (("--effort", "1"), ("--target-psnr", "30")):
        result = run("compress", "a.png", "a.s2c", "--tile", 64, *options)
        assert (result.code, "does not fit into memory" in result.err) == (3, True)


def test_evaluation_of_efforts(run: Run, here: Pixels) -> None:
    Path("in").mkdir()
    Path("a.png").rename("in/a.png")
    result = run("eval", "in", "--effort", "0,1", "-q", "1..4", "--against", "none", "--json", "a.json")
    assert result.code == 0, result.err
    assert "s2c conv-tiny effort 1" in result.out
    curves = json.loads(Path("a.json").read_text())["curves"]
    assert [curve["name"] for curve in curves] == ["s2c conv-tiny", "s2c conv-tiny effort 1"]
    for wrong in ("", "a", "1,10", "-1", "1.5"):
        assert run("eval", "in", f"--effort={wrong}").code == 3


def test_pillow_and_encode(here: Pixels, bundle_path: Path, tmp_path: Path) -> None:
    opened = {"bundle": bundle_path, "backend": "onnxruntime", "threads": 1}
    with registered(**opened):
        Pil.fromarray(here).save(tmp_path / "a.s2c", quality=3, effort=1)
        for wrong in (10, -1, "x"):
            with pytest.raises((ValueError, TypeError)):
                Pil.fromarray(here).save(tmp_path / "b.s2c", effort=wrong)
    data = (tmp_path / "a.s2c").read_bytes()
    assert data == encode(here, 3, effort=1, bundle=bundle_path, backend="onnxruntime", threads=1)
    assert len(data) < len(encode(here, 3, bundle=bundle_path, backend="onnxruntime", threads=1))
