"""Scripts of benchmarks/ on a small picture, against the codec itself."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import batch, coder, cost, cross_engine, effort, held_out, screens, syntheses
from s2c_deploy.arrays import Pixels
from s2c_deploy.codec.codec import Codec
from s2c_deploy.codec.networks import open_graph
from s2c_deploy.entropy import gaussian_tables
from s2c_deploy.formats.bundle import open_bundle
from s2c_deploy.metrics import psnr
from s2c_deploy.models.checkpoint import load_checkpoint

ROOT = Path(__file__).resolve().parents[2]
Script = Callable[..., tuple[str, dict[str, Any]]]


@pytest.fixture
def images(tmp_path: Path, small_photograph: Pixels) -> Path:
    (tmp_path / "images").mkdir()
    Image.fromarray(small_photograph[:64, :128]).save(tmp_path / "images" / "small.png")
    return tmp_path / "images"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Script:
    """Runs a script's main; what it prints, and its JSON."""

    def run(main: Callable[[], None], option: str, *arguments: object) -> tuple[str, dict[str, Any]]:
        out = tmp_path / "out.json"
        monkeypatch.setattr("sys.argv", ["script", *map(str, arguments), option, str(out)])
        main()
        return capsys.readouterr().out, json.loads(out.read_text(encoding="utf-8"))

    return run


def test_the_coder_gets_what_compress_codes(images: Path, bundle_path: Path, script: Script) -> None:
    options = ("--images", images, "--bundle", bundle_path, "--quality", 3, "--rounds", 1)
    told, record = script(coder.main, "--json", *options)
    with Codec.open(bundle_path, threads=1) as codec:
        symbols, indexes = codec.symbols(np.asarray(Image.open(images / "small.png")), 3)
    tables = gaussian_tables()
    assert record["workload"]["symbols"] == symbols.size
    assert record["workload"]["skipped"] == np.mean(indexes < tables.skip_below)
    assert record["workload"]["source"] == "1 pictures, conv-tiny, quality 3"
    assert {row["bytes"] for row in record["rows"] if row["coder"].startswith("s2c")} == {record["rows"][0]["bytes"]}
    assert "s2c scalar" in told


def test_float_entropy_networks_run_as_a_bundle_of_their_own(images: Path, bundle_path: Path, script: Script) -> None:
    options = ("--images", images, "--bundle", bundle_path, "--weights", ROOT / "export" / "conv-tiny")
    told, record = script(
        cross_engine.main, "--out", *options, "--float-entropy", "--qualities", 3, "--backends", "onnxruntime"
    )
    assert record["float_entropy"]
    one = record["agreements"][0]
    assert (one["encoder"], one["decoder"], one["streams"]) == ("onnxruntime", "onnxruntime, 1 thread", 1)
    # An index and a mean of every latent.
    assert one["outputs"] == 2 * open_bundle(bundle_path).config.latent_channels * (64 // 16) * (128 // 16)
    assert "onnxruntime, 1 thread | 0 of" in told


def test_float_entropy_networks_are_those_of_the_weights(bundle_path: Path, tmp_path: Path) -> None:
    model = load_checkpoint(ROOT / "export" / "conv-tiny").model
    bundle = cross_engine.float_bundle(open_bundle(bundle_path), model, tmp_path)
    torch.manual_seed(0)
    z_hat = torch.randn(1, model.config.hyper_channels, 3, 2)
    with torch.inference_mode():
        hyper = model.h_s(z_hat)
        _, indexes, means = cross_engine.FloatAnchor(model.group_contexts[0])(hyper)
    with open_graph(bundle, "h_s", backend="onnxruntime", threads=1) as h_s:
        np.testing.assert_allclose(h_s({"z_hat": z_hat.numpy()})["hyper"], hyper, atol=1e-4)
    with open_graph(bundle, "context_0_anchor", backend="onnxruntime", threads=1) as anchor:
        made = anchor({"hyper": hyper.numpy()})
    # Halves may be rounded to either side.
    for name, expected in (("indexes", indexes), ("means", means)):
        assert np.mean(made[name] != expected.numpy()) < 0.01
        np.testing.assert_allclose(made[name], expected, atol=1)


def test_the_course_on_held_out_pictures(tmp_path: Path) -> None:
    """Runs one after another; what costs 1.25 times as much at the same PSNR needs 25 % more bits."""
    lines = ["run,step,quality,bpp,psnr"]
    for run, step, factor in ((1, 100, 2.0), (1, 300, 1.25), (4, 50, 1.0)):
        lines += [f"{run},{step},{q},{factor * 0.1 * 2**q},{24 + 3 * q}" for q in range(1, 5)]
    (tmp_path / "validation.csv").write_text("\n".join(lines) + "\n")
    found = held_out.against_the_last(held_out.course(tmp_path / "validation.csv"))
    assert [steps for steps, _ in found] == [100, 300, 350]
    assert [rate for _, rate in found] == pytest.approx([100, 25, 0])
    held_out.plot(found, tmp_path / "course.svg")
    assert "</svg>" in (tmp_path / "course.svg").read_text()


def test_what_a_g_s_costs_and_gives() -> None:
    """Where a decibel is worth so many bits everywhere, so many decibels less are a BD-rate in closed form."""
    rows = []
    for way, lost, seconds in ((syntheses.BASE, 0.0, 0.4), (("fast", "float32"), 0.3, 0.1)):
        for quality, picture in itertools.product((1.0, 3.0, 5.0, 8.0), (0.9, 1.1)):
            bpp = picture * 2**quality / 20
            level = 30 + 18 * np.log10(2**quality / 20) - lost
            rows.append(syntheses.Decode(way=way, quality=quality, bpp=bpp, psnr=level, seconds=seconds))
    full, fast = syntheses.summaries(rows)
    assert (full.way, full.bd_rate, full.milliseconds) == (syntheses.BASE, 0, 400)
    assert fast.bd_rate == pytest.approx(100 * (10 ** (0.3 / 18) - 1))
    assert list(fast.losses.values()) == pytest.approx([-0.3] * 4)
    table = syntheses.table_of([full, fast], {"full": "48.5"})
    assert table.rows[1][:5] == ("`fast`, float32", "", "100", "4.00", "+3.9 %")


def test_every_g_s_decodes_one_stream(images: Path, bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.asarray(Image.open(images / "small.png"))
    with ExitStack() as stack:
        codecs = syntheses.ways(open_bundle(bundle_path), "onnxruntime", stack)
        (row,) = syntheses.decodes(codecs, pixels, 3, 1)  # ONNX Runtime has no bfloat16
        stream = codecs[syntheses.BASE].compress(pixels, 3)
        assert row.bpp == 8 * len(stream) / (64 * 128)
        assert row.psnr == psnr(pixels, codecs[syntheses.BASE].decompress(stream))


def test_efforts_beside_other_codecs() -> None:
    """Curves of as many pictures, and published ones, from a committed record; what it says of effort 0 is its own."""
    record = effort.RESULTS / "rate_distortion_conv-small_kodak.json"
    beside = effort.others(record, 24)
    assert {"jpeg", "avif-slow", "vtm-9.1 (published)"} < {curve.name for curve in beside}
    assert all(curve.pictures is None for curve in effort.others(record, 6))
    assert effort.others(None, 24) == []
    told = json.loads(record.read_text())
    own = next(curve for curve in told["curves"] if curve["kind"] == "bundle")
    points = tuple(effort.Point(**point) for point in own["points"])
    level = effort.Level(effort=0, curve=effort.Curve(**{**own, "points": points}), bd_rate=None, seconds=1.0)
    table = effort.table_of([level], beside)
    shown = dict(zip(table.columns, table.rows[0], strict=True))
    expected = next(c for c in told["comparisons"] if c["anchor"] == "jpeg" and c["metric"] == "psnr")
    assert shown["against jpeg"] == f"{expected['pchip']:+.1f} %"


def test_screens_are_what_they_are_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["script", str(tmp_path)])
    screens.main()
    found = {file.stem: np.asarray(Image.open(file)).astype(int) for file in tmp_path.iterdir()}
    assert {name: picture.shape for name, picture in found.items()} == dict.fromkeys(
        ("page", "code", "table", "poster"), (800, 1280, 3)
    )
    assert found["page"].mean() > 200 > 100 > found["code"].mean()
    edges = {name: (abs(np.diff(picture.sum(axis=2), axis=1)) > 300).mean() for name, picture in found.items()}
    assert all(share > 0.003 for share in edges.values()), edges


def test_a_mosaic_has_every_picture_in_its_place() -> None:
    lying, upright = np.full((2, 3, 3), 7, np.uint8), np.full((3, 2, 3), 9, np.uint8)
    made = coder.mosaic([lying, upright], 5, 4)
    assert made.shape == (4, 5, 3)
    np.testing.assert_array_equal(made[..., 0], [[7, 7, 7, 9, 9]] * 4)


def test_cost_of_integers(images: Path, script: Script) -> None:
    options = ("integers", "--images", images, "--weights", ROOT / "export" / "conv-tiny", "--qualities", "1,8")
    told, record = script(cost.main, "--out", *options)
    (low, _), (high, _) = record["integer"]
    assert low < high
    np.testing.assert_allclose(record["integer"], record["float"], rtol=0.02)
    assert record["integer"] != record["float"]
    assert record["bd_rate"] is None
    assert "not known from fewer than four qualities" in told


def test_cost_of_float16(images: Path, bundle_path: Path, script: Script) -> None:
    options = ("float16", "--images", images, "--bundle", bundle_path, "--qualities", "4", "--threads", 1)
    told, record = script(cost.main, "--out", *options)
    (row,) = record["rows"]
    pixels = np.asarray(Image.open(images / "small.png"))
    with Codec.open(bundle_path, "onnxruntime", threads=1) as codec:
        stream = codec.compress(pixels, 4)
        assert row["bpp_float32"] == 8 * len(stream) / (64 * 128)
        assert row["psnr_float32"] == psnr(pixels, codec.decompress(stream))
    assert 0 < abs(row["psnr_float32"] - row["psnr_decoded_in_float16"]) < 0.1
    assert record["means"][0]["loss_db"] == row["psnr_float32"] - row["psnr_float16"]
    assert "1 pictures; the gate of 0.01 dB" in told


def test_cost_of_bfloat16(images: Path, bundle_path: Path, script: Script) -> None:
    options = ("bfloat16", "--images", images, "--bundle", bundle_path, "--qualities", "1,3,5,8")
    _, record = script(cost.main, "--out", *options)
    losses = np.subtract(record["psnr"]["float32"], record["psnr"]["bfloat16"])
    assert record["worst_loss"] == pytest.approx(losses.max())
    assert 0 < np.abs(losses).max() < 0.5
    assert 1 <= record["largest_difference"] < 32
    assert np.all(np.diff(record["bpp"]) > 0)
    assert record["bd_rate_percent"] is not None


def test_ways_of_a_batch(images: Path, bundle_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for Ray, which the tests do without."""
    local = [way for way in batch.ways(2) if "--ray" not in way.options]
    monkeypatch.setattr(batch, "ways", lambda processors: local)
    options = ("--images", images, "--bundle", bundle_path, "--count", 3, "--size", "48x64", "--rounds", 1)
    told, record = script(batch.main, "--out", *options, "--backend", "onnxruntime")
    assert [(sample["way"], sample["pictures"]) for sample in record["samples"]] == [
        ("1 process", 3),
        ("2 processes", 3),
    ]
    for sample in record["samples"]:
        assert sample["coding_seconds"] > 0
        assert 0 < sample["batch_seconds"] < sample["seconds"]
    assert "| 2 processes |" in told
    assert record["environment"]["bundle"] == "conv-tiny"
