"""Every command's help: whole, in little time, and nothing of it eaten by the markup it is printed with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from commands import Run

from s2c_deploy.cli.main import app


def commands(group: Any, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its names, groups included."""
    yield names, group
    for name, command in sorted(getattr(group, "commands", {}).items()):
        yield from commands(command, *names, name)


COMMANDS = list(commands(typer.main.get_command(app)))


def test_there_are_all_commands() -> None:
    assert len(COMMANDS) >= 18
    assert ("engines", "prune") in [names for names, _ in COMMANDS]


@pytest.mark.parametrize("names", [names for names, _ in COMMANDS], ids=" ".join)
def test_every_option_is_explained_with_its_default(
    run: Run, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    command = dict(COMMANDS)[names]
    monkeypatch.setenv("COLUMNS", "400")  # nothing is folded
    result = run(*names, "--help")
    assert result.code == 0
    shown = " ".join(re.sub("[│╭╮╰╯─]", " ", result.out).split())
    for option in command.params:
        if option.name == "help":
            continue
        text = option.help or ""
        assert text, f"{option.name} has no help"
        assert "[" not in text, f"{option.name}: brackets are eaten as markup; a default belongs in show_default"
        assert " ".join(text.split()) in shown, option.name
        if isinstance(option.show_default, str):
            assert f"[default: ({option.show_default})]" in shown, option.name
    assert command.help
    for paragraph in command.help.split("\n\n"):
        assert " ".join(paragraph.split()) in shown


def test_defaults_that_are_chosen_later_are_said() -> None:
    """An option that is None unless given says what happens then, or that nothing does."""
    silent = {
        "lmbda", "triton", "sizes", "json_file", "csv_file", "plot_file", "html_file", "background", "paths",
        "install_completion", "show_completion",
    }  # fmt: skip
    for names, command in COMMANDS:
        for option in command.params:
            if option.default is None and not option.required and option.name not in silent | {"help"}:
                assert isinstance(option.show_default, str), (names, option.name)


def test_help_comes_at_once() -> None:
    """The processor's time: what else runs here does not count."""
    before = os.times()
    subprocess.run(
        [sys.executable, "-m", "s2c_deploy.cli.main", "compress", "--help"], stdout=subprocess.DEVNULL, check=True
    )
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent < 2  # half a second on an idle machine
