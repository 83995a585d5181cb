"""The plot of the first screen: of the committed results, and noticed where it is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import first_screen
from s2c_deploy.arrays import Pixels
from s2c_deploy.evaluation.pillow_codecs import pillow_codec

NAMES = {"JPEG", "WebP 4:2:0", "JPEG 2000", "BPG 4:4:4", "VTM 9.1", "S2C-Conv small"}


@pytest.fixture
def plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command writes, instead of the documentation's plot."""
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(first_screen, "PLOT", tmp_path / "plot.svg")
    return tmp_path / "plot.svg"


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr("sys.argv", ["first_screen", *map(str, arguments)])
    first_screen.main()


def test_the_plot_is_of_the_committed_results(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    command(monkeypatch, "--check")


def test_another_plot_is_noticed(plot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = json.loads(first_screen.EVALUATION.read_text(encoding="utf-8"))
    record["curves"][1]["points"][5]["psnr"] += 0.05
    other = tmp_path / "other.json"
    other.write_text(json.dumps(record))
    with pytest.raises(SystemExit, match="is not of"):
        command(monkeypatch, "--check")
    command(monkeypatch, "--evaluation", other)
    command(monkeypatch, "--evaluation", other, "--check")
    with pytest.raises(SystemExit, match="is not of"):
        command(monkeypatch, "--check")
    command(monkeypatch)
    command(monkeypatch, "--check")
    lines = plot.read_text()
    plot.write_text(lines.replace('id="curve jpeg"', 'id="gone"'))
    with pytest.raises(SystemExit, match="is not of"):
        command(monkeypatch, "--check")


def test_curves_are_drawn_where_their_figures_are(plot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(monkeypatch)
    drawn = first_screen.drawn_curves(plot.read_bytes())
    curves, _ = first_screen.read_curves(first_screen.EVALUATION)
    assert {curve.label.partition(",")[0] for curve in curves} >= NAMES
    assert set(drawn) == {curve.name for curve in curves}
    # One straight map takes ours from bpp and dB to the sheet, upwards being less there; it takes the others, too.
    ours = curves[0]
    there, here = np.array(ours.points), np.array(drawn[ours.name]).reshape(-1, 2)
    maps = [np.polyfit(there[:, axis], here[:, axis], 1) for axis in (0, 1)]
    assert maps[0][0] > 0 > maps[1][0]
    for curve in curves:
        shown = np.array(drawn[curve.name]).reshape(-1, 2)
        for pair in filter(inside, curve.points):
            place = [np.polyval(maps[axis], pair[axis]) for axis in (0, 1)]
            assert np.abs(shown - place).max(axis=1).min() < 0.01, (curve.name, pair)


def inside(pair: tuple[float, float]) -> bool:
    """Whether a point is within the axes: beyond them matplotlib cuts curves off."""
    low, high = first_screen.LEVELS
    return 0 < pair[0] < first_screen.WIDEST and low < pair[1] < high


def test_what_was_not_measured_is_named(tmp_path: Path) -> None:
    record = json.loads(first_screen.EVALUATION.read_text(encoding="utf-8"))
    record["curves"] = [curve for curve in record["curves"] if curve["name"] != "jpegxl"]
    record["curves"].append({"name": "jpegxl", "kind": "codec", "description": "JPEG XL: effort 7", "points": []})
    other = tmp_path / "other.json"
    other.write_text(json.dumps(record))
    curves, missing = first_screen.read_curves(other)
    assert missing == ["JPEG XL, effort 7"]
    assert "jpegxl" not in {curve.name for curve in curves}


def test_labels_keep_apart() -> None:
    places = first_screen.spread([1.0, 1.1, 1.2, 5.0], 1.0)
    assert np.diff(places).min() > 0.999
    assert places[:3] == pytest.approx([0.1, 1.1, 2.1], abs=1e-3)
    assert places[3] == 5.0


def test_the_file_of_nearest_size(small_photograph: Pixels) -> None:
    jpeg = pillow_codec("jpeg")
    sizes = {quality: len(jpeg.encode(small_photograph, quality)) for quality in range(1, 96)}
    for wanted in (0, 2000, 3333, 10**9):
        found = first_screen.nearest(jpeg, small_photograph, wanted)
        assert abs(found.size - wanted) == min(abs(size - wanted) for size in sizes.values())
        quality = int(found.name.removeprefix("JPEG, quality "))
        np.testing.assert_array_equal(found.pixels, jpeg.decode(jpeg.encode(small_photograph, quality)))


def test_panels_show_the_same_detail_twice_as_large() -> None:
    left, top, width, height = first_screen.BOX
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (512, 768, 3), dtype=np.uint8) for _ in range(2)]
    sheet = np.asarray(first_screen.composed([("a", "1", pictures[0]), ("b", "2", pictures[1])]))
    for number, pixels in enumerate(pictures):
        x = 8 + number * (2 * width + 8)
        shown = sheet[-8 - 2 * height : -8, x : x + 2 * width]
        np.testing.assert_array_equal(shown[::2, ::2], pixels[top : top + height, left : left + width])
        np.testing.assert_array_equal(shown[1::2, 1::2], shown[::2, ::2])
