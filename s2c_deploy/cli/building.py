"""``build`` and ``engines``: TensorRT engines from a bundle, and looking after them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s2c_deploy.cli.bundles import bundle_to_write_with
from s2c_deploy.cli.options import (
    BundleArgument,
    CapabilityOption,
    JsonOption,
    ProfileOption,
    TargetsOption,
    comma_list,
)
from s2c_deploy.cli.output import say, say_json
from s2c_deploy.errors import DependencyError, EngineError, InputError

if TYPE_CHECKING:
    from s2c_deploy.bundle import Bundle
    from s2c_deploy.engine.building import Made
    from s2c_deploy.engine.store import EngineStore, Entry

engines = typer.Typer(no_args_is_help=True, help="List, verify and prune the engines of a bundle.")


def build(
    bundle: BundleArgument = None,
    targets: TargetsOption = "",
    compute_capability: CapabilityOption = "",
    profile: ProfileOption = None,
    graphs: Annotated[str, typer.Option(help="Only these graphs, with commas between.", show_default="all")] = "",
    precision: Annotated[str, typer.Option(help="Of g_a, h_a and g_s: float16 or float32.")] = "float16",
    memory_limit: Annotated[
        int | None, typer.Option(min=1, help="Workspace in MiB.", show_default="the library's")
    ] = None,
    hardware_compatibility: Annotated[
        str, typer.Option(help="none, or a level of the installed TensorRT: ampere_plus, same_compute_capability.")
    ] = "none",
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Engines that later TensorRT versions load, too.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Build again what is still good.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Build TensorRT engines of a bundle: FP16 for g_a, h_a and g_s, float32 for the exact graphs.

    s2c-deploy build engines/conv-small --targets tensorrt-rtx --compute-capability 8.6,8.9,12.0

    s2c-deploy build engines/conv-small --profile 64x64,768x512,2048x2048 --profile 3840x2176
    """
    from s2c_deploy.bundle import open_bundle
    from s2c_deploy.engine.builder import BuildOptions

    made = build_targets(
        open_bundle(bundle_to_write_with(bundle)),
        _targets(targets),
        compute_capabilities=comma_list(compute_capability),
        profiles=profile or [],
        graphs=comma_list(graphs),
        precision=precision,
        options=BuildOptions(
            memory_limit=memory_limit << 20 if memory_limit is not None else None,
            hardware_compatibility=hardware_compatibility.lower().replace("+", "_plus").replace("-", "_"),
            version_compatible=version_compatible,
        ),
        force=force,
    )
    if as_json:
        say_json([made_record(m) for m in made])
        return
    for line in made_lines(made):
        say(line)


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

    from s2c_deploy.engine import DEFAULT_PROFILE, Profile, load_library
    from s2c_deploy.engine.building import Step, build_bundle

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
    groups = dict.fromkeys(
        (m.identity.target, m.identity.library_version, m.identity.compute_capability) for m in made
    )
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


@engines.command("list")
def list_engines(bundle: BundleArgument = None, as_json: JsonOption = False) -> None:
    """Show the engines of a bundle; sizes are checked, bytes are not read.

    s2c-deploy engines list engines/conv-small
    """
    _, found = _checked(bundle, thorough=False)
    _print(found, as_json)


@engines.command("verify")
def verify_engines(bundle: BundleArgument = None, as_json: JsonOption = False) -> None:
    """Check every engine as it is checked before loading: this user's record, identity, size, SHA-256.

    s2c-deploy engines verify engines/conv-small
    """
    _, found = _checked(bundle, thorough=True)
    _print(found, as_json)
    bad = [entry for entry in found if entry.problem is not None]
    if bad:
        raise EngineError(
            f"{len(bad)} of {len(found)} engines cannot be used; the first: {bad[0].problem}",
            hint="s2c-deploy engines prune deletes them",
        )


@engines.command("prune")
def prune_engines(
    bundle: BundleArgument = None,
    foreign: Annotated[
        bool, typer.Option("--foreign", help="Also engines for other GPUs and of other users.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete engines that cannot be used: stale, truncated and tampered ones.

    s2c-deploy engines prune engines/conv-small --dry-run
    """
    store, _ = _checked(bundle, thorough=False)
    _print(store.prune(foreign=foreign, dry_run=dry_run), as_json)


def _checked(bundle: Path | None, *, thorough: bool) -> tuple[EngineStore, list[Entry]]:
    from s2c_deploy.bundle import open_bundle
    from s2c_deploy.engine import installed_targets, load_library
    from s2c_deploy.engine.host import this_host
    from s2c_deploy.engine.store import EngineStore

    versions = {}
    for target in installed_targets():
        # One that cannot be imported here says nothing about engines; build says what is wrong with it.
        with suppress(EngineError):
            versions[target] = load_library(target).version
    host = this_host()
    # Without a GPU engines for any are looked after, not loaded: built here for machines elsewhere.
    store = EngineStore(open_bundle(bundle_to_write_with(bundle)), versions=versions, host=host)
    return store, store.entries(thorough=thorough)


def _print(entries: Sequence[Entry], as_json: bool) -> None:
    records = []
    for entry in entries:
        identity = entry.identity
        records.append(
            {
                "path": str(entry.path),
                "state": entry.state,
                "problem": str(entry.problem) if entry.problem is not None else None,
                "graph": entry.path.parent.name,
                "target": entry.path.parent.parent.name,
                "compute_capability": identity.compute_capability if identity is not None else None,
                "library_version": identity.library_version if identity is not None else None,
                "precision": identity.precision if identity is not None else None,
                "profiles": list(identity.profiles) if identity is not None else None,
                "bytes": identity.size if identity is not None else None,
            }
        )
    if as_json:
        say_json(records)
        return
    for record in records:
        say(f"{record['state']:<10} {record['path']}")
        if record["problem"]:
            say(f"{'':<10} {record['problem']}")
    if not records:
        say("none")


def _targets(text: str) -> list[str]:
    from s2c_deploy.engine import TARGETS, installed_targets

    asked = comma_list(text)
    if unknown := [target for target in asked if target not in TARGETS]:
        raise InputError(f"--targets: expected {', '.join(TARGETS)}, found {', '.join(unknown)}")
    found = asked or installed_targets()
    if not found:
        raise DependencyError("neither tensorrt nor tensorrt_rtx", extra="rtx")
    return found
