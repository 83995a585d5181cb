"""Whether an engine fits: built from this bundle, by the library that is installed, for this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from s2c_deploy.errors import ForeignEngineError, StaleEngineError
from s2c_deploy.formats.bundle import Bundle
from s2c_deploy.host import Host
from s2c_deploy.tensorrt.identity import Identity

REBUILD = "build it again: s2c-deploy build"


def check_current(path: Path, found: Identity, bundle: Bundle, versions: Mapping[str, str]) -> None:
    """StaleEngineError where it was built from something else than the bundle, or by another version of its library.

    versions: target to the version of its library, as far as they are known.
    """
    checks = [("bundle fingerprint", bundle.fingerprint.hex(), found.fingerprint)]
    if found.graph in bundle.manifest["graphs"]:
        if found.precision == "float16" and "float16" not in bundle.manifest:
            raise StaleEngineError(f"{path}: expected float32, as the bundle has it, found FP16", hint=REBUILD)
        file = bundle.graph(found.graph, found.precision).name
        checks.append((f"SHA-256 of {file}", bundle.manifest["files"][file]["sha256"], found.graph_sha256))
    else:
        checks.append(("graph", "one of the bundle's", found.graph))
    if found.target in versions:
        installed, built = versions[found.target], found.library_version
        if "VERSION_COMPATIBLE" in found.flags:
            installed, built = (version.split(".")[0] for version in (installed, built))
        checks.append((f"{found.target} version", installed, built))
    for what, expected, value in checks:
        if expected != value:
            raise StaleEngineError(f"{path}: {what}: expected {expected}, found {value}", hint=REBUILD)


def check_host(path: Path, found: Identity, host: Host) -> None:
    """ForeignEngineError where it was built for another system or GPU."""
    if found.os != host.os:
        raise ForeignEngineError(f"{path}: expected an engine for {host.os}, found {found.os}", hint=REBUILD)
    if host.compute_capability is not None and not _runs_on(found, host):
        raise ForeignEngineError(
            f"{path}: expected an engine for {host.gpu} (compute capability {host.compute_capability}), "
            f"found one for {found.gpu or 'any GPU'} of {found.compute_capability}",
            hint=REBUILD,
        )


def _runs_on(found: Identity, host: Host) -> bool:
    mine, built = (tuple(map(int, str(cc).split("."))) for cc in (host.compute_capability, found.compute_capability))
    if found.hardware_compatibility == "ampere_plus":
        return mine >= (8, 0)
    if found.hardware_compatibility == "same_compute_capability" or found.gpu is None:
        return mine == built
    return mine == built and host.gpu == found.gpu
