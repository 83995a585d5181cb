"""ARCHITECTURE.md says what is there: its files exist, and its layers are those of the imports."""

from __future__ import annotations

import re
from pathlib import Path

from test_layout import graph

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def layers() -> dict[str, int]:
    """Every package and top-level module by its row."""
    rows = re.findall(r"^\| (\d+) \| (.*?) \|", TEXT, re.M)
    return {name: int(number) for number, names in rows for name in re.findall(r"`(\w+)`", names)}


def test_the_layers_are_those_of_the_imports() -> None:
    told = layers()
    modules = graph()
    assert told.keys() == {name.split(".")[0] for name in modules}
    for name, found in modules.items():
        package = name.split(".")[0]
        for other in {to.split(".")[0] for to in found} - {package}:
            assert told[other] < told[package], f"{name} of layer {told[package]} imports {other} of {told[other]}"


def test_every_file_that_is_named_is_there() -> None:
    named = re.findall(r"`([\w/]+(?:\.(?:py|c|h)|/))`", TEXT)
    assert len(named) > 60
    names = {path.name for folder in ("s2c_deploy", "native") for path in (ROOT / folder).rglob("*.[pch]*")}
    for name in named:
        where = [ROOT / name, ROOT / "s2c_deploy" / name]
        assert any(path.exists() for path in where) if "/" in name else name in names, name
