"""The run book for a host with a GPU, rehearsed on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pil
from processes import environment

ROOT = Path(__file__).resolve().parents[2]


def gpu_day(out: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.gpu_day", "--out", str(out), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    Pil.fromarray(np.full((64, 128, 3), 90, np.uint8)).save(tmp_path / "pictures" / "a.png")
    return tmp_path / "pictures"


def test_a_rehearsal(bundle_path: Path, pictures: Path, tmp_path: Path) -> None:
    """Every step runs; what a step says is beside what became of it; one that fails does not stop the next."""
    out = tmp_path / "out"
    some = ("--steps", "doctor,engines,verify,bench")
    done = gpu_day(out, "--dry-run", "--bundle", bundle_path, "--images", pictures, *some)
    steps = json.loads((out / "gpu_day.json").read_text())["steps"]
    assert {name: step["status"] for name, step in steps.items()} == dict.fromkeys(
        ("doctor", "engines", "verify", "bench"), "ok"
    ), done.stdout
    assert json.loads((out / "verify.out").read_text())["agrees"] is True
    assert json.loads((out / "bench-result.json").read_text())["rows"]
    assert "native coder" in json.loads((out / "doctor.out").read_text())
    assert (out / "bench.html").is_file()
    # A GPU's backend where there is none: said, and the next step runs.
    failed = gpu_day(out / "real", "--bundle", bundle_path, "--images", pictures, "--steps", "verify,doctor")
    assert failed.returncode == 1
    steps = json.loads((out / "real" / "gpu_day.json").read_text())["steps"]
    assert (steps["doctor"]["status"], steps["verify"]["status"]) == ("ok", "failed")
    assert steps["verify"]["said"].startswith("error: ")
    assert "do not mix" in gpu_day(out, "--bundle", bundle_path).stderr


def test_a_step_that_hangs_is_stopped(tmp_path: Path) -> None:
    from benchmarks.gpu_day import Step, run_step

    sleeping = [sys.executable, "-c", "import sys, time; print('begun', flush=True); time.sleep(60)"]
    found = run_step(Step(name="doctor", arguments=(), limit=3), sleeping, tmp_path)
    assert (found["status"], found["exit_code"]) == ("stopped", None)
    assert (tmp_path / "doctor.out").read_text() == "begun\n"


def test_unknown_steps_are_refused(tmp_path: Path) -> None:
    assert "expected doctor, build, engines, verify, bench" in gpu_day(tmp_path, "--steps", "tea").stderr
