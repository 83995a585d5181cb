"""Engines as ``build`` and ``export`` make them and tell of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s2c_deploy.formats.bundle import Bundle
    from s2c_deploy.tensorrt.build import Made


def build_targets(
    bundle: Bundle,
    targets: Sequence[str],
    *,
    compute_capabilities: Sequence[str],
    profiles: Sequence[str],
    graphs: Sequence[str] = (),
    precision: str = "float16",
    options: Any = None,
    force: bool = False,
) -> list[Made]:
    """Builds for every target with a progress bar on stderr; all libraries are loaded before anything is built."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from s2c_deploy.tensorrt import DEFAULT_PROFILE, Profile, load_library
    from s2c_deploy.tensorrt.build import Step, build_bundle

    libraries = [load_library(target) for target in targets]
    sizes = [Profile.parse(text) for text in profiles] or [DEFAULT_PROFILE]
    made = []
    fields = ("description", "fields[phase]")
    step_text, phase_text = (TextColumn(f"{{task.{field}}}", markup=False) for field in fields)
    columns = (step_text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), phase_text)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        for library in libraries:
            task = bar.add_task(library.target, total=None, phase="")

            def show(step: Step, task: Any = task, target: str = library.target) -> None:
                bar.update(
                    task,
                    description=f"{target} {step.compute_capability} {step.graph}",
                    completed=step.number - 1,
                    total=step.total,
                    phase=f"{step.phase} {step.seconds:.0f} s" if step.phase else "",
                )

            made += list(
                build_bundle(
                    bundle,
                    library,
                    compute_capabilities=compute_capabilities if library.compute_capabilities else (),
                    profiles=sizes,
                    graphs=graphs,
                    precision=precision,
                    options=options,
                    force=force,
                    progress=show,
                )
            )
    return made


def made_record(made: Made) -> dict[str, Any]:
    """One built engine for --json."""
    identity = made.identity
    return {
        "path": str(made.path),
        "target": identity.target,
        "graph": identity.graph,
        "compute_capability": identity.compute_capability,
        "precision": identity.precision,
        "profiles": list(identity.profiles),
        "bytes": identity.size,
        "sha256": identity.sha256,
        "seconds": round(made.seconds, 3),
        "built": made.seconds > 0,
        "checked": made.checked,
    }


def made_lines(made: Sequence[Made]) -> list[str]:
    """Engines by target and GPU, summed; a line each, then where they are."""
    groups = dict.fromkeys((m.identity.target, m.identity.library_version, m.identity.compute_capability) for m in made)
    lines = []
    for target, version, capability in groups:
        rows = [m for m in made if (m.identity.target, m.identity.compute_capability) == (target, capability)]
        halves = sum(m.identity.precision == "float16" for m in rows)
        size, seconds = sum(m.identity.size for m in rows), sum(m.seconds for m in rows)
        there = sum(m.seconds == 0 for m in rows)
        unasked = dict.fromkeys(m.checked.removeprefix("no: ") for m in rows if m.checked.startswith("no: "))
        lines.append(
            f"{target} {version}, compute capability {capability}: {len(rows)} engines, {halves} in FP16, "
            f"{size / 1e6:.1f} MB, built in {seconds:.1f} s"
            + (f", {there} were there" if there else "")
            + (f"; not asked their known answers: {', '.join(unasked)}" if unasked else "")
        )
    return [*lines, f"in {made[0].path.parent.parent.parent}"] if made else lines
