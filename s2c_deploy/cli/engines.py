"""``engines``: looking after the TensorRT engines of a bundle."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2c_deploy.cli.options import BundleArgument, JsonOption, comma_list
from s2c_deploy.cli.output import say, say_json, say_script
from s2c_deploy.errors import EngineError
from s2c_deploy.formats.finding import bundle_to_write_with

if TYPE_CHECKING:
    from s2c_deploy.tensorrt.store import EngineStore, Entry

engines = typer.Typer(no_args_is_help=True, help="List, verify and prune the engines of a bundle.")


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
    foreign: Annotated[bool, typer.Option("--foreign", help="Also engines for other GPUs and of other users.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete engines that cannot be used: stale, truncated and tampered ones.

    s2c-deploy engines prune engines/conv-small --dry-run
    """
    store, _ = _checked(bundle, thorough=False)
    _print(store.prune(foreign=foreign, dry_run=dry_run), as_json)


@engines.command("trtexec")
def trtexec(
    bundle: BundleArgument = None,
    version: Annotated[str, typer.Option(help="Of TensorRT: 8.6, 10, 11; or rtx for TensorRT-RTX.")] = "10",
    profile: Annotated[str, typer.Option(help="Picture sizes MIN,OPT,MAX in pixels.")] = "64x64,768x512,2048x2048",
    graphs: Annotated[str, typer.Option(help="Only these graphs, with commas between.", show_default="all")] = "",
    precision: Annotated[str, typer.Option(help="Of g_a, h_a and g_s: float16 or float32.")] = "float16",
    out: Annotated[Path, typer.Option(help="Folder that the commands write engines to.")] = Path("trtexec"),
    as_json: JsonOption = False,
) -> None:
    """Print the trtexec commands that build each graph as `build` does, and time it. Nothing is run.

    s2c-deploy engines trtexec engines/conv-small --graphs g_s

    s2c-deploy engines trtexec engines/conv-small --version 11 > build-engines.sh
    """
    from s2c_deploy.formats.bundle import open_bundle
    from s2c_deploy.runtime.profiles import Profile
    from s2c_deploy.tensorrt.trtexec import commands

    made = commands(
        open_bundle(bundle_to_write_with(bundle)),
        out,
        version=version,
        precision=precision,
        profile=Profile.parse(profile),
        graphs=comma_list(graphs),
    )
    if as_json:
        records = [
            {"graph": c.graph, "precision": c.precision, "build": list(c.build), "time": list(c.time)} for c in made
        ]
        say_json(records)
        return
    say_script(f"mkdir -p {shlex.quote(str(out))}")
    for command in made:
        say_script(f"# {command.graph}, {command.precision}\n{command.text()}")


def _checked(bundle: Path | None, *, thorough: bool) -> tuple[EngineStore, list[Entry]]:
    from s2c_deploy.formats.bundle import open_bundle
    from s2c_deploy.host import this_host
    from s2c_deploy.tensorrt import installed_targets, load_library
    from s2c_deploy.tensorrt.store import EngineStore

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
