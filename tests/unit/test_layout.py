"""The packages are layers: none needs one that needs it, and no module either."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import s2c_deploy

PACKAGE = Path(s2c_deploy.__file__).parent
#: What may import PyTorch: nothing that a decoder needs imports any of these.
TORCH = {"models", "quantize", "export", "train"}


def modules() -> dict[str, Path]:
    """Every module of the package by its name, without the package's."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found.pop("")  # the root: it imports nothing until it is asked for something
    return found


def imports(path: Path, known: set[str]) -> set[str]:
    """Modules of the package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            base = (node.module or "").removeprefix("s2c_deploy.")
            if (node.module or "").startswith("s2c_deploy."):
                found |= {name if (name := f"{base}.{a.name}") in known else base for a in node.names}
            elif node.module == "s2c_deploy":
                found |= {a.name for a in node.names if a.name in known}
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("s2c_deploy.") for a in node.names if a.name.startswith("s2c_deploy.")}
    return found & known


def graph() -> dict[str, set[str]]:
    known = modules()
    return {name: imports(path, set(known)) - {name} for name, path in known.items()}


def order(edges: dict[str, set[str]]) -> list[str]:
    try:
        return list(TopologicalSorter(edges).static_order())
    except CycleError as error:
        pytest.fail(f"a cycle: {' -> '.join(error.args[1])}")


def test_modules_form_no_cycle() -> None:
    # A package's own __init__ gathers names of its modules.
    edges = {name: {to for to in found if not name.startswith(f"{to}.")} for name, found in graph().items()}
    assert len(order(edges)) > 100


def test_packages_form_no_cycle() -> None:
    edges: dict[str, set[str]] = {}
    for name, found in graph().items():
        package = name.split(".")[0]
        edges.setdefault(package, set()).update({to.split(".")[0] for to in found} - {package})
    found_order = order(edges)
    assert found_order.index("runtime") < found_order.index("tensorrt") < found_order.index("codec")


def test_a_cycle_is_found() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"a -> b -> a|b -> a -> b"):
        order({"a": {"b"}, "b": {"a"}})


def test_what_a_decoder_needs_imports_no_training() -> None:
    for name, found in graph().items():
        decoding = {
            "codec",
            "formats",
            "entropy",
            "runtime",
            "tensorrt",
            "pictures",
            "pillow",
            "chunks",
            "batch",
            "web",
        }
        if name.split(".")[0] in decoding:
            assert not {to.split(".")[0] for to in found} & TORCH, name
        if name.split(".")[0] == "runtime":
            assert not [to for to in found if to.startswith("tensorrt")], name
