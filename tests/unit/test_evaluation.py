"""Evaluation: what is measured through files, how it is averaged and compared, and what the outputs hold."""

from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import Page, check_alone
from PIL import Image as Pil
from ssimulacra2 import compute_ssimulacra2

from s2c_deploy.arrays import Pixels
from s2c_deploy.codec.codec import Codec
from s2c_deploy.errors import DependencyError, InputError
from s2c_deploy.evaluation import Evaluation, Request, evaluate_folder, perceptual, plot, report, tables
from s2c_deploy.evaluation.curves import Curve, Point, compare, mean_curve, size_ratios
from s2c_deploy.evaluation.evaluate import _comparisons
from s2c_deploy.evaluation.measure import BundleMethod, Measurement, ideal_bits, measure
from s2c_deploy.evaluation.perceptual import ssimulacra2
from s2c_deploy.evaluation.pillow_codecs import CODEC_NAMES, PillowCodec, pillow_codec
from s2c_deploy.formats.bitstream import parse
from s2c_deploy.metrics import bd_rate, ms_ssim, psnr
from s2c_deploy.report import figure


def row(image: str, setting: float, size: int, level: float, **values: Any) -> Measurement:
    plain: dict[str, Any] = {
        "image": image,
        "method": "m",
        "setting": setting,
        "width": 10,
        "height": 8,
        "size": size,
        "psnr": level,
        "ms_ssim": None,
        "encode_seconds": 0.1,
        "decode_seconds": 0.2,
        "ideal_bpp": None,
        "equal": None,
    }
    return Measurement(**(plain | values))


def curve(name: str, points: list[tuple[float, float]], pictures: int | None = 3, **values: Any) -> Curve:
    plain: dict[str, Any] = {
        "name": name,
        "kind": "codec",
        "description": "",
        "points": tuple(Point(bpp=bpp, psnr=level, ms_ssim=None) for bpp, level in points),
        "pictures": pictures,
        "ms_ssim_pictures": pictures,
    }
    return Curve(**(plain | values))


LOW = [(0.1, 26.0), (0.2, 28.0), (0.4, 30.5), (0.8, 33.0)]


# --- means


def test_means_are_of_pictures_whatever_their_size() -> None:
    small = row("a", 2, 10, 30.0, ms_ssim=0.9, encode_seconds=1.0)
    large = row("b", 2, 40, 36.0, width=20, height=16, encode_seconds=2.0)
    mean = mean_curve("m", "codec", "", [small, large, row("a", 1, 5, 25.0)])
    # 1 bpp and 1 bpp; dB are averaged, not errors; MS-SSIM is that of the only picture that has one
    assert [(p.setting, p.bpp, p.psnr, p.ms_ssim) for p in mean.points] == [(1, 0.5, 25.0, None), (2, 1.0, 33.0, 0.9)]
    assert mean.points[1].encode_seconds == 1.5
    assert (mean.pictures, mean.ms_ssim_pictures) == (2, 1)


def test_points_come_by_rate_whichever_way_settings_run() -> None:
    mean = mean_curve("m", "codec", "", [row("a", 40, 10, 30.0), row("a", 10, 40, 36.0), row("a", 20, 20, 33.0)])
    assert [p.setting for p in mean.points] == [40, 20, 10]


# --- comparisons


def test_comparison_is_the_bd_rate_over_the_overlap() -> None:
    test, anchor = curve("t", [(b * 0.5, p + 1) for b, p in LOW]), curve("a", LOW)
    found = compare(anchor, test, "psnr")
    assert found is not None
    rates, levels = zip(*LOW, strict=True)
    pair = (rates, levels, [b * 0.5 for b in rates], [p + 1 for p in levels])
    assert (found.pchip, found.cubic) == pytest.approx((bd_rate(*pair), bd_rate(*pair, "cubic")))
    assert (found.low, found.high, found.reason) == (27.0, 33.0, None)
    assert compare(anchor, test, "ms_ssim") is None


@pytest.mark.parametrize(
    ("anchor", "reason"),
    [
        (curve("a", [(b, p + 7) for b, p in LOW]), "no overlap: 26.00 to 33.00 dB against 33.00 to 40.00 dB"),
        (curve("a", LOW[:3]), "has 3 points"),
        (curve("a", [*LOW[:3], (0.9, 30.0)]), "does not rise"),
        (curve("a", [*LOW[:3], (0.9, math.inf)]), "no number"),
        (curve("a", LOW, pictures=24), "the mean of 24 pictures, against 3 measured here"),
        (curve("a", [], missing="pip install it"), "not measured: pip install it"),
    ],
)
def test_no_figure_without_a_reason(anchor: Curve, reason: str) -> None:
    found = compare(anchor, curve("t", LOW), "psnr")
    assert found is not None
    assert found.reason is not None
    assert reason in found.reason
    assert (found.pchip, found.cubic, found.low, found.high) == (None, None, None, None)
    assert tables.bd_cells(found) == ("none", "none", found.reason)


def test_a_published_curve_of_unknown_pictures_is_compared() -> None:
    found = compare(curve("a", LOW, pictures=None), curve("t", LOW), "psnr")
    assert found is not None
    assert found.pchip == pytest.approx(0)


def test_ms_ssim_is_compared_in_decibel() -> None:
    def with_ms_ssim(name: str, factor: float) -> Curve:
        points = [Point(bpp=factor * b, psnr=p, ms_ssim=1 - 10 ** (-p / 20)) for b, p in LOW]
        return replace(curve(name, LOW), points=tuple(points))

    found = compare(with_ms_ssim("a", 1.0), with_ms_ssim("t", 0.8), "ms_ssim")
    assert found is not None
    assert found.pchip == pytest.approx(-20)
    assert found.low == pytest.approx(13)  # -10 log10 of 10^-1.3


def test_size_ratios_are_at_equal_psnr() -> None:
    anchor = curve("a", [(0.1, 26.0), (0.2, 28.0), (0.4, 30.0), (0.8, 32.0)])  # twice the bits for every 2 dB
    ratios = size_ratios(curve("t", [(0.1, 25.9), (0.1, 27.0), (0.4, 32.0), (1.0, 32.1)]), anchor)
    assert ratios[0] is None
    assert ratios[3] is None
    assert ratios[1:3] == pytest.approx([0.5**0.5, 0.5])


def test_sizes_are_shown_against_what_has_a_bd_rate() -> None:
    test = replace(curve("s2c", [(b * 0.75, p) for b, p in LOW[:3]] + [(0.8, 33.5)]), kind="bundle")
    others = [curve("jpeg", LOW), curve("of other pictures", LOW, pictures=24), curve("absent", [], missing="no")]
    found = [c for other in others if (c := compare(other, test, "psnr")) is not None]
    evaluation = Evaluation(
        pictures=("a", "b", "c"),
        skipped=(),
        dataset=None,
        curves=(test, *others),
        comparisons=tuple(found),
        rows=(),
        environment={},
    )
    table = tables.size_table(evaluation, "s2c")
    assert table.columns == ("setting", "jpeg")
    assert [row[1] for row in table.rows] == ["-25.0 %", "-25.0 %", "-25.0 %", ""]
    assert tables.size_table(replace(evaluation, comparisons=()), "s2c").rows == ()


# --- measuring


@pytest.mark.parametrize("name", CODEC_NAMES)
def test_conventional_codecs_through_files(name: str, small_photograph: Pixels, tmp_path: Path) -> None:
    codec = pillow_codec(name)
    if codec.advice is not None:
        pytest.skip(f"{name}: {codec.advice}")
    rows = [
        measure(codec, small_photograph, setting, image="x", folder=tmp_path)
        for setting in (codec.settings[0], codec.settings[-1])
    ]
    (file,) = tmp_path.iterdir()
    assert file.suffix == codec.suffix
    assert rows[1].size == file.stat().st_size  # the last one is still there
    with Pil.open(file) as picture:
        assert psnr(small_photograph, np.asarray(picture.convert("RGB"))) == rows[1].psnr
        assert picture.format == codec.format
    assert rows[1].bpp == file.stat().st_size * 8 / (128 * 192)
    assert rows[0].size < rows[1].size
    assert rows[0].psnr + 5 < rows[1].psnr
    assert rows[1].ms_ssim is None  # 128 pixels high
    assert re.search(r"\d+\.\d+", codec.description)  # a version


def test_jpeg_keeps_its_chroma(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = (255, 0, 0)
    stripes[:, 1::2] = (0, 0, 255)
    assert measure(pillow_codec("jpeg"), stripes, 95, image="x", folder=tmp_path).psnr > 30  # 4:2:0 gives 9


def test_jpeg2000_uses_its_colour_transform(photograph: Pixels, tmp_path: Path) -> None:
    # without it the same bits give some 4 dB less: openjpeg 2.5 at ratio 40
    assert measure(pillow_codec("jpeg2000"), photograph, 40, image="x", folder=tmp_path).psnr > 38.5


def test_unknown_codec() -> None:
    with pytest.raises(InputError, match="expected jpeg, webp"):
        pillow_codec("gif")


def test_a_bundle_through_files(bundle_path: Path, photograph: Pixels, tmp_path: Path) -> None:
    part = np.ascontiguousarray(photograph[:161, :170])
    with Codec.open(bundle_path, "onnxruntime", threads=1) as codec:
        found = measure(BundleMethod(name="m", codec=codec, settings=(3,)), part, 3, image="x", folder=tmp_path)
        stream = codec.compress(part, 3)
        decoded = codec.decompress(stream)
    assert (tmp_path / "picture.s2c").read_bytes() == stream
    assert (found.size, found.bpp) == (len(stream), len(stream) * 8 / (161 * 170))
    assert (found.psnr, found.ms_ssim) == (psnr(part, decoded), ms_ssim(part, decoded))
    assert found.equal is True
    assert found.ideal_bpp is not None
    payload = sum(map(len, parse(stream).tiles))
    assert abs(payload * 8 / (161 * 170) / found.ideal_bpp - 1) < 0.05  # the rest: header, lanes, whole numbers
    assert min(found.encode_seconds, found.decode_seconds) > 0


def test_ideal_bits_against_the_error_function(bundle_path: Path) -> None:
    with Codec.open(bundle_path, "onnxruntime", threads=1) as codec:
        frequency_tables = codec.bundle.tables
    symbols, indexes = np.array([0, 0, -3, 2], np.int16), np.array([20, 20, 20, 40], np.uint8)

    def bits(symbol: int, index: int) -> float:
        spread = float(frequency_tables.scales[index]) * math.sqrt(2)
        mass = (math.erf((symbol + 0.5) / spread) - math.erf((symbol - 0.5) / spread)) / 2
        return -math.log2(mass)

    expected = 2 * bits(0, 20) + bits(-3, 20) + bits(2, 40)
    assert ideal_bits(symbols, indexes, frequency_tables) == pytest.approx(expected, rel=1e-9)


# --- a folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, photograph: Pixels) -> Path:
    """A colour picture, a grey one that is too small for MS-SSIM, an opaque RGBA one; and a text."""
    path = tmp_path_factory.mktemp("pictures")
    Pil.fromarray(photograph[200:368, 300:476]).save(path / "colour.png")
    Pil.fromarray(photograph[100:150, 100:170, 1]).save(path / "grey.png")
    Pil.fromarray(photograph[:170, :165]).convert("RGBA").save(path / "opaque.webp", lossless=True)
    (path / "notes.txt").write_text("not a picture")
    return path


@pytest.fixture(scope="module")
def request_(folder: Path, bundle_path: Path) -> Request:
    return Request(
        images=folder,
        bundles=(bundle_path,),
        qualities=(1, 3, 5, 8),
        against=("jpeg", "webp"),
        references=("vtm-9.1",),
        dataset="kodak",
        backend="onnxruntime",
        threads=1,
    )


@pytest.fixture(scope="module")
def evaluation(request_: Request) -> Evaluation:
    return evaluate_folder(request_)


def test_everything_is_measured_once(evaluation: Evaluation) -> None:
    assert evaluation.pictures == ("colour.png", "grey.png", "opaque.webp")
    assert [(c.name, c.kind) for c in evaluation.curves] == [
        ("s2c conv-tiny", "bundle"),
        ("jpeg", "codec"),
        ("webp", "codec"),
        ("vtm-9.1 (published)", "reference"),
    ]
    keys = [(r.image, r.method, r.setting) for r in evaluation.rows]
    assert len(keys) == len(set(keys)) == 3 * (4 + 13 + 12)
    assert evaluation.unequal == ()
    assert [p.setting for p in evaluation.curves[0].points] == [1, 3, 5, 8]


def test_what_was_measured_is_not_measured_again(
    evaluation: Evaluation, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read back from JSON, but for one row that is not there."""
    record = json.loads(json.dumps(report.as_record(evaluation)))
    rows = report.read_rows(record, "jpeg")
    assert tuple(rows) == tuple(row for row in evaluation.rows if row.method == "jpeg")
    encode, coded = PillowCodec.encode, []

    def spy(codec: PillowCodec, pixels: Pixels, setting: float) -> bytes:
        coded.append(setting)
        return encode(codec, pixels, setting)

    monkeypatch.setattr(PillowCodec, "encode", spy)
    again = evaluate_folder(replace(request_, qualities=(2,), against=("jpeg",), measured=tuple(rows[1:])))
    assert coded == [rows[0].setting] * 2  # the library is loaded, then timed
    assert [row for row in again.rows if row.method == "jpeg"][1:] == rows[1:]
    points = [[(point.bpp, point.psnr) for point in e.curves[1].points] for e in (again, evaluation)]
    assert points[0] == points[1]


def test_small_pictures_have_no_ms_ssim(evaluation: Evaluation) -> None:
    assert {r.image for r in evaluation.rows if r.ms_ssim is None} == {"grey.png"}
    assert evaluation.ms_ssim_pictures == 2
    assert any("MS-SSIM over 2 pictures" in note for note in tables.notes(evaluation))


def test_progress_counts_to_the_end(request_: Request) -> None:
    seen: list[tuple[int, int | None, str]] = []
    evaluate_folder(replace(request_, qualities=(2,), against=(), references=()), lambda *step: seen.append(step))
    assert seen == [(1, 3, "measuring colour.png"), (2, 3, "measuring grey.png"), (3, 3, "measuring opaque.webp")]


def test_no_search_is_run_for_nothing(bundle_path: Path, photograph: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an engine has to see of a size before it is timed, it sees in the shortest search."""
    asked = []
    with Codec.open(bundle_path, "onnxruntime", threads=1) as codec:
        compress = codec.compress

        def spy(pixels: Pixels, quality: float, *, effort: int) -> bytes:
            asked.append(effort)
            return compress(pixels, quality)

        monkeypatch.setattr(codec, "compress", spy)
        for effort in (0, 1, 9):
            BundleMethod(name="m", codec=codec, settings=(3,), effort=effort).warm(photograph[:64, :64])
    assert asked == [0, 1, 2]


def test_only_means_of_the_same_pictures_are_compared(evaluation: Evaluation) -> None:
    found = {(c.anchor, c.metric): c for c in evaluation.comparisons}
    assert found["jpeg", "psnr"].pchip is not None
    assert found["jpeg", "ms_ssim"].pchip is not None
    assert found["vtm-9.1 (published)", "psnr"].reason == "the mean of 24 pictures, against 3 measured here"
    assert tables.named_pictures(evaluation) == "3 of the 24 pictures of the kodak set"


def test_a_published_curve_is_not_mistaken_for_the_codec_measured(request_: Request) -> None:
    asked = replace(request_, qualities=(4,), against=("jpeg",), references=("jpeg", "webp"))
    names = [curve.name for curve in evaluate_folder(asked).curves]
    assert names == ["s2c conv-tiny", "jpeg", "jpeg (published)", "webp (published)"]


def test_references_need_to_know_the_pictures(request_: Request) -> None:
    with pytest.raises(InputError, match=r"--dataset: .*kodak"):
        evaluate_folder(replace(request_, dataset=None))


def test_bundles_are_compared_with_those_named_before() -> None:
    first, second = curve("first", LOW, kind="bundle"), curve("second", LOW, kind="bundle")
    found = _comparisons([first, second, curve("jpeg", LOW), curve("vtm-9.1", LOW, kind="reference")])
    pairs = [(c.test, c.anchor) for c in found]
    assert pairs == [
        *(("first", "jpeg"), ("first", "vtm-9.1")),
        *(("second", "jpeg"), ("second", "vtm-9.1"), ("second", "first")),
    ]


def test_requests_refused(request_: Request, bundle_path: Path) -> None:
    with pytest.raises(InputError, match="the same bundle twice"):
        evaluate_folder(replace(request_, bundles=(bundle_path, bundle_path)))
    with pytest.raises(InputError, match="at least one"):
        evaluate_folder(replace(request_, qualities=()))


def test_unreadable_pictures(request_: Request, folder: Path, tmp_path: Path) -> None:
    for file in folder.glob("*.png"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "broken.png").write_bytes((folder / "grey.png").read_bytes()[:300])
    clear = np.zeros((20, 20, 4), np.uint8)
    Pil.fromarray(clear).save(tmp_path / "clear.png")
    asked = replace(request_, images=tmp_path, qualities=(4,), against=(), references=())
    with pytest.raises(InputError, match=r"broken\.png is damaged"):
        evaluate_folder(asked)
    found = evaluate_folder(replace(asked, skip_unreadable=True))
    assert found.pictures == ("colour.png", "grey.png")
    assert [s.image for s in found.skipped] == ["broken.png", "clear.png"]
    assert "transparent" in found.skipped[1].reason
    assert any(note.startswith("Left out: 2 (") for note in tables.notes(found))
    assert "clear.png" in evaluate_folder(replace(asked, skip_unreadable=True, background="white")).pictures


def test_a_folder_without_readable_pictures(request_: Request, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pictures in"):
        evaluate_folder(replace(request_, images=tmp_path))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match=r"no picture in .* can be read"):
        evaluate_folder(replace(request_, images=tmp_path, skip_unreadable=True))


def test_wrong_decoding_is_counted(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Codec.reconstruct

    def off_by_one(self: Codec, image: Pixels, quality: float = 4, *, tile: int = 0) -> Pixels:
        out = right(self, image, quality, tile=tile)
        if quality == 5:
            out[0, 0, 0] ^= 1
        return out

    monkeypatch.setattr(Codec, "reconstruct", off_by_one)
    found = evaluate_folder(replace(request_, qualities=(4, 5), against=(), references=()))
    assert [r.setting for r in found.unequal] == [5, 5, 5]
    assert "3 of 6" in tables.notes(found)[1]
    assert report.as_record(found)["unequal_reconstructions"] == 3
    page = Page(report._page(found))
    assert [e.text for e in page.all("p", "alarm")] == ["3 decoded pictures are wrong."]


def test_equal_pictures_have_no_number_in_json(evaluation: Evaluation) -> None:
    perfect = replace(evaluation, rows=(replace(evaluation.rows[0], psnr=math.inf),))
    record = json.loads(json.dumps(report.as_record(perfect), allow_nan=False))
    assert record["rows"][0]["psnr"] is None


# --- SSIMULACRA2


def test_ssimulacra2_is_what_its_package_says_of_files(photograph: Pixels, tmp_path: Path) -> None:
    picture = photograph[40:200, 30:250]
    Pil.fromarray(picture).save(tmp_path / "a.png")
    scores = []
    for quality in (20, 60, 95):
        Pil.fromarray(picture).save(tmp_path / "b.jpg", quality=quality, subsampling=0)
        with Pil.open(tmp_path / "b.jpg") as decoded:
            scores.append(ssimulacra2(picture, np.asarray(decoded)))
    assert scores[-1] == pytest.approx(compute_ssimulacra2(tmp_path / "a.png", tmp_path / "b.jpg"), abs=1e-9)
    assert 0 < scores[0] < scores[1] - 5 < scores[2] - 10 < 90
    assert ssimulacra2(picture, picture) == 100


@pytest.mark.parametrize("other", [np.zeros((9, 8, 3), np.uint8), np.zeros((7, 8, 3), np.uint8)])
def test_ssimulacra2_refuses(other: Pixels) -> None:
    with pytest.raises(InputError, match="SSIMULACRA2"):
        ssimulacra2(np.zeros((7, 8, 3), np.uint8), other)


def test_ssimulacra2_where_it_is_asked_for(evaluation: Evaluation, request_: Request, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert {measured.ssimulacra2 for measured in evaluation.rows} == {None}
    assert "SSIMULACRA2" not in str(tables.bd_rate_table(evaluation, "s2c conv-tiny"))
    found = evaluate_folder(replace(request_, ssimulacra2=True, against=("jpeg",)))
    assert all(measured.ssimulacra2 is not None for measured in found.rows)  # the small picture, too
    mine = found.curves[0]
    means = [np.mean([r.ssimulacra2 for r in found.rows if r.setting == s and r.method == mine.name]) for s in (1, 8)]
    assert [mine.points[0].ssimulacra2, mine.points[-1].ssimulacra2] == pytest.approx(means)
    assert mine.quality("ssimulacra2") == sorted(mine.quality("ssimulacra2") or [])
    rates = {(c.anchor, c.metric): c.pchip for c in found.comparisons}
    of_jpeg = next(curve for curve in found.curves if curve.name == "jpeg")
    points = [(p.bpp, p.ssimulacra2) for c in (of_jpeg, mine) for p in c.points]
    split = len(of_jpeg.points)
    pair = [[p[k] for p in part] for part in (points[:split], points[split:]) for k in (0, 1)]
    assert rates["jpeg", "ssimulacra2"] == pytest.approx(bd_rate(*pair))
    assert ("vtm-9.1 (published)", "ssimulacra2") not in rates
    table = tables.bd_rate_table(found, mine.name, wide=False)
    assert table.columns == ("against", "PSNR", "MS-SSIM", "SSIMULACRA2", "PSNR from, to")
    assert [row[3] for row in table.rows] == [f"{rates['jpeg', 'ssimulacra2']:+.1f} %", ""]
    page = Page(report._page(found))
    assert [e.attributes["aria-label"][:4] for e in page.all("svg")] == ["PSNR", "MS-S", "SSIM"]
    assert "ssimulacra2" in found.environment
    fewer = replace(found, rows=tuple(replace(r, ssimulacra2=None) if r.image == "grey.png" else r for r in found.rows))
    assert any(line.startswith("SSIMULACRA2 over 2 pictures") for line in tables.notes(fewer))
    assert not any(line.startswith("SSIMULACRA2") for line in tables.notes(found))


def test_without_ssimulacra2(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r"ssimulacra2.*s2c-deploy\[eval\]"):
        evaluate_folder(replace(request_, ssimulacra2=True))


# --- outputs


def test_json_has_everything(evaluation: Evaluation, tmp_path: Path) -> None:
    report.write_json(evaluation, tmp_path / "e.json")
    record = json.loads((tmp_path / "e.json").read_text())
    assert len(record["rows"]) == len(evaluation.rows)
    first = record["rows"][0]
    assert first["bpp"] == pytest.approx(first["bytes"] * 8 / (first["width"] * first["height"]))
    assert record["environment"]["engine"].startswith("onnxruntime 1.")
    assert {"python", "pillow", "processor", "date"} <= set(record["environment"])
    assert record["curves"][1]["description"].startswith("JPEG, libjpeg")
    assert record["comparisons"][0]["anchor"] == "jpeg"


def test_csv_has_a_line_per_measurement(evaluation: Evaluation, tmp_path: Path) -> None:
    report.write_csv(evaluation, tmp_path / "e.csv")
    with (tmp_path / "e.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(evaluation.rows)
    assert {line["ms_ssim"] for line in lines if line["image"] == "grey.png"} == {""}
    assert float(lines[0]["psnr"]) == evaluation.rows[0].psnr
    assert (lines[0]["equal"], lines[0]["method"]) == ("True", "s2c conv-tiny")


def test_plots(evaluation: Evaluation, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot.write_plot(evaluation, tmp_path / "e.png")
    with Pil.open(tmp_path / "e.png") as picture:
        assert picture.width > 1000  # two panels
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 100
    plot.write_plot(evaluation, tmp_path / "e.svg")
    plot.write_plot(evaluation, tmp_path / "again.svg")
    assert (tmp_path / "e.svg").read_bytes() == (tmp_path / "again.svg").read_bytes()
    with pytest.raises(InputError, match=r"\.png or \.svg"):
        plot.write_plot(evaluation, tmp_path / "e.pdf")


def test_the_page_needs_nothing_else(evaluation: Evaluation, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report.write_html(evaluation, tmp_path / "e.html")
    page = (tmp_path / "e.html").read_text()
    check_alone(Page(page))
    links = set(re.findall(r"https?://[^\s\"'<>)]+", page))
    assert links <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names, not addresses
    assert not re.search(r"\bsrc=|<link|<script|@import|url\((?!#)", page)
    for text in ("vtm-9.1", "libjpeg", "onnxruntime", "fingerprint", "0 of 12"):
        assert text in page
    assert report._page(evaluation) == page


def test_the_page_begins_with_bd_rates(evaluation: Evaluation) -> None:
    pytest.importorskip("matplotlib")
    page = Page(report._page(evaluation))
    body = [e for e in page.elements if [around.tag for around in e.inside] == ["html", "body"]]
    assert [e.tag for e in body[:3]] == ["h1", "div", "nav"]
    table = tables.bd_rate_table(evaluation, "s2c conv-tiny")
    shown = [e for e in page.all("li") if e.within("div", "headline")]
    assert len(shown) == len(table.rows) == 3
    for item, (anchor, rate, *_) in zip(shown, table.rows, strict=True):
        assert item.text.startswith(f"{rate} against {anchor} ")
    assert shown[2].text.endswith("the mean of 24 pictures, against 3 measured here")
    assert [e.attributes["aria-label"][:4] for e in page.all("svg")] == ["PSNR", "MS-S"]
    folded = [e.text.split(":")[0] for e in page.all("summary")]
    assert folded == ["jpeg", "webp", "vtm-9.1 (published)"]
    assert all(e.within("div", "scroll") for e in page.all("table"))


def test_a_page_of_nothing_to_compare_with(evaluation: Evaluation) -> None:
    pytest.importorskip("matplotlib")
    alone = replace(evaluation, curves=evaluation.curves[:1], comparisons=())
    page = Page(report._page(alone))
    assert page.all("div", "headline")[0].text == "s2c conv-tiny: compared with nothing"
    assert "Bits at the same PSNR" not in [e.text for e in page.all("h2")]


def test_names_are_escaped_on_the_page(evaluation: Evaluation) -> None:
    pytest.importorskip("matplotlib")
    hostile = replace(evaluation.curves[1], name="<script>$x^$</script>")
    page = report._page(replace(evaluation, curves=(evaluation.curves[0], hostile), comparisons=()))
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_plots_without_matplotlib(evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r"s2c-deploy\[eval\]"):
        report.write_html(evaluation, tmp_path / "e.html")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_codec_says_what_to_install(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    from s2c_deploy.evaluation import pillow_codecs

    there = pillow_codecs.util.find_spec
    monkeypatch.setattr(pillow_codecs.util, "find_spec", lambda name: None if name == "pillow_jxl" else there(name))
    found = evaluate_folder(replace(request_, qualities=(4,), against=("jpegxl",), references=()))
    assert found.curves[1].missing == "pip install pillow-jxl-plugin"
    assert tables.bd_rate_table(found, "s2c conv-tiny").rows[0] == (
        *("jpegxl", "none", "none", "not measured: pip install pillow-jxl-plugin", ""),
    )
    assert tables.methods_table(found).rows[1] == ("jpegxl", "not measured: pip install pillow-jxl-plugin")
