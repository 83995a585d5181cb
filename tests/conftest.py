"""Fixtures shared by all tests: real pictures, and one bundle exported from the shipped weights."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import numpy as np
import pytest
from commands import Run, runner
from PIL import Image as Pil

from s2c_deploy.engine.host import Host, this_host
from s2c_deploy.image import Pixels, read_image

ROOT = Path(__file__).resolve().parent.parent
PHOTOGRAPH = ROOT / "export" / "photographs" / "kodim23.png"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs the command line in an empty folder, its own."""
    return runner(monkeypatch, capsys, tmp_path)


@pytest.fixture(scope="session")
def photograph() -> Pixels:
    """uint8 512 x 768 x 3: a photograph of the Kodak set."""
    return read_image(PHOTOGRAPH).pixels


@pytest.fixture(scope="session")
def small_photograph(photograph: Pixels) -> Pixels:
    """uint8 128 x 192 x 3: a part of it with edges and texture."""
    return np.ascontiguousarray(photograph[150:278, 300:492])


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory, small_photograph: Pixels) -> Path:
    """The shipped S2C-Conv weights, exported; parity is checked on the small photograph to save time.

    Read-only by agreement: a test that damages a bundle copies it first.
    """
    from s2c_deploy.export.checkpoint import load_checkpoint
    from s2c_deploy.export.exporter import export_bundle

    folder = tmp_path_factory.mktemp("bundles")
    (folder / "photographs").mkdir()
    Pil.fromarray(small_photograph).save(folder / "photographs" / "small.png")
    path = folder / "conv-tiny"
    checkpoint = load_checkpoint(ROOT / "export" / "conv-tiny")
    export_bundle(checkpoint, path, images=folder / "photographs", precision="float16")
    return path


def require(module: str) -> ModuleType:
    """An optional package: its tests are skipped where it is missing, but fail where $S2C_REQUIRE names it.

    S2C_REQUIRE: names with commas between, as the module or the package is called, "tensorrt-rtx".
    """
    try:
        return import_module(module)
    except ModuleNotFoundError:
        missing(f"{module} is not installed", module)


@pytest.fixture(scope="session")
def gpu() -> Host:
    """This machine's GPU: tests of it are skipped without one, but fail where $S2C_REQUIRE names cuda or tensorrt."""
    host = this_host()
    if host.compute_capability is None:
        missing("the CUDA driver shows no GPU", "cuda", "tensorrt")
    return host


def missing(reason: str, *names: str) -> NoReturn:
    """Skips the test for a reason, or fails it where $S2C_REQUIRE has one of the names."""
    named = {name.strip().replace("-", "_") for name in os.environ.get("S2C_REQUIRE", "").split(",")}
    if named & set(names):
        pytest.fail(f"{reason}, but S2C_REQUIRE names it")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def tensorrt_rtx() -> ModuleType:
    """TensorRT-RTX, which builds engines on a machine without a GPU."""
    return require("tensorrt_rtx")
