"""Names that are harmless on a terminal, JSON that is valid, tables that can be read, and the last net."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from commands import Run

from s2c_deploy.cli import inspect
from s2c_deploy.cli.output import printable, progress_bar, say_json, table_lines
from s2c_deploy.errors import BitstreamError
from s2c_deploy.formats.bundle import open_bundle
from s2c_deploy.formats.finding import BundleFinder, known_bundles
from s2c_deploy.report.table import Table

NUMBERS = Table(
    title="times of everything that can run",
    columns=("row", "p50 ms", "p90", "x reference"),
    rows=(("openvino", "1.00 *", "2", "3.00"), ("onnxruntime", "10.00", "", "1.00")),
)
WORDS = Table(
    title="methods",
    columns=("name", "what it is"),
    rows=(("jpeg", "Pillow's, 4:4:4, optimised Huffman tables, by libjpeg-turbo"), ("webp", "lossy")),
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 日本\u3000語.png", "plain é 日本\u3000語.png"),
        (os.fsdecode(b"caf\xe9"), "caf\\xe9"),
        ("a\nb\r\x1b[2J\x07", "a\\nb\\r\\x1b[2J\\x07"),
        ("[red]a[/red]", "[red]a[/red]"),
        ("a\u202egnp.exe\u2028", "a\\u202egnp.exe\\u2028"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_json_is_valid_whatever_the_names(capsys: pytest.CaptureFixture[str]) -> None:
    say_json({"a": [os.fsdecode(b"caf\xe9"), "é\n", 1, None]})
    out = capsys.readouterr().out
    assert json.loads(out) == {"a": ["caf\\xe9", "é\n", 1, None]}
    assert "\\ud" not in out


def test_a_table_in_a_pipe() -> None:
    assert table_lines(NUMBERS) == [
        "times of everything that can run",
        "row          p50 ms  p90  x reference",
        "openvino     1.00 *    2         3.00",
        "onnxruntime   10.00              1.00",
    ]
    assert table_lines(WORDS)[2] == "jpeg  Pillow's, 4:4:4, optimised Huffman tables, by libjpeg-turbo"


@pytest.mark.parametrize("width", [24, 25, 30, 36, 37, 80])
def test_a_table_on_a_narrow_terminal_breaks_no_word(width: int) -> None:
    for table in (NUMBERS, WORDS):
        lines = table_lines(table, width)
        assert max(map(len, lines)) <= width
        whole = " ".join(lines).split()
        for word in " ".join([table.title, *table.columns, *(cell for row in table.rows for cell in row)]).split():
            assert word in whole
    assert (len(table_lines(NUMBERS, width)) == 4) == (width >= 37)


def test_the_last_net(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for raised, code, message in (
        (ValueError("odd\nthing"), 1, "error: unforeseen ValueError: odd\\nthing (S2C_DEBUG=1 shows where"),
        (RuntimeError(), 1, "error: unforeseen RuntimeError (S2C_DEBUG=1 shows where"),
        (MemoryError(), 11, "error: not enough memory for"),
        (PermissionError(13, "Permission denied", "x"), 3, "error: x: Permission denied"),
        (OSError(12, "Cannot allocate memory"), 11, "error: not enough memory for"),
        (ImportError("x.so: failed to map segment from shared object"), 11, "error: not enough memory for"),
    ):

        def fail(*_: object, raised: Exception = raised) -> None:
            raise raised

        monkeypatch.setattr(inspect, "read_stream", fail)
        result = run("inspect", "-")
        assert (result.code, result.out) == (code, "")
        (line,) = result.err.splitlines()
        assert line.startswith(message)
        monkeypatch.setenv("S2C_DEBUG", "1")
        with pytest.raises(type(raised)):
            run("inspect", "-")
        monkeypatch.delenv("S2C_DEBUG")


def test_folders_that_are_no_bundles_stop_no_others(
    run: Run, tmp_path: Path, bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert known_bundles() == []
    engines = tmp_path / "engines"
    (engines / "aa" / "manifest.json").mkdir(parents=True)
    (engines / "ab").mkdir()
    (engines / "ab" / "manifest.json").write_bytes(b"\xff{")
    (engines / "ac").symlink_to("nowhere")
    (engines / "ad").mkdir()
    (engines / "ad" / "manifest.json").symlink_to("manifest.json")
    (engines / "file").write_bytes(b"")
    (engines / "zz").symlink_to(bundle_path)
    assert [found.path for found in known_bundles()] == [Path("engines/ab"), Path("engines/zz")]
    fingerprint = open_bundle(bundle_path).fingerprint[:8]
    finder = BundleFinder(None)
    assert finder.find(fingerprint, "conv-tiny") == Path("engines/zz")
    with pytest.raises(BitstreamError, match=r"damaged \(engines/ab\)"):
        finder.find(bytes(8), "conv-tiny")
    assert json.loads(run("doctor", "--json").out)["bundles"] == ["engines/ab", "engines/zz"]
    monkeypatch.setenv("S2C_BUNDLE", "x" * 300)
    assert run("doctor").code == 0
    shutil.rmtree(engines)
    engines.write_bytes(b"")
    assert known_bundles() == []


def test_a_bar_says_how_many_a_second_and_how_long_it_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it counts something; on a terminal, as rich is told that this is one."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "150")
    for unit in ("pictures", ""):
        with progress_bar("coding", 4, unit=unit) as advance:
            advance(1, 4, "coding a\x1b[2J")
            advance(4, 4, "coding b")
        shown = capsys.readouterr().err
        assert "4/4" in shown
        assert "\x1b[2J" not in shown
        assert (f"{unit}/s" in shown, "left" in shown) == (bool(unit), bool(unit))
