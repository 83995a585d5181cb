"""Fixtures shared by all tests: real pictures, and one bundle exported from the shipped weights."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from commands import Run, runner
from hypothesis import core, settings
from PIL import Image as Pil

from s2c_deploy.arrays import Pixels
from s2c_deploy.host import Host, this_host
from s2c_deploy.image import read_image

# A job in the background of a shell ignores Ctrl-C, and so would everything that it starts: here it is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Tests that import ONNX Runtime themselves send nothing either.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
ROOT = Path(__file__).resolve().parent.parent
PHOTOGRAPH = ROOT / "export" / "photographs" / "kodim23.png"
#: What every test's random numbers of torch begin with (a new process's differ every time), and its threads.
TORCH_SEED = 0
THREADS = torch.get_num_threads()
# How long an example takes says more about the machine than about the code.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Hypothesis draws by the seed of the order (pytest-randomly's), so that one number repeats a whole run."""
    seed = config.getoption("randomly_seed", None)
    if isinstance(seed, int) and core.global_force_seed is None:
        core.global_force_seed = seed


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Every test, and a fixture set up for it, begins with the same random numbers of torch and as many threads.

    Runners and ``train`` set the threads for good, as a process of their own may.
    """
    torch.manual_seed(TORCH_SEED)
    torch.set_num_threads(THREADS)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    """Whatever a fixture of the whole file drew, which is set up for the first of its tests only."""
    torch.manual_seed(TORCH_SEED)


@pytest.fixture(autouse=True)
def _unchanged_process() -> Iterator[None]:
    """A test that leaves something of the process changed, where one after it could tell, fails.

    It puts that back itself, with monkeypatch at best; here it is put back, too, so that only that test fails.
    """
    before, environment = process_state(), environment_variables()
    yield
    after = process_state() | environment_variables()
    for name in after.keys() - environment.keys() - before.keys():
        del os.environ[name]
    os.environ.update(environment)
    os.chdir(before["folder"])
    torch.set_default_dtype(before["default dtype"])
    torch.set_grad_enabled(before["gradients"])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, before[number.name])
    before |= environment
    changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    assert not changed, {name: (before.get(name), after.get(name)) for name in changed}


def environment_variables() -> dict[str, str]:
    """The environment, but for what pytest and parts of torch, when they are first imported, keep there."""
    theirs = ("PYTEST_CURRENT_TEST", "TORCHINDUCTOR_CACHE_DIR")
    return {name: value for name, value in os.environ.items() if name not in theirs}


def process_state() -> dict[str, Any]:
    """What else is of the process and not of a test."""
    return {
        "folder": Path.cwd(),
        "default dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        **{number.name: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)},
    }


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
    from s2c_deploy.export.exporter import export_bundle
    from s2c_deploy.models.checkpoint import load_checkpoint

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
