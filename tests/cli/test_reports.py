"""``eval`` and ``bench``: tables that can be read, and that are there even if no file can be written."""

from __future__ import annotations

import json
import os
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from commands import Run
from PIL import Image as Pil
from processes import environment, file_size_limit, process

from s2c_deploy.bench.report import all_tables
from s2c_deploy.bench.result import Benchmark, from_record, read_result, write_result
from s2c_deploy.cli.eval import write_reports
from s2c_deploy.cli.output import table_lines
from s2c_deploy.errors import InputError


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, level in (("a.png", 40), ("b.png", 200)):
        Pil.fromarray(np.full((8, 8, 3), level, np.uint8)).save(folder / name)
    return folder


def benchmark(names: tuple[str, ...]) -> Benchmark:
    """A run of these rows at two sizes, with times that look like real ones."""
    sizes = ("768x512", "3840x2160")
    cases = [
        {
            "name": f"{size}, quality 4", "width": 768, "height": 512, "quality": 4.0, "pictures": ["kodim01.png"],
            "sha256": ["0" * 64], "size": 25000, "pixels": 393216,
        }
        for size in sizes
    ]  # fmt: skip
    stages = {stage: [0.03] * 4 for stage in ("read", "parse", "entropy", "contexts", "latents", "g_s", "colour")}
    rows = [
        {
            "name": name, "kind": kind, "description": "", "threads": 2, "ran": ["CPUExecutionProvider"],
            "precision": "float32", "load_seconds": 1.25, "first_seconds": 0.4, "loaded_megabytes": 400.0,
            "peak_megabytes": 812.0, "parity": [], "throughput": [],
            "series": [
                {
                    "case": case["name"], "operation": "decode", "seconds": [1.2211, 1.3, 1.25, 1.27],
                    "rounds": [0, 0, 1, 1], "stages": stages,
                }
                for case in cases
            ],
        }
        for name, kind in zip(names, ("engine", "engine", "pytorch", "reference"), strict=True)
    ]  # fmt: skip
    record = {
        "schema": 1, "request": {}, "environment": {"bundle": "conv-small"}, "encoder": "onnxruntime",
        "cases": cases, "rows": rows, "left_out": {"cuda": "no GPU"},
    }  # fmt: skip
    return from_record(record, Path("record"))


def test_a_benchmark_fits_80_columns() -> None:
    names = ("openvino-bf16", "onnxruntime, 2 threads", "torch-channels-last", "reference")
    shown = all_tables(benchmark(names), wide=False)
    assert next(table.title.split(",")[0] for table in shown if table.rows) == "decode"
    for table in shown:
        cells = [line for line in table_lines(table)[1:] if line.strip()]
        assert max(map(len, cells), default=0) <= 80, table.title
    latency = shown[0]
    assert {"p50 ms", "x reference", "x best PyTorch", "stable"} < set(latency.columns)
    wide = all_tables(benchmark(names), wide=True)
    assert len(wide) > len(shown)
    assert set(latency.columns) - {"stable"} < set(wide[0].columns)


@pytest.mark.parametrize("command", ["eval", "bench"])
def test_a_full_disk_of_temporary_files(pictures: Path, tmp_path: Path, bundle_path: Path, command: str) -> None:
    (tmp_path / "temporary").mkdir()
    named = {
        "eval": ("pictures", "--backend", "onnxruntime", "--against", "none"),
        "bench": ("--images", "pictures", "--backends", "onnxruntime"),
    }
    done = process(
        tmp_path, command, *named[command], "--bundle", bundle_path, "-q", "8",
        env=environment(TMPDIR=str(tmp_path / "temporary")), preexec_fn=file_size_limit(100),
    )  # fmt: skip
    (line,) = done.stderr.decode().splitlines()
    assert done.returncode == 3
    assert line.startswith(f"error: cannot write the temporary file {tmp_path}/temporary/s2c-")
    assert "TMPDIR" in line
    assert os.listdir(tmp_path / "temporary") == []


def test_an_evaluation_whose_report_cannot_be_written(pictures: Path, tmp_path: Path, bundle_path: Path) -> None:
    """The disk takes the streams, but not the report: the figures are shown, and then what failed is said."""
    done = process(
        tmp_path, "eval", "pictures", "--bundle", bundle_path, "--backend", "onnxruntime", "--threads", 1,
        "--against", "none", "-q", "1,8", "--json", "e.json", "--csv", "e.csv", preexec_fn=file_size_limit(2048),
    )  # fmt: skip
    told, errors = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == 3, errors
    assert "PSNR dB" in told
    assert "conv-tiny" in told
    assert "written: e.csv" in told
    assert "e.json" not in told
    assert errors == "error: cannot write e.json: File too large (make room, or choose another place)\n"
    assert sorted(os.listdir(tmp_path)) == ["e.csv", "pictures"]


def test_every_report_is_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = benchmark(("openvino", "onnxruntime", "torch", "reference"))
    first, last = tmp_path / "none" / "a.json", tmp_path / "b.json"

    def broken(path: Path) -> None:
        raise KeyError("odd")

    with pytest.raises(InputError, match="no folder"):
        write_reports([(first, partial(write_result, run)), (tmp_path, broken), (last, partial(write_result, run))])
    told = capsys.readouterr()
    assert told.out == f"written: {last}\n"
    assert told.err.startswith("error: unforeseen KeyError")
    assert read_result(last) == run


def test_results_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "bytes.json").write_bytes(b"\xff")
    for name, message in (
        ("none.json", "no such file"),
        ("deep.json", "expected the JSON of s2c-deploy bench"),
        ("bytes.json", "expected the JSON of s2c-deploy bench"),
        ("x" * 300, "File name too long"),
    ):
        with pytest.raises(InputError, match=message):
            read_result(tmp_path / name)


def test_links_out_of_the_pictures_are_said(run: Run, pictures: Path, tmp_path: Path, bundle_path: Path) -> None:
    Pil.new("RGB", (8, 8)).save(tmp_path / "c.png")
    (pictures / "c.png").symlink_to("../c.png")
    (pictures / "b.png").rename(pictures / os.fsdecode(b"caf\xe9.png"))
    common = ("eval", "pictures", "--bundle", bundle_path, "--backend", "onnxruntime", "-q", "4", "--against", "none")
    result = run(*common)
    assert result.code == 0
    assert result.err == "left out: 1 file (a link out of the folder: --follow-links: c.png)\n"
    assert "2 pictures;" in result.out
    result = run(*common, "--follow-links", "--json", "e.json")
    assert result.err == ""
    text = (tmp_path / "e.json").read_text(encoding="utf-8")
    assert "\\ud" not in text
    assert json.loads(text)["pictures"] == ["a.png", "c.png", "caf\\xe9.png"]


def test_no_box_in_a_pipe(tmp_path: Path) -> None:
    done = process(tmp_path, "info", env=None, stdout=subprocess.PIPE, stderr=subprocess.PIPE, capture_output=False)
    text = done.stdout.decode()
    assert text.splitlines()[1] == "transform          parameters  kMAC/px"
    assert text.isascii()
