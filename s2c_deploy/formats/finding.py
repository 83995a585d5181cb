"""Which bundle a command means when it is not told."""

from __future__ import annotations

import os
from pathlib import Path

from s2c_deploy.errors import BitstreamError, InputError, S2CError
from s2c_deploy.files import status_of

ENGINES = Path("engines")
BUNDLE_VARIABLE = "S2C_BUNDLE"
_MANIFEST = "manifest.json"


def known_bundles() -> list[Path]:
    """Folders under ./engines with a manifest, by name; hidden ones are those of an export that was interrupted.

    What cannot be looked at is none: somebody else's folder need not stop the others.
    """
    try:
        names = sorted(os.listdir(ENGINES))
    except OSError:
        return []
    folders = [ENGINES / name for name in names if not name.startswith(".")]
    return [folder for folder in folders if os.path.isfile(folder / _MANIFEST)]


def bundle_to_write_with(given: Path | None) -> Path:
    """--bundle, else $S2C_BUNDLE, else the only bundle under ./engines."""
    if given is not None:
        return looked_at(given, "bundle")
    if os.environ.get(BUNDLE_VARIABLE):
        return looked_at(Path(os.environ[BUNDLE_VARIABLE]), f"${BUNDLE_VARIABLE}")
    bundles = known_bundles()
    if not bundles:
        raise InputError(f"no bundle under {ENGINES}/", hint="make one: s2c-deploy export --variant conv")
    if len(bundles) > 1:
        names = ", ".join(map(str, bundles))
        raise InputError(f"several bundles: {names}", hint=f"choose one with --bundle or ${BUNDLE_VARIABLE}")
    return bundles[0]


def looked_at(path: Path, name: str) -> Path:
    """The path as it is; InputError where the system will not even look for it."""
    try:
        status_of(path)
    except InputError as error:
        raise InputError(f"{name}: {error.message}", hint="name a bundle's folder") from error
    return path


class BundleFinder:
    """--bundle or $S2C_BUNDLE as they are; else the bundle under ./engines that a stream's fingerprint names.

    Each manifest is read once, however many streams there are.
    """

    def __init__(self, given: Path | None) -> None:
        self._given = given
        self._known: dict[Path, str] | None = None

    def find(self, fingerprint: bytes, model: str) -> Path:
        """The bundle's folder; fingerprint: 8 bytes, model: as the stream names it.

        InputError or BitstreamError, with the fingerprints that there are.
        """
        if self._given is not None or os.environ.get(BUNDLE_VARIABLE):
            return bundle_to_write_with(self._given)
        if self._known is None:
            self._known = {path: _fingerprint(path) for path in known_bundles()}
        for path, found in self._known.items():
            if found.startswith(fingerprint.hex()):
                return path
        known = ", ".join(f"{found[:16] or 'damaged'} ({path})" for path, found in self._known.items())
        raise BitstreamError(
            "fingerprint",
            expected=known or f"a bundle under {ENGINES}/",
            found=f"{fingerprint.hex()} ({model})",
            hint="decompress with the bundle that made the stream: --bundle",
        )


def _fingerprint(path: Path) -> str:
    """As the manifest says; empty where it cannot be read: somebody else's bundle, which no stream need suffer for."""
    from s2c_deploy.formats.manifest import read_manifest

    try:
        found = read_manifest(path)["fingerprint"]
    except (S2CError, OSError, KeyError, MemoryError):
        return ""
    return found if isinstance(found, str) else ""
