"""The run book for a GPU host: rehearsed whole on a CPU, and what becomes of steps that fail, hang or die."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import gpu_day
from benchmarks.gpu_day import STEPS, Plan, Step, chosen_steps, parsed, run_steps
from benchmarks.gpu_day_exchange import load_coded, save_coded
from s2c_deploy.codec import Pixels
from s2c_deploy.verify import Coded


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory, bundle_path: Path, small_photograph: Pixels) -> Path:
    """The folder of a dry run over every step, on a small picture."""
    folder = tmp_path_factory.mktemp("gpu_day")
    (folder / "images").mkdir()
    np.save(folder / "images" / "small.npy", small_photograph[:64, :128])
    command = [sys.executable, "-m", "benchmarks.gpu_day", "--dry-run", "--out", folder / "out"]
    command += ["--bundle", bundle_path, "--images", folder / "images", "--profile", "64x64,128x64,192x128"]
    command += ["--qualities", "5", "--seconds", "0"]
    before = {path: path.stat().st_mtime_ns for path in bundle_path.rglob("*")}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, cwd=gpu_day.ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path: path.stat().st_mtime_ns for path in bundle_path.rglob("*")} == before, "the bundle is left alone"
    return folder / "out"


def test_every_step_is_rehearsed(rehearsal: Path) -> None:
    found = json.loads((rehearsal / "gpu_day.json").read_text())
    assert found["dry_run"] is True
    assert "rehearsal on a CPU" in found["note"]
    assert list(found["steps"]) == [step.name for step in STEPS]
    steps = found["steps"]
    others = {name: step["status"] for name, step in steps.items() if step["status"] != "ok"}
    assert others in ({}, {"build": "skipped"}), "the latter where tensorrt-rtx is not installed"
    for step in steps.values():
        stands_in = step["part"] in ("tensorrt", "onnxruntime")
        assert (step["backend"] == "onnxruntime") == ("stands_in_for" in step) == stands_in
        assert 0 < step["seconds"] <= step["limit"]
        assert (rehearsal / "logs" / f"{step['name']}.log").is_file()


def test_what_a_rehearsal_finds(rehearsal: Path) -> None:
    steps = json.loads((rehearsal / "gpu_day.json").read_text())["steps"]
    result = {name: step["result"] for name, step in steps.items()}
    assert result["environment-cpu"]["versions"]["numpy"] == np.__version__
    assert len(result["known-answers"]["graphs"]) == 14
    for name in ("gpu-decodes", "cpu-decodes"):
        (decoded,) = result[name]["decoded"]
        assert decoded["outputs"] > 1000
        assert decoded["differing_outputs"] == decoded["differing_symbols"] == decoded["failed"] == 0
    assert result["cpu-decodes"]["decoded"][0]["encoder"] == "coded-gpu"
    assert result["parity"]["pictures"][0]["agreement"] >= 55
    (row,) = result["bench"]["rows"]
    assert row["n"] == len(row["samples_ms"]) >= 5
    assert row["ms"]["p50"] <= row["ms"]["p90"] <= row["ms"]["p99"]
    assert sum(row["stages_ms"].values()) == pytest.approx(row["ms"]["p50"], rel=0.5)
    assert len(result["device"]["graphs"]) == 14
    assert all(graph["clock"].startswith("wall") and graph["ms_p50"] > 0 for graph in result["device"]["graphs"])
    assert result["eager-torch"]["rows"][0]["precision"] == "float32"


def test_a_picture_that_decodes_wrongly_is_found(rehearsal: Path, tmp_path: Path) -> None:
    """One symbol of what the GPU is said to have coded is changed: the CPU's step must fail, and name it."""
    folder = Path(shutil.copytree(rehearsal, tmp_path / "copy"))
    (file,) = (folder / "work" / "coded-gpu").glob("*.npz")
    coded = load_coded(file)
    coded.symbols[3][0, 0, 0, 0] += 1
    save_coded(file, coded)
    plan, steps = parsed(["--dry-run", "--out", str(folder), "--steps", "cpu-decodes", "--qualities", "5"])
    found = run_steps(plan, steps)["steps"]["cpu-decodes"]
    assert found["status"] == "failed"
    assert "coded-gpu on" in found["error"]
    assert "1 symbols differ" in found["error"]


def test_coded_pictures_survive_being_stored(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shape = (1, 2, 4, 3)
    coded = Coded(
        payload=rng.bytes(100),
        quality=4.5,
        z_symbols=rng.integers(-9, 9, shape).astype(np.int16),
        symbols=[rng.integers(-9, 9, shape).astype(np.int16) for _ in range(11)],
        indexes=[rng.integers(0, 64, shape).astype(np.uint8) for _ in range(11)],
        means=[rng.integers(-9, 9, shape).astype(np.float32) for _ in range(11)],
    )
    save_coded(tmp_path / "a.npz", coded)
    found = load_coded(tmp_path / "a.npz")
    assert (found.payload, found.quality) == (coded.payload, coded.quality)
    np.testing.assert_array_equal(found.z_symbols, coded.z_symbols)
    for name in ("symbols", "indexes", "means"):
        for a, b in zip(getattr(found, name), getattr(coded, name), strict=True):
            np.testing.assert_array_equal(a, b)


# steps that go wrong: a Python that behaves as the test says


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    pythons: dict[str, list[str]] = {"cpu": [], "tensorrt": [], "onnxruntime": [], "torch": []}
    return Plan(out=tmp_path / "out", pythons=pythons, target="tensorrt", dry_run=False, budget=100, options=[])


def behaving(plan: Plan, folder: Path, code: str, **changes: Any) -> Plan:
    """The plan with an interpreter for the CPU's part that runs this code instead of a step; ``record`` is its file."""
    script = folder / "python.py"
    script.write_text(f"import os, sys, time\nrecord = sys.argv[sys.argv.index('--record') + 1]\n{code}\n")
    return replace(plan, pythons=plan.pythons | {"cpu": [sys.executable, "-I", "-S", str(script)]}, **changes)


def step(name: str, limit: float = 60) -> Step:
    return Step(name=name, what=name, part="cpu", limit=limit)


def test_a_failing_step_does_not_stop_the_next(plan: Plan, tmp_path: Path) -> None:
    code = """
name = sys.argv[3]
if name == "dies": os.abort()
if name == "silent": sys.exit(0)
open(record, "w").write('{"failures": ["2 symbols differ"], "rows": [1]}' if name == "fails" else '{"rows": [2]}')
if name == "raises": raise ValueError("half-way")
sys.exit(name == "fails")
"""
    names = ("dies", "silent", "fails", "raises", "works")
    found = run_steps(behaving(plan, tmp_path, code), [step(name) for name in names])["steps"]
    assert {name: found[name]["status"] for name in names} == {
        "dies": "crashed",
        "silent": "crashed",
        "fails": "failed",
        "raises": "crashed",
        "works": "ok",
    }
    assert found["fails"]["error"] == "2 symbols differ"
    assert "ValueError: half-way" in found["raises"]["error"]
    assert found["raises"]["result"] == {"rows": [2]}, "what it had found counts"
    assert json.loads((plan.out / "gpu_day.json").read_text())["steps"] == found


def test_a_step_that_hangs_is_stopped_with_its_children(plan: Plan, tmp_path: Path) -> None:
    code = """
import subprocess
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"])
open(record, "w").write('{"child": %d}' % child.pid)
time.sleep(300)
"""
    plan = behaving(plan, tmp_path, code)
    found = run_steps(plan, [step("hangs", limit=8)])["steps"]["hangs"]
    assert found["status"] == "timeout"
    assert found["error"] == "stopped after 8 s"
    deadline = time.monotonic() + 30
    while _lives(found["result"]["child"]):
        assert time.monotonic() < deadline, "the child has outlived its step"
        time.sleep(0.05)


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_no_step_is_begun_without_time_or_python(plan: Plan, tmp_path: Path) -> None:
    late = behaving(plan, tmp_path, "open(record, 'w').write('{}')", budget=1)
    found = run_steps(late, [step("late")])["steps"]["late"]
    assert (found["status"], found["error"]) == ("skipped", "no time left: raise --budget, or name it in --steps later")
    found = run_steps(plan, [step("absent")])["steps"]["absent"]
    assert (found["status"], found["error"]) == ("skipped", "no --cpu-python")
    nowhere = replace(plan, pythons={"cpu": [str(tmp_path / "nowhere")]})
    found = run_steps(nowhere, [step("lost")])["steps"]["lost"]
    assert found["status"] == "crashed"
    assert "nowhere" in found["error"]


def test_runs_add_up_in_one_folder_but_dry_ones_stay_apart(plan: Plan, tmp_path: Path) -> None:
    plan = behaving(plan, tmp_path, "open(record, 'w').write('{\"x\": 1}')")
    run_steps(plan, [step("first")])
    assert list(run_steps(plan, [step("second")])["steps"]) == ["first", "second"]
    with pytest.raises(SystemExit, match="dry runs and real ones do not mix"):
        run_steps(replace(plan, dry_run=True), [])


def test_the_command_line() -> None:
    assert chosen_steps("") == list(STEPS)
    assert [s.name for s in chosen_steps("bench, build")] == ["build", "bench"], "in the book's order"
    with pytest.raises(SystemExit, match=r"expected some of environment-cpu, .*; found dance"):
        chosen_steps("build,dance")
    plan, _ = parsed(["--out", "x", "--tensorrt-python", "a/run.sh -I", "--torch-python", "python3.12"])
    assert plan.pythons["tensorrt"] == ["a/run.sh", "-I"]
    assert plan.pythons["cpu"] == [sys.executable]
    assert plan.pythons["onnxruntime"] == []
    assert plan.backend("tensorrt") == "tensorrt"
    assert plan.backend("onnxruntime") == "onnxruntime-cuda"


def test_the_book_needs_the_standard_library_alone() -> None:
    """The Pythons of a GPU host have little; the TensorRT one has numpy, TensorRT and cuda-python."""
    code = "import sys, benchmarks.gpu_day; print([m for m in ('numpy', 's2c_deploy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=gpu_day.ROOT, check=True)
    assert done.stdout.strip() == "[]"
    code = """
import sys
for name in ("PIL", "typer", "rich", "torch", "onnx", "onnxruntime", "openvino"): sys.modules[name] = None
import benchmarks.gpu_day_steps, s2c_deploy.engine.building, s2c_deploy.runtime.tensorrt_runner
"""
    subprocess.run([sys.executable, "-c", code], cwd=gpu_day.ROOT, check=True)
