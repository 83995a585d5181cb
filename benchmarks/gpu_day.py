"""A run book for a day with a GPU: builds engines, proves them, measures them; nothing it finds is lost.

    python -m benchmarks.gpu_day --out DIR --images KODAK_DIR \\
        --tensorrt-python DEST/trt86/run.sh --torch-python python3.12 --onnxruntime-python python3.12
    python -m benchmarks.gpu_day --out DIR --dry-run                 # all of it on a CPU: a rehearsal, no result
    python -m benchmarks.gpu_day --out DIR --steps prepare           # before: what a machine without a CPU engine needs
    python -m benchmarks.gpu_day --out DIR --steps build,known-answers

Every step is a process of its own, in the Python that has what it needs, with a time limit of its own.  After each,
DIR/gpu_day.json holds all that is known so far; a step that fails, hangs or dies does not stop the next.  This file
needs the standard library alone; docs/gpu_day.md says what the steps do, and what each Python must have.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
#: Part of a host: what its Python has, and the backend that it runs; dry runs take STAND_IN for those of a GPU.
PARTS = {"cpu": "cpu", "tensorrt": "tensorrt", "onnxruntime": "onnxruntime-cuda", "torch": "torch"}
STAND_IN = "onnxruntime"
#: Less than this many seconds left of the whole list's: a step is not begun.
LEAST = 5.0


@dataclass(frozen=True, kw_only=True)
class Step:
    """One process.  name: as in --steps; what: its function in gpu_day_steps; part: whose Python; limit: seconds."""

    name: str
    what: str
    part: str
    limit: float


STEPS = (
    Step(name="environment-cpu", what="environment", part="cpu", limit=60),
    Step(name="environment-tensorrt", what="environment", part="tensorrt", limit=60),
    Step(name="environment-onnxruntime", what="environment", part="onnxruntime", limit=60),
    Step(name="environment-torch", what="environment", part="torch", limit=60),
    Step(name="native", what="native", part="tensorrt", limit=120),
    Step(name="prepare", what="prepare", part="cpu", limit=300),
    Step(name="build", what="build", part="tensorrt", limit=540),
    Step(name="known-answers", what="known_answers", part="tensorrt", limit=90),
    Step(name="gpu-decodes", what="decode_others", part="tensorrt", limit=90),
    Step(name="gpu-encodes", what="encode", part="tensorrt", limit=90),
    Step(name="cpu-decodes", what="decode_others", part="cpu", limit=120),
    Step(name="parity", what="parity", part="tensorrt", limit=90),
    Step(name="bench", what="bench", part="tensorrt", limit=120),
    Step(name="device", what="device", part="tensorrt", limit=60),
    Step(name="known-answers-onnxruntime", what="known_answers", part="onnxruntime", limit=90),
    Step(name="onnxruntime-decodes", what="decode_others", part="onnxruntime", limit=90),
    Step(name="parity-onnxruntime", what="parity", part="onnxruntime", limit=90),
    Step(name="bench-onnxruntime", what="bench", part="onnxruntime", limit=120),
    Step(name="bench-cpu", what="bench", part="cpu", limit=120),
    Step(name="eager-torch", what="eager", part="torch", limit=120),
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """out: where everything goes; pythons: part to command, empty for a part that is not there; budget: seconds of all
    steps together; options: passed to every step."""

    out: Path
    pythons: dict[str, list[str]]
    target: str
    dry_run: bool
    budget: float
    options: list[str]

    def backend(self, part: str) -> str:
        real = self.target if part == "tensorrt" else PARTS[part]
        return STAND_IN if self.dry_run and part in ("tensorrt", "onnxruntime") else real


def run_steps(plan: Plan, steps: Sequence[Step]) -> dict[str, Any]:
    """Runs steps one after another; the results so far are in gpu_day.json after each.

    Results of steps that ran earlier into the same folder stay, those of steps that run again are replaced.
    """
    file = plan.out / "gpu_day.json"
    plan.out.mkdir(parents=True, exist_ok=True)
    known = json.loads(file.read_text()) if file.is_file() else {}
    if known and known.get("dry_run") != plan.dry_run:
        raise SystemExit(f"{file}: dry runs and real ones do not mix: name another --out")
    results = {
        "dry_run": plan.dry_run,
        **({"note": f"rehearsal on a CPU: {STAND_IN} stands in for every GPU backend"} if plan.dry_run else {}),
        "host": {"system": platform.platform(), "processor": _processor(), "processors": os.cpu_count()},
        "steps": known.get("steps", {}),
    }
    started = time.monotonic()
    for step in steps:
        left = plan.budget - (time.monotonic() - started)
        print(f"{step.name:<26}", end="", flush=True)
        found = _run_step(plan, step, min(step.limit, left))
        results["steps"][step.name] = found
        _write(file, results)
        print(f"{found['status']:<8} {found.get('seconds', 0):7.1f} s  {found.get('error') or ''}"[:200].rstrip())
    return results


def _run_step(plan: Plan, step: Step, limit: float) -> dict[str, Any]:
    """One step as a process; what it wrote counts even if it was killed half-way."""
    python = plan.pythons[step.part]
    found: dict[str, Any] = {**asdict(step), "date": _now(), "status": "skipped", "backend": plan.backend(step.part)}
    if plan.dry_run and found["backend"] == STAND_IN:
        found["stands_in_for"] = plan.target if step.part == "tensorrt" else PARTS[step.part]
    if not python:
        return {**found, "error": f"no --{step.part}-python"}
    if limit < LEAST:
        return {**found, "error": "no time left: raise --budget, or name it in --steps later"}
    record, log = (plan.out / folder / f"{step.name}.{end}" for folder, end in (("steps", "json"), ("logs", "log")))
    for file in (record, log):
        file.parent.mkdir(exist_ok=True)
        file.unlink(missing_ok=True)
    command = [*python, "-m", "benchmarks.gpu_day_steps", step.what, "--record", str(record)]
    command += ["--backend", found["backend"], "--part", step.part, *plan.options]
    started = time.monotonic()
    code = _process(command, log, limit, plan.out / "work" / "state")
    found |= {"python": shlex.join(python), "limit": limit, "seconds": round(time.monotonic() - started, 2)}
    result = _read(record)
    failures = result.pop("failures", [])
    found |= {"result": result, "failures": failures}
    if code is None:
        found |= {"status": "timeout", "error": f"stopped after {limit:.0f} s"}
    elif failures:
        found |= {"status": "failed", "error": failures[0]}
    elif code or not result:
        found |= {"status": "crashed", "error": f"exit code {code}: {_last_line(log)}"}
    else:
        found["status"] = result.pop("status", "ok")
    return found


def _process(command: list[str], log: Path, limit: float, state: Path) -> int | None:
    """The exit code, or None after the time limit; then the process and its children are gone."""
    environment = {"S2C_STATE": str(state), **os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                command, cwd=ROOT, stdout=output, stderr=output, env=environment, start_new_session=True
            )
        except OSError as error:
            output.write(str(error).encode())
            return 127
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            # Its own session: whatever the step has started goes with it, on Ctrl-C, too.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _read(record: Path) -> dict[str, Any]:
    try:
        found = json.loads(record.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


def _write(file: Path, results: dict[str, Any]) -> None:
    temporary = file.with_suffix(".part")
    temporary.write_text(json.dumps(results, indent=1) + "\n")
    os.replace(temporary, file)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def chosen_steps(names: str) -> list[Step]:
    """Of a list with commas between, in the book's order; all of an empty one."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if unknown := set(wanted) - {step.name for step in STEPS}:
        known = ", ".join(step.name for step in STEPS)
        raise SystemExit(f"--steps: expected some of {known}; found {', '.join(sorted(unknown))}")
    return [step for step in STEPS if not wanted or step.name in wanted]


def parsed(arguments: Sequence[str] | None = None) -> tuple[Plan, list[Step]]:
    """The plan and the steps that a command line asks for."""
    parser = argparse.ArgumentParser(description="Build, prove and measure engines on a host with a GPU.")
    parser.add_argument("--out", type=Path, required=True, help="folder for results, logs and exchanged files")
    parser.add_argument("--dry-run", action="store_true", help="rehearse everything on a CPU")
    parser.add_argument("--steps", default="", help="only these, with commas between")
    parser.add_argument("--budget", type=float, default=570, help="seconds of all steps together")
    parser.add_argument("--bundle", type=Path, default=Path("engines/conv-small"))
    parser.add_argument("--weights", type=Path, default=Path("export/conv"), help="of the bundle, for PyTorch")
    parser.add_argument("--images", type=Path, default=Path("export/photographs"), help="pictures, or their .npy")
    parser.add_argument("--pictures", type=int, default=4, help="at most so many of them")
    parser.add_argument("--side", type=int, default=4096, help="pictures are cut to this side")
    parser.add_argument("--qualities", default="1,4,8")
    parser.add_argument("--profile", default="64x64,768x512,1024x1024")
    parser.add_argument("--seconds", type=float, default=3.0, help="of measuring, a picture")
    parser.add_argument("--target", default="tensorrt", choices=["tensorrt", "tensorrt-rtx"])
    for part in PARTS:
        parser.add_argument(f"--{part}-python", default=None, help="command; none: this part is not there")
    given = parser.parse_args(arguments)
    # What runs this file runs the CPU's part; in a rehearsal, everything.
    pythons = {part: shlex.split(getattr(given, f"{part}_python") or "") for part in PARTS}
    for part in PARTS if given.dry_run else ("cpu",):
        pythons[part] = pythons[part] or [sys.executable]
    options = ["--work", str((given.out / "work").absolute()), *(["--dry-run"] if given.dry_run else [])]
    for name in ("bundle", "weights", "images"):
        options += [f"--{name}", str(getattr(given, name).absolute())]
    for name in ("pictures", "side", "qualities", "profile", "seconds", "target"):
        options += [f"--{name}", str(getattr(given, name))]
    plan = Plan(
        out=given.out.absolute(),
        pythons=pythons,
        target=given.target,
        dry_run=given.dry_run,
        budget=given.budget,
        options=options,
    )
    return plan, chosen_steps(given.steps)


def main() -> None:
    plan, steps = parsed()
    results = run_steps(plan, steps)
    bad = [name for name, found in results["steps"].items() if found["status"] not in ("ok", "skipped")]
    print(f"{plan.out / 'gpu_day.json'}: {len(results['steps'])} steps, {len(bad)} not well" + ": " * bool(bad), end="")
    print(", ".join(bad))
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
