"""What a benchmark's page shows first, folds away, and makes of the names in it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from bench_runs import CASE, ROWS, benchmark, row
from pages import Page, check_alone

from s2c_deploy.bench.headline import headlines
from s2c_deploy.bench.report import write_html
from s2c_deploy.bench.result import Benchmark, RowResult
from s2c_deploy.report.page import html_table
from s2c_deploy.report.table import Table

HOSTILE = "$^$</style><img src=x onerror=\"f('a')\">&amp; <!-- -->"


def varied(made: RowResult, factors: np.ndarray) -> RowResult:
    """The same row, each call so many times as long."""
    seconds = tuple(float(s * f) for s, f in zip(made.series[0].seconds, factors, strict=True))
    stages = {"g_s": seconds}
    return dataclasses.replace(made, series=(dataclasses.replace(made.series[0], seconds=seconds, stages=stages),))


def page_of(made: Benchmark, folder: Path) -> Page:
    pytest.importorskip("matplotlib")
    write_html(made, folder / "b.html")
    return Page((folder / "b.html").read_text(encoding="utf-8"))


def test_the_headline_is_the_fastest_engine_against_both_baselines() -> None:
    (headline,) = headlines(benchmark(*ROWS))
    assert headline.said == "Fastest engine to decode 768x512, quality 4: fast (float32), 10.0 ms"
    assert [(f.value, f.detail) for f in headline.findings] == [
        ("10.0×", "95 % interval 10.0 to 10.0"),
        ("4.00×", "95 % interval 4.00 to 4.00"),
    ]
    reference, pytorch = (f.what for f in headline.findings)
    assert reference == "as fast as the reference pipeline (reference, float32, 100.0 ms)"
    assert pytorch == "as fast as the best PyTorch (torch-eager, float32, 40.0 ms)"


def test_the_interval_is_of_the_ratio() -> None:
    noise = 1 + 0.03 * np.random.default_rng(5).random((2, 10))
    fast, torch = varied(ROWS[1], noise[0]), varied(ROWS[2], noise[1])
    found = headlines(benchmark(fast, torch))[0].findings[1]
    expected = np.median(torch.series[0].seconds) / np.median(fast.series[0].seconds)
    assert found.value == f"{expected:.2f}×"
    low, high = (float(value) for value in re.findall(r"\d\.\d\d", found.detail))
    assert 4 / 1.03 - 0.01 <= low < expected < high <= 4 * 1.03 + 0.01


def test_rows_that_are_equally_fast() -> None:
    noise = 1 + 0.03 * np.random.default_rng(5).random(10)
    twin = row("torch", "pytorch", 10.0)
    assert (
        headlines(benchmark(varied(ROWS[1], noise), varied(twin, noise[::-1])))[0]
        .findings[1]
        .detail.endswith("; no difference")
    )


def test_no_ratio_of_an_unstable_row() -> None:
    drifting = np.repeat([1.0, 1.2], 5)
    (headline,) = headlines(benchmark(ROWS[0], ROWS[1], varied(ROWS[2], drifting)))
    assert [f.value for f in headline.findings] == ["10.0×", "no ratio"]
    assert headline.findings[1].detail.startswith("Not to be quoted: torch-eager is unstable (second half +")
    (headline,) = headlines(benchmark(ROWS[0], varied(ROWS[1], drifting), ROWS[2]))
    assert [f.value for f in headline.findings] == ["no ratio", "no ratio"]
    assert all("fast is unstable" in f.detail for f in headline.findings)


def test_a_baseline_that_is_not_there_has_a_reason() -> None:
    made = dataclasses.replace(benchmark(ROWS[1]), left_out={"reference": "pip install it", "tpu": "not here"})
    reference, pytorch = headlines(made)[0].findings
    assert (reference.value, reference.detail) == ("no ratio", "Not measured: pip install it.")
    assert (pytorch.value, pytorch.detail) == ("no ratio", "Not measured: not asked for.")
    lost = row("torch", "pytorch", 1.0, series=(), failure="it died")
    assert headlines(benchmark(ROWS[1], lost))[0].findings[1].detail == "Not measured: it died."


def test_what_fell_back_is_no_headline() -> None:
    gpu = row("gpu", "engine", 1.0, fallback="asked for CUDA, ran CPU", ran=("CPU",))
    assert "fast (float32), 10.0 ms" in headlines(benchmark(*ROWS, gpu))[0].said
    assert headlines(benchmark(gpu))[0].said == "No engine has times of decode, 768x512, quality 4."


def test_the_headline_comes_first(tmp_path: Path) -> None:
    page = page_of(benchmark(*ROWS), tmp_path)
    body = [e for e in page.elements if [around.tag for around in e.inside] == ["html", "body"]]
    assert [e.tag for e in body[:3]] == ["h1", "div", "nav"]
    assert body[0].text == "Latency: conv-tiny"
    assert body[1].attributes["class"] == "headline"
    assert [e.text for e in page.all("b")] == ["10.0×", "4.00×"]
    assert [e.text for e in page.all("a")] == [e.text for e in page.all("h2")]
    assert [e.text for e in page.all("h2")][:2] == ["Notes", "Decode: 768x512, quality 4"]
    check_alone(page)


def test_long_values_are_folded_away(tmp_path: Path) -> None:
    made = benchmark(*ROWS)
    environment = {
        **made.environment, "fingerprint": "f" * 64, "files": {f"{n}.onnx": 64 * str(n) for n in range(9)},
        "governor": None, "sentence": "a processor with quite a long name, which is nevertheless to be seen at once",
    }  # fmt: skip
    page = page_of(dataclasses.replace(made, environment=environment, request={"rounds": 55555}), tmp_path)
    whole = page.all("body")[0].text
    for text in ("f" * 64, "8" * 64, "55555"):
        assert text in whole
        assert text not in page.seen
    assert "ffff…" in page.seen
    assert "9 entries" in [e.text for e in page.all("summary")]
    cells = [e.text for e in page.all("td")]
    assert environment["sentence"] in cells
    assert "none" in cells


def test_tables_scroll_in_their_own_box(tmp_path: Path) -> None:
    page = page_of(benchmark(*ROWS), tmp_path)
    assert len(page.all("table")) >= 6
    assert all(e.within("div", "scroll") for e in page.all("table") + page.all("svg"))


def test_plots_take_the_pages_colours(tmp_path: Path) -> None:
    page = page_of(benchmark(*ROWS), tmp_path)
    styles = [e.attributes["style"] for e in page.elements if e.within("svg") and "style" in e.attributes]
    assert any("currentColor" in style for style in styles)
    assert not [style for style in styles if re.search(r"#000000|#fff|white|black", style)]
    assert [e.attributes["aria-label"] for e in page.all("svg")] == [
        "decode latency by row, 768x512, quality 4",
        "decode stages by row, 768x512, quality 4",
    ]


def test_hostile_names(tmp_path: Path) -> None:
    case = dataclasses.replace(CASE, name=HOSTILE)
    rows = [
        dataclasses.replace(r, series=(dataclasses.replace(r.series[0], case=HOSTILE),), name=f"{r.name}{HOSTILE}",
                            description=HOSTILE, ran=(HOSTILE,), precision=HOSTILE, bytes=None)
        for r in ROWS
    ]  # fmt: skip
    rows[2] = dataclasses.replace(rows[2], fallback=HOSTILE)
    made = dataclasses.replace(
        benchmark(*rows), cases=(case,), left_out={HOSTILE: HOSTILE}, request={HOSTILE: [HOSTILE] * 9},
        environment={"bundle": HOSTILE, HOSTILE: HOSTILE, "hash": HOSTILE.replace(" ", "")},
    )  # fmt: skip
    page = page_of(made, tmp_path)
    check_alone(page)
    assert len(page.all("style")) == 1 + len(page.all("svg"))
    assert page.all("h1")[0].text == page.all("title")[0].text == f"Latency: {HOSTILE}"
    for tag in ("h2", "a", "li", "td", "th"):
        assert [e for e in page.all(tag) if HOSTILE in e.text], tag
    assert all(HOSTILE in e.attributes["aria-label"] for e in page.all("svg"))


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("a.html", "b.html"):
        write_html(benchmark(*ROWS), tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_many_cases_leave_the_first_ones_in_sight(tmp_path: Path) -> None:
    cases = [dataclasses.replace(CASE, name=f"case {n}", width=256 << n) for n in range(5)]
    rows = [
        dataclasses.replace(r, series=tuple(dataclasses.replace(r.series[0], case=c.name) for c in cases), bytes=None)
        for r in ROWS
    ]
    page = page_of(dataclasses.replace(benchmark(*rows), cases=tuple(cases)), tmp_path)
    assert [e.within("details") for e in page.all("div", "headline")] == [False] * 3 + [True] * 2
    assert "By size" in [e.text for e in page.all("h2")]
    check_alone(page)


def test_a_run_without_times_has_a_page(tmp_path: Path) -> None:
    cases = (CASE, dataclasses.replace(CASE, name="another", width=96))
    lost = benchmark(row("bad", "engine", 1.0, series=(), failure="3 symbols differ"))
    page = page_of(dataclasses.replace(lost, cases=cases), tmp_path)
    assert page.all("div", "headline")[0].text == "No row has times."
    assert page.all("svg") == []
    assert "no times: 3 symbols differ" in [e.text for e in page.all("td")]


def test_prose_wraps_and_numbers_do_not() -> None:
    table = Table(title="t", columns=("row", "p50 ms", "x best PyTorch", "why"), rows=(("a", "1", "2", "w " * 20),))
    page = Page(html_table(table))
    assert [e.attributes.get("class", "") for e in page.all("td")] == ["words", "", "", "prose"]
    assert [[s.text for s in page.all("span") if th in s.inside] for th in page.all("th")] == [
        ["row"], ["p50 ms"], ["x best", "PyTorch"], ["why"],
    ]  # fmt: skip
