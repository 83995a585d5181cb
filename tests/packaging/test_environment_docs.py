"""docs/environment.md and the code know the same variables."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "environment.md").read_text()
#: First cells of the page's tables.
DOCUMENTED = {name for row in re.findall(r"^\| (`.*?) \|", PAGE, re.M) for name in re.findall(r"`(\w+)`", row)}
#: Read by the libraries below, and never by name in this package.
OF_LIBRARIES = {"HOME", "COLUMNS", "NO_COLOR", "FORCE_COLOR", "TERM", "MASTER_ADDR", "MASTER_PORT"} | {
    f"AWS_{name}" for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "DEFAULT_REGION", "ENDPOINT_URL")
}


def strings(folder: str) -> Iterator[str]:
    """Every string of the Python files but this one: variables' names are kept in constants, too."""
    for path in set((ROOT / folder).rglob("*.py")) - {Path(__file__).resolve()}:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_every_variable_of_ours_is_explained() -> None:
    read = {text for text in (*strings("s2c_deploy"), *strings("tests")) if re.fullmatch("S2C_[A-Z]+", text)}
    for path in (ROOT / "native" / "src").glob("*.c"):
        read |= set(re.findall(r'getenv\("(\w+)"\)', path.read_text()))
    read -= {"S2C_LEFT_BEHIND"}  # what a test leaves behind on purpose
    assert {"S2C_BUNDLE", "S2C_DEBUG", "S2C_SIMD", "S2C_STATE"} <= read
    assert read == {name for name in DOCUMENTED if name.startswith("S2C_")}


def test_every_other_variable_is_read() -> None:
    others = {name for name in DOCUMENTED if not name.startswith("S2C_")} - OF_LIBRARIES
    assert len(others) > 10
    assert others <= set(strings("s2c_deploy"))


def test_every_variable_that_is_read_by_name_is_explained() -> None:
    """``os.environ.get("NAME")`` or ``os.environ["NAME"]``."""
    read: set[str] = set()
    for path in (ROOT / "s2c_deploy").rglob("*.py"):
        read |= set(re.findall(r"""environ(?:\.get\(|\[)["']([A-Z_]+)["']""", path.read_text()))
    assert "XDG_DATA_HOME" in read
    assert read <= DOCUMENTED
