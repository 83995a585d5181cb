"""``doctor``: what is installed and what can run here."""

from __future__ import annotations

from typing import Any

from s2c_deploy.cli.options import JsonOption
from s2c_deploy.cli.output import say, show_record


def doctor(as_json: JsonOption = False) -> None:
    """What is installed, which engines can run here, and what to install for the rest.

    s2c-deploy doctor
    """
    import os
    import platform

    from s2c_deploy import __version__
    from s2c_deploy.entropy.native import library
    from s2c_deploy.errors import S2CError
    from s2c_deploy.formats.finding import known_bundles
    from s2c_deploy.runtime import BACKENDS, backend_status, choose_backend

    try:
        library()
        coder = "ok"
    except S2CError as error:
        coder = str(error)
    try:
        chosen = choose_backend("auto")
    except S2CError as error:
        chosen = f"none: {error}"
    record: dict[str, Any] = {
        "s2c-deploy": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "native coder": coder,
        "backend auto": chosen,
        "backends": {
            name: {"version": status.version, "usable": status.usable, "advice": status.advice}
            for name, status in ((name, backend_status(name)) for name in BACKENDS)
        },
        "engine builders": _engine_builders(),
        "bundle": _bundle_record(),
        "bundles": [str(found.path) for found in known_bundles()],
    }
    if as_json:
        show_record(record, True)
    else:
        _report(record)


def _report(record: dict[str, Any]) -> None:
    for name in ("s2c-deploy", "python", "machine", "native coder", "backend auto"):
        say(f"{name:<14} {record[name]}")
    for name, status in record["backends"].items():
        state = "can run" if status["usable"] else "cannot run"
        say(f"  {name:<20} {status['version'] or 'not installed':<14} {state:<11} {status['advice']}".rstrip())
    for name, version in record["engine builders"].items():
        extra = name.replace("tensorrt-", "")
        say(f"  {name:<20} {version or 'not installed':<14} builds engines" + _advice(version, extra))
    say(f"{'bundle':<14} {_bundle_line(record['bundle'])}")
    for path in record["bundles"]:
        if path != record["bundle"]["path"]:
            say(f"  not taken: {path}")


def _bundle_record() -> dict[str, Any]:
    """The bundle that commands take when none is named, and where it was found; or why there is none."""
    from s2c_deploy.errors import S2CError
    from s2c_deploy.formats.finding import choose_bundle
    from s2c_deploy.formats.manifest import read_manifest

    try:
        found = choose_bundle(None)
    except S2CError as error:
        return {"path": None, "found in": None, "problem": str(error)}
    record: dict[str, Any] = {"path": str(found.path), "found in": found.place, "problem": None}
    try:
        read_manifest(found.path)
    except S2CError as error:
        record["problem"] = str(error)
    return record


def _bundle_line(record: dict[str, Any]) -> str:
    if record["path"] is None:
        return f"none: {record['problem']}"
    problem = f": {record['problem']}" if record["problem"] else ""
    return f"{record['path']} (found in {record['found in']}){problem}"


def _engine_builders() -> dict[str, str | None]:
    """Target: version of the installed library, not imported; None where there is none."""
    from s2c_deploy.tensorrt.library import TARGETS, installed_version

    return {target: installed_version(target) for target in TARGETS}


def _advice(version: str | None, extra: str) -> str:
    return "" if version else f": pip install 's2c-deploy[{extra}]'"
