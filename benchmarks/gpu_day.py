"""A day with a GPU: engines built, proven and measured by the product's own commands; nothing found is lost.

    python -m benchmarks.gpu_day --out DIR --bundle engines/conv-small --images KODAK_DIR
    python -m benchmarks.gpu_day --out DIR --python DEST/trt86/run.sh --steps build,verify
    python -m benchmarks.gpu_day --out DIR --dry-run        # on a CPU: a rehearsal, no result

Every step is a command of s2c-deploy in a process of its own, with a time limit of its own.  What it prints is in
DIR/STEP.out and DIR/STEP.err, and DIR/gpu_day.json says after each step what became of it; one that fails, hangs or
dies does not stop the next.  This file needs the standard library alone; the Python that runs the commands (--python)
needs numpy, Pillow, typer, and the GPU's library (docs/gpu_day.md).
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COMMAND = ("-m", "s2c_deploy.cli.main")
#: Takes the place of the GPU's backend in a rehearsal.
STAND_IN = "onnxruntime"


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command of s2c-deploy and the seconds that it may take."""

    name: str
    arguments: tuple[str, ...]
    limit: float


def steps_of(options: argparse.Namespace) -> list[Step]:
    """What there is to do, in its order: what is installed, engines, proof and cross decoding, latency."""
    bundle, out = str(options.bundle), options.out
    target = STAND_IN if options.dry_run else options.target
    images = ("--images", str(options.images)) if options.images is not None else ()
    build: tuple[str, ...] = ("--targets", options.target)
    if options.dry_run:
        build = ("--targets", "tensorrt-rtx", "--graphs", "h_a", "--compute-capability", "8.6")
    least = ("--min-seconds", "0", "--min-count", "2", "--rounds", "1") if options.dry_run else ()
    reports = ("--json", str(out / "bench-result.json"), "--html", str(out / "bench.html"), "--force")
    others = [name for name in options.beside.split(",") if name and name != target]
    together = ",".join([target, *others])
    return [
        Step(name="doctor", arguments=("doctor", "--json"), limit=60),
        Step(name="build", arguments=("build", bundle, *build, "--profile", options.profile, "--json"), limit=540),
        Step(name="engines", arguments=("engines", "verify", bundle, "--json"), limit=60),
        Step(name="verify", arguments=("verify", bundle, "--backends", together, *images, "--json"), limit=240),
        Step(
            name="bench",
            arguments=("bench", "--bundle", bundle, "--backends", together, *images, *least, *reports, "--wide"),
            limit=300,
        ),
    ]


def run_step(step: Step, python: Sequence[str], out: Path) -> dict[str, Any]:
    """One command to its end, or to its limit; what it has printed until then is kept."""
    command = [*python, *COMMAND, *step.arguments]
    started, code = time.monotonic(), None
    with (out / f"{step.name}.out").open("wb") as output, (out / f"{step.name}.err").open("wb") as errors:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
        try:
            code = process.wait(step.limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    status = "stopped" if code is None else "ok" if code == 0 else "failed"
    said = (out / f"{step.name}.err").read_text(errors="replace").strip().splitlines()
    return {
        **asdict(step),
        "command": shlex.join(command),
        "status": status,
        "exit_code": code,
        "seconds": round(time.monotonic() - started, 1),
        "said": said[-1] if said and status != "ok" else None,
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_day", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--bundle", type=Path, default=Path("engines/conv-small"))
    parser.add_argument("--images", type=Path, help="folder of pictures; by default export/photographs")
    parser.add_argument("--target", default="tensorrt", help="tensorrt or tensorrt-rtx")
    parser.add_argument("--beside", default="onnxruntime", help="backends that it is held against, with commas between")
    parser.add_argument("--profile", default="64x64,768x512,2048x2048")
    parser.add_argument("--python", default=sys.executable, help="command of the Python that runs the steps")
    parser.add_argument("--steps", default="", help="only these, with commas between")
    parser.add_argument("--dry-run", action="store_true", help=f"{STAND_IN} stands in for the GPU's backend")
    options = parser.parse_args()
    for name in ("out", "bundle", "images"):  # the commands run in the checkout's folder
        if (path := getattr(options, name)) is not None:
            setattr(options, name, path.resolve())
    return options


def main() -> None:
    """Exit code 1 where a step is not well."""
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    steps = steps_of(options)
    wanted = set(filter(None, options.steps.split(","))) or {step.name for step in steps}
    if unknown := wanted - {step.name for step in steps}:
        raise SystemExit(f"--steps: expected {', '.join(step.name for step in steps)}, found {', '.join(unknown)}")
    file = options.out / "gpu_day.json"
    known = json.loads(file.read_text()) if file.is_file() else {"dry_run": options.dry_run, "steps": {}}
    if known["dry_run"] != options.dry_run:
        raise SystemExit(f"{file}: rehearsals and real runs do not mix: name another --out")
    for step in steps:
        if step.name in wanted:
            print(f"{step.name:<10}", end="", flush=True)
            found = known["steps"][step.name] = run_step(step, shlex.split(options.python), options.out)
            file.write_text(json.dumps(known, indent=1) + "\n")
            print(f"{found['status']:<8}{found['seconds']:7.1f} s  {found['said'] or ''}".rstrip())
    sys.exit(any(known["steps"][name]["status"] != "ok" for name in wanted))


if __name__ == "__main__":
    main()
