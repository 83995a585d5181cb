"""The parts of the benchmark that need no engine: clock, cases, gate, records, tables."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import pytest
from bench_runs import CASE, ROWS, benchmark, row

from s2c_deploy.arrays import Pixels
from s2c_deploy.bench.cases import Source, group, of_sizes, parse_size
from s2c_deploy.bench.parity import BFLOAT16, FLOAT32, judge
from s2c_deploy.bench.report import compare_table, differences
from s2c_deploy.bench.result import read_result, write_result
from s2c_deploy.bench.rows import choose_rows
from s2c_deploy.bench.stages import StageClock
from s2c_deploy.bench.tables import costs_table, device_table, latency_table, lost_table, notes, stages_table
from s2c_deploy.errors import InputError


def test_an_inner_stage_stops_the_outer_ones_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 3.0, 7.0, 8.0, 10.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    clock = StageClock()
    with clock.stage("outer"):  # 0
        with clock.stage("inner"):  # 1 to 3
            pass
        with clock.stage("inner"):  # 7 to 8
            pass
    assert clock.take() == {"outer": 1.0 + 4.0 + 2.0, "inner": 2.0 + 1.0}
    assert clock.take() == {}


def test_a_failing_stage_still_ends() -> None:
    clock = StageClock()
    with pytest.raises(ValueError, match="here"), clock.stage("a"), clock.stage("b"):
        raise ValueError("here")
    with clock.stage("c"):
        pass
    assert set(clock.take()) == {"a", "b", "c"}


@pytest.mark.parametrize(("text", "size"), [("768x512", (768, 512)), ("1080p", (1920, 1080)), ("4k", (3840, 2160))])
def test_sizes(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "5k", "768", "768x", "0x512", "-1x5", "99999x99999", "768×512"])
def test_wrong_sizes(text: str) -> None:
    with pytest.raises(InputError, match="--sizes: expected"):
        parse_size(text)


def test_other_sizes_of_a_photograph(photograph: Pixels) -> None:
    small, large = of_sizes(Source(name="p", pixels=photograph), [(100, 60), (1000, 700)])
    np.testing.assert_array_equal(small.pixels, photograph[226:286, 334:434])
    assert large.pixels.shape == (700, 1000, 3)
    np.testing.assert_array_equal(large.pixels[:512, :768], photograph)
    np.testing.assert_array_equal(large.pixels[512:, :768], photograph[:-189:-1])


def test_pictures_of_a_size_are_one_case() -> None:
    shapes = [(64, 96), (96, 64), (32, 32)]
    cases = group([Source(name=str(s), pixels=np.zeros((*s, 3), np.uint8)) for s in shapes], [4, 1.001, 1])
    assert [(c.name, c.sources) for c in cases] == [
        ("32x32, quality 1", (2,)),
        ("32x32, quality 4", (2,)),
        ("96x64, quality 1", (0, 1)),
        ("96x64, quality 4", (0, 1)),
    ]


@pytest.fixture
def judged(small_photograph: Pixels):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    noise = rng.integers(-9, 10, small_photograph.shape)
    reconstruction = np.clip(small_photograph.astype(int) + noise, 0, 255).astype(np.uint8)
    symbols = rng.integers(-3, 4, 1000).astype(np.int16)

    def call(pixels: Pixels, found: np.ndarray = symbols, limits=FLOAT32):  # type: ignore[no-untyped-def]
        return judge(
            "p", limits, expected=symbols, symbols=found,
            original=small_photograph, reconstruction=reconstruction, pixels=pixels,
        )  # fmt: skip

    return call, reconstruction, symbols


def test_an_equal_picture_passes(judged) -> None:  # type: ignore[no-untyped-def]
    call, reconstruction, _ = judged
    found = call(reconstruction)
    assert (found.failure, found.delta_psnr, found.wrong_symbols, found.symbols) == (None, 0, 0, 1000)


def test_single_pixels_of_one_level_pass(judged) -> None:  # type: ignore[no-untyped-def]
    call, reconstruction, _ = judged
    pixels = reconstruction.copy()
    pixels[3, 4] ^= 1
    assert call(pixels).failure is None


def test_one_symbol_fails(judged) -> None:  # type: ignore[no-untyped-def]
    call, reconstruction, symbols = judged
    other = symbols.copy()
    other[500] += 1
    assert call(reconstruction, other).failure == "p: 1 of 1000 symbols differ from the encoder's"
    assert "1000 of 1000" in call(reconstruction, symbols[:-1]).failure


def test_a_wrong_scale_fails_at_either_precision(judged) -> None:  # type: ignore[no-untyped-def]
    call, reconstruction, _ = judged
    for factor, limits in ((1.01, FLOAT32), (1.05, BFLOAT16)):
        pixels = np.clip(np.rint(reconstruction * factor), 0, 255).astype(np.uint8)
        assert "PSNR changes by" in call(pixels, limits=limits).failure


def test_an_error_that_improves_the_psnr_fails_too(judged, small_photograph: Pixels) -> None:  # type: ignore[no-untyped-def]
    call, _, _ = judged
    assert "PSNR changes by +" in call(small_photograph).failure


def test_an_error_that_cancels_in_the_psnr_fails(judged, small_photograph: Pixels) -> None:  # type: ignore[no-untyped-def]
    """The noise the other way round: the same distance to the original, another picture."""
    call, reconstruction, _ = judged
    mirrored = np.clip(2 * small_photograph.astype(int) - reconstruction, 0, 255).astype(np.uint8)
    found = call(mirrored, limits=BFLOAT16)
    assert abs(found.delta_psnr) < BFLOAT16.delta_psnr
    assert "dB from the encoder's reconstruction" in found.failure


def test_a_picture_of_another_size_fails(judged) -> None:  # type: ignore[no-untyped-def]
    call, reconstruction, _ = judged
    assert "expected pixels (128, 192, 3), found (127, 192, 3)" in call(reconstruction[1:]).failure


def test_the_table_ranks_marks_and_divides() -> None:
    table = latency_table(benchmark(*ROWS), CASE, "decode")
    cells = [dict(zip(table.columns, line, strict=True)) for line in table.rows]
    assert [c["row"] for c in cells] == ["fast", "torch-eager", "torch-slow", "reference"]
    assert [c["p50 ms"] for c in cells] == ["10.0 *", "40.0", "80.0", "100.0"]
    assert [c["x reference"] for c in cells] == ["10.00", "2.50", "1.25", "1.00"]
    assert [c["x best PyTorch"] for c in cells] == ["4.00", "1.00", "0.50", "0.40"]
    assert {c["verdict"] for c in cells} == {"stable"}


def test_the_advice_names_the_best_engine_and_both_ratios() -> None:
    said = notes(benchmark(*ROWS))
    assert said[0].startswith("Deploy fast for 768x512, quality 4: 10.0 ms, 4.0x the best PyTorch (torch-eager, 40.0 ")
    assert "10.0x the reference pipeline" in said[0]
    assert "10500 bytes in its own, 10000 in theirs" in "\n".join(said)


def test_a_row_that_fell_back_is_neither_best_nor_a_baseline() -> None:
    rows = (*ROWS, row("gpu", "engine", 1.0, fallback="asked for CUDA, ran CPU", ran=("CPU",)))
    table = latency_table(benchmark(*rows), CASE, "decode")
    assert table.rows[0][:3] == ("gpu (ran CPU, float32)", "float32", "1.00")
    assert table.rows[1][2] == "10.0 *"
    said = notes(benchmark(*rows))
    assert said[0].startswith("Deploy fast")
    assert "gpu: asked for CUDA, ran CPU" in said


def test_a_lost_row_has_a_reason_and_no_times() -> None:
    lost = row("bad", "engine", 1.0, series=(), failure="3 symbols differ")
    made = benchmark(*ROWS, lost)
    assert "bad" not in {line[0] for line in latency_table(made, CASE, "decode").rows}
    assert "bad" not in {line[0] for line in costs_table(made).rows}
    assert lost_table(made).rows == (("bad", "no times: 3 symbols differ"), ("tpu", "not run: not here"))


def test_stages_that_miss_time_are_named() -> None:
    table = stages_table(benchmark(*ROWS), CASE, "decode")
    assert dict(zip(table.columns, table.rows[0], strict=True))["sum / headline"] == "99.9 %"
    half = dataclasses.replace(ROWS[1].series[0], stages={"g_s": tuple(0.5 * s for s in ROWS[1].series[0].seconds)})
    said = notes(benchmark(dataclasses.replace(ROWS[1], series=(half,))))
    assert "fast: stages sum to 50.0% of the headline of 768x512, quality 4: do not trust them" in said


def test_times_on_a_device_stand_beside_the_hosts(tmp_path: Path) -> None:
    series = dataclasses.replace(
        ROWS[1].series[0], device={"g_s": (0.004,) * 10, "entropy": (0.001,) * 10},
        enqueue={"g_s": (0.0005,) * 10, "entropy": (0.002,) * 10},
    )  # fmt: skip
    gpu = dataclasses.replace(ROWS[1], series=(series,), device_megabytes=321.4)
    made = benchmark(gpu, ROWS[2])
    assert device_table(made, CASE, "decode").rows == (
        ("fast", "g_s", "7.00", "4.00", "0.50", ""),
        ("fast", "entropy", "2.99", "1.00", "2.00", "launch-bound"),
    )
    assert "MB device" in costs_table(made).columns
    assert "321" in costs_table(made).rows[0]
    assert not device_table(benchmark(*ROWS), CASE, "decode").rows
    assert "MB device" not in costs_table(benchmark(*ROWS)).columns
    write_result(made, tmp_path / "b.json")
    assert read_result(tmp_path / "b.json") == made


def test_results_of_before_have_no_device(tmp_path: Path) -> None:
    write_result(benchmark(*ROWS), tmp_path / "b.json")
    record = json.loads((tmp_path / "b.json").read_text())
    for entry in record["rows"]:
        del entry["device_megabytes"], entry["series"][0]["device"], entry["series"][0]["enqueue"]
    (tmp_path / "b.json").write_text(json.dumps(record))
    assert read_result(tmp_path / "b.json") == benchmark(*ROWS)


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    write_result(benchmark(*ROWS), tmp_path / "b.json")
    assert read_result(tmp_path / "b.json") == benchmark(*ROWS)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.pop("rows"),
        lambda r: r.update(schema=2),
        lambda r: r["rows"][0].update(strange=1),
        lambda r: r["rows"][0]["series"][0]["seconds"].pop(),
        lambda r: r["rows"][0]["series"][0]["seconds"].__setitem__(0, -1),
        lambda r: r["rows"][0]["series"][0].update(seconds="fast"),
        lambda r: r.update(cases=3),
    ],
)
def test_a_damaged_record_is_refused(tmp_path: Path, change) -> None:  # type: ignore[no-untyped-def]
    write_result(benchmark(*ROWS), tmp_path / "b.json")
    record = json.loads((tmp_path / "b.json").read_text())
    change(record)
    (tmp_path / "b.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"b\.json"):
        read_result(tmp_path / "b.json")


@pytest.mark.parametrize("text", ["", "[]", "{", "\xff", "null"])
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "b.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"b\.json"):
        read_result(tmp_path / "b.json")


def test_two_runs_compared() -> None:
    before = benchmark(*ROWS)
    after = benchmark(row("fast", "engine", 8.0), row("new", "engine", 1.0))
    (line,) = compare_table(before, after).rows
    assert line[0] == "fast"
    assert line[2:] == ("10.00", "8.00", "0.800", "0.800 to 0.800", "faster")
    other = dataclasses.replace(after, environment={**after.environment, "processor": "slide rule"})
    assert differences(before, other) == ["processor differs: abacus and slide rule"]
    assert differences(before, after) == []


def test_runs_with_nothing_in_common_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="no row and case in common"):
        compare_table(benchmark(ROWS[0]), benchmark(ROWS[1]))


def test_rows_are_chosen_by_name() -> None:
    rows, left = choose_rows(["onnxruntime", "tensorrt"], ["full"])
    assert [r.name for r in rows] == ["onnxruntime"]
    assert "tensorrt" in left
    with pytest.raises(InputError, match=r"expected auto, openvino, .* found 'cuda'"):
        choose_rows(["cuda"], ["full"])


def test_auto_leaves_out_what_only_flatters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s2c_deploy.bench.rows._no_bfloat16", lambda: "no bfloat16 here")
    rows, left = choose_rows(["auto"], ["full"])
    assert left["torch-bf16"] == left["openvino-bf16"] == "no bfloat16 here"
    assert "torch-bf16" in [r.name for r in choose_rows(["auto", "torch-bf16"], ["full"])[0]]
    assert "onnxruntime" in [r.name for r in rows]
