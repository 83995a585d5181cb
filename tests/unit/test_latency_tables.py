"""The documents' latency tables: made from committed results, and current."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from benchmarks.latency import __main__ as command
from benchmarks.latency import suites, tables
from s2c_deploy.bench.parity import Parity
from s2c_deploy.bench.result import Benchmark, Measured, RowResult, Series, Throughput


def case(width: int, height: int) -> Measured:
    return Measured(
        name=f"{width}x{height}, quality 4", width=width, height=height, quality=4.0, pictures=("a", "b"),
        sha256=("0", "1"), size=width * height // 16, pixels=2 * width * height,
    )  # fmt: skip


def row(name: str, kind: str, of: Measured, seconds: float, threads: int = 2, failure: str | None = None) -> RowResult:
    stages = {"entropy": 0.1, "contexts": 0.3, "latents": 0.1, "g_s": 0.5}
    series = Series(
        case=of.name,
        operation="decode",
        seconds=(seconds,) * 10,
        rounds=tuple(i // 2 for i in range(10)),
        stages={stage: (share * seconds,) * 10 for stage, share in stages.items()},
    )
    parity = Parity(picture="a", symbols=1000, wrong_symbols=0, delta_psnr=0, agreement=200, failure=None)
    return RowResult(
        name=name, kind=kind, description=kind, threads=threads, ran=(name,), precision="float32", failure=failure,
        peak_megabytes=1000 * seconds, series=() if failure else (series,), parity=(parity, parity),
        throughput=(Throughput(case=of.name, processes=2, pictures=9, pictures_per_second=1.5 / seconds),),
    )  # fmt: skip


def run(*rows: RowResult, of: Measured) -> Benchmark:
    environment = {
        "bundle": "conv-tiny", "processor": "abacus", "usable_processors": 2, "commit": "0123456789abcdef",
        "date": "2026-11-22T00:00:00+00:00", "versions": {"numpy": "2", "torch": "2.13"},
    }  # fmt: skip
    return Benchmark(request={}, environment=environment, encoder="torch", cases=(of,), rows=rows, left_out={})


def test_the_documents_tables_are_current() -> None:
    assert len(tables.DOCUMENTS) >= 4
    for name, document in tables.DOCUMENTS.items():
        text = document.read_text(encoding="utf-8")
        assert tables.split(text, name)[1] == tables.block(name), "run: python -m benchmarks.latency tables"


def test_without_results_it_says_so(tmp_path: Path) -> None:
    assert tables.block("sizes_conv-tiny", tmp_path) == (
        "Not measured for this version yet: `python -m benchmarks.latency sizes --bundle engines/conv-tiny`."
    )


def test_a_table_of_results(tmp_path: Path) -> None:
    kodak = case(768, 512)
    made = run(
        row("reference", "reference", kodak, 1.0),
        row("fast", "engine", kodak, 0.1),
        row("torch-eager", "pytorch", kodak, 0.2),
        row("bad", "engine", kodak, 0.01, failure="3 symbols differ"),
        of=kodak,
    )
    suites.write_runs("decode", [made], tmp_path)
    text = tables.block("decode_conv-tiny", tmp_path)
    assert "| fast | 100.0 | 100.0 | 100.0 | 10.00 | 2.00 | 100 | 15.0 | stable |" in text
    assert "| reference | 1000.0 | 1000.0 | 1000.0 | 1.00 | 0.20 | 1000 | 1.5 | stable |" in text
    assert "768x512, quality 4, 2 pictures, 0.250 bpp" in text
    assert "on abacus (2 cores); torch 2.13; commit 0123456789, 2026-11-22." in text
    assert "| bad" not in text
    assert "Without times: bad (3 symbols differ)." in text


def test_only_what_stands_between_the_markers_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme, (start, end) = tmp_path / "README.md", tables.markers("decode")
    readme.write_text(f"# Head\n{start}\nold\n{end}\ntail\n")
    monkeypatch.setattr(tables, "DOCUMENTS", {"decode": readme})
    monkeypatch.setattr(tables, "block", lambda suite: f"| {suite} |")
    monkeypatch.setattr("sys.argv", ["latency", "tables", "--check"])
    with pytest.raises(SystemExit, match="is not current"):
        command.main()
    monkeypatch.setattr("sys.argv", ["latency", "tables"])
    command.main()
    assert readme.read_text() == f"# Head\n{start}\n| decode |\n{end}\ntail\n"
    monkeypatch.setattr("sys.argv", ["latency", "tables", "--check"])
    command.main()


START, END = "<!-- latency decode -->", "<!-- /latency decode -->"


@pytest.mark.parametrize("text", ["", START, END + START, 2 * START, START + END.replace("decode", "sizes")])
def test_a_document_without_its_markers_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(text)
    monkeypatch.setattr(tables, "DOCUMENTS", {"decode": readme})
    monkeypatch.setattr("sys.argv", ["latency", "tables"])
    with pytest.raises(SystemExit, match="once each"):
        command.main()
    assert readme.read_text() == text


def test_cost_per_megapixel() -> None:
    small, large = case(1000, 500), case(2000, 1000)
    runs = [
        run(row("fast", "engine", small, 0.1), of=small),
        run(row("fast", "engine", large, 0.4, failure="out of memory"), of=large),
    ]
    assert tables.sizes_table(runs).rows == (
        ("fast", "1000x500", "100.0", "100.0", "100", "stable"),
        ("fast", "2000x1000", "out of memory", "", "", ""),
    )


def test_speed_up_by_threads() -> None:
    of = case(768, 512)
    two, one = row("e, 2 threads", "engine", of, 0.1, threads=2), row("e, 1 threads", "engine", of, 0.15, threads=1)
    assert [line[2:] for line in tables.threads_table(run(two, one, of=of)).rows] == [
        ("1", "150.0", "1.00", "stable"),
        ("2", "100.0", "1.50", "stable"),
    ]


def test_the_entropy_path_leaves_out_g_s() -> None:
    of = case(768, 512)
    ((_, _, *cells),) = tables.entropy_table(run(row("e", "engine", of, 0.1), of=of)).rows
    # 1,000 symbols a picture in 50 ms
    assert cells == ["50.00", "10.00", "30.00", "10.00", "50%", "0.02", "stable"]


def test_sizes_end_where_a_row_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from s2c_deploy.bench import Request, Source
    from s2c_deploy.bench.rows import known_rows

    asked = []

    def measured(request: Request, progress: object) -> Benchmark:
        of = case(*request.sources[0].pixels.shape[1::-1])
        asked.append((of.width, [r.name for r in request.rows]))
        gone = {"openvino": "gone"} if of.width == 128 else {}
        return run(*(row(r.name, "engine", of, 0.1, failure=gone.get(r.name)) for r in request.rows), of=of)

    monkeypatch.setattr(suites, "measured", measured)
    source = Source(name="p", pixels=np.zeros((64, 64, 3), np.uint8))
    rows = tuple(known_rows()[name] for name in ("openvino", "onnxruntime"))
    request = Request(bundle=Path(), rows=rows, left_out={}, sources=(source,))
    assert len(list(suites.by_size(request, ["64x64", "128x128", "256x256"], None))) == 3
    assert asked == [
        (64, ["openvino", "onnxruntime"]), (128, ["openvino", "onnxruntime"]), (256, ["onnxruntime"]),
    ]  # fmt: skip


def test_records_of_a_suite_survive(tmp_path: Path) -> None:
    of = case(64, 64)
    made = [run(row("e", "engine", of, 0.1), of=of), run(row("e", "engine", of, 0.2), of=of)]
    assert suites.read_runs(suites.write_runs("sizes", made, tmp_path)) == made
    assert dataclasses.asdict(made[0])["cases"][0]["width"] == 64
