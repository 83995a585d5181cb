"""What tests/conftest.py promises: no test hangs on those before it, and one seed repeats a run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
CARELESS = """
import os, signal, torch

def test_environment():
    os.environ["S2C_LEFT_BEHIND"] = "1"

def test_folder(tmp_path):
    os.chdir(tmp_path)

def test_dtype():
    torch.set_default_dtype(torch.float64)

def test_gradients():
    torch.set_grad_enabled(False)

def test_signals():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

class TestAfter:
    def test_nothing_is_left(self):
        assert "S2C_LEFT_BEHIND" not in os.environ
        assert torch.zeros(1, requires_grad=True).mul(2).requires_grad
        assert torch.get_default_dtype() == torch.float32
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
"""
DRAWING = """
import random, pytest, torch
import numpy as np
from hypothesis import given, settings, strategies as st

@pytest.fixture(scope="module")
def before_the_first():
    torch.rand(5)

def draw():
    assert torch.get_num_threads() == 1
    torch.set_num_threads(3)
    print("drawn", torch.rand(1).item())

def test_a(before_the_first): draw()
def test_b(before_the_first): draw()
def test_c(before_the_first): draw()

def test_numbers():
    print("numbers", random.random(), np.random.random())

@settings(database=None, max_examples=5)
@given(st.integers(0, 10**9))
def test_examples(number):
    print("example", number)
"""


def run_tests(folder: Path, source: str, *options: str) -> str:
    """What pytest prints of a test file, with our conftest and nothing else of ours."""
    (folder / "test_it.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", folder, "-p", "conftest", "-s", "-v"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]), "OMP_NUM_THREADS": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    done = subprocess.run(
        [*map(str, command), *options, str(folder / "test_it.py")],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.stdout + done.stderr


def test_a_test_that_leaves_the_process_changed_fails(tmp_path: Path) -> None:
    told = run_tests(tmp_path, CARELESS, "-p", "no:randomly")
    assert re.search(r"6 passed, 5 errors in", told), told
    for name in ("S2C_LEFT_BEHIND", "folder", "default dtype", "gradients", "SIGTERM"):
        assert f"'{name}': (" in told, told


def test_one_seed_repeats_order_and_numbers(tmp_path: Path) -> None:
    first, again, other = (
        run_tests(tmp_path, DRAWING, "-p", "no:cacheprovider", f"--randomly-seed={seed}") for seed in (11, 11, 12)
    )
    assert "Using --randomly-seed=11" in first
    seen = [re.findall(r"(?:drawn|numbers|example) .*|::test_\w+", told) for told in (first, again, other)]
    assert len(seen[0]) >= 5 + 3 + 1 + 5, first
    assert seen[0] == seen[1]
    assert seen[0] != seen[2]
    # torch's numbers begin anew with every test.
    assert len({line for run in seen for line in run if line.startswith("drawn")}) == 1
