"""``s2c-deploy`` run in this process, as a user would type it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from s2c_deploy.cli import main as module


class Result(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Result]


def runner(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> Run:
    """Runs commands in a folder, with records of engines in it, on a plain terminal that is 200 columns wide."""
    monkeypatch.chdir(folder)
    for name in ("S2C_BUNDLE", "S2C_DEBUG", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    places = {"S2C_STATE": folder / "state", "XDG_DATA_HOME": folder / "data"}  # and none of this user's own
    for name, value in {**places, "COLUMNS": 200, "TERM": "dumb"}.items():
        monkeypatch.setenv(name, str(value))

    def call(*arguments: object) -> Result:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["s2c-deploy", *map(str, arguments)])
        code = 0
        try:
            module.main()
        except SystemExit as left:
            code = int(left.code or 0)
        return Result(code, *capsys.readouterr())

    return call
