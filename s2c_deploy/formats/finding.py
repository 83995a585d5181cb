"""Which bundle a command means when it is not told: the first that is found, in the order of ``places``."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from s2c_deploy.errors import BitstreamError, InputError, S2CError
from s2c_deploy.files import status_of

ENGINES = Path("engines")
BUNDLE_VARIABLE = "S2C_BUNDLE"
#: Bundles in the package, and a folder of photographs to try them with: only a built wheel has them.
PACKAGED = Path(__file__).parent.parent / "bundles"
_MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Found:
    """A bundle's folder."""

    path: Path
    #: Where it was looked for, in words.
    place: str


def data_folder() -> Path | None:
    """Where this user's own bundles are, for every folder to work in; it need not exist.  None for a user without a
    home.  A relative path in XDG_DATA_HOME is ignored, as its specification says."""
    base = Path(os.environ.get("XDG_DATA_HOME", ""))
    if not base.is_absolute():
        below = "Library/Application Support" if sys.platform == "darwin" else ".local/share"
        try:
            base = Path.home() / below
        except RuntimeError:  # neither $HOME nor a name for this user id
            return None
    return base / "s2c-deploy" / "bundles"


def places() -> dict[str, Path]:
    """Folders with a folder a bundle, in the order in which they are looked into, by what they are called."""
    own = data_folder()
    return {
        f"./{ENGINES}": ENGINES,
        **({} if own is None else {"the user's data folder": own}),
        "the wheel": PACKAGED,
    }


def known_bundles() -> list[Found]:
    """Folders with a manifest in every place, by name; hidden ones are those of an export that was interrupted.

    What cannot be looked at is none: somebody else's folder need not stop the others.
    """
    return [Found(path=path, place=place) for place, folder in places().items() for path in _bundles_in(folder)]


def _bundles_in(folder: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    paths = [folder / name for name in names if not name.startswith(".")]
    return [path for path in paths if os.path.isfile(path / _MANIFEST)]


def choose_bundle(given: Path | None) -> Found:
    """--bundle, else $S2C_BUNDLE, else the only bundle of the first place that has one."""
    if given is not None:
        return Found(path=looked_at(given, "bundle"), place="--bundle")
    if named := _of_the_variable():
        return named
    bundles = known_bundles()
    if not bundles:
        raise InputError(f"no {_anywhere()}", hint="make one: s2c-deploy export --variant conv")
    first = [found.path for found in bundles if found.place == bundles[0].place]
    if len(first) > 1:
        names = ", ".join(map(str, first))
        raise InputError(f"several bundles: {names}", hint=f"choose one with --bundle or ${BUNDLE_VARIABLE}")
    return bundles[0]


def bundle_to_write_with(given: Path | None) -> Path:
    """The folder that ``choose_bundle`` finds."""
    return choose_bundle(given).path


def looked_at(path: Path, name: str) -> Path:
    """The path as it is; InputError where the system will not even look for it."""
    try:
        status_of(path)
    except InputError as error:
        raise InputError(f"{name}: {error.message}", hint="name a bundle's folder") from error
    return path


def _of_the_variable() -> Found | None:
    name = f"${BUNDLE_VARIABLE}"
    value = os.environ.get(BUNDLE_VARIABLE)
    return Found(path=looked_at(Path(value), name), place=name) if value else None


def _anywhere() -> str:
    own = data_folder()
    return f"bundle under {ENGINES}/" + ("" if own is None else f" or in {own}")


class BundleFinder:
    """--bundle as it is; else the first bundle, $S2C_BUNDLE or in any place, that a stream's fingerprint names.

    Each manifest is read once, however many streams there are.
    """

    def __init__(self, given: Path | None) -> None:
        self._given = given
        self._known: dict[Path, tuple[str, ...]] | None = None

    def find(self, fingerprint: bytes, model: str) -> Path:
        """The bundle's folder; fingerprint: 8 bytes, model: as the stream names it.

        BitstreamError with the fingerprints that there are; InputError or BundleError where what $S2C_BUNDLE names
        cannot be read.
        """
        if self._given is not None:
            return bundle_to_write_with(self._given)
        if self._known is None:
            self._known = _fingerprints()
        for path, found in self._known.items():
            if any(name.startswith(fingerprint.hex()) for name in found):
                return path
        known = ", ".join(f"{found[0][:16] if found else 'damaged'} ({path})" for path, found in self._known.items())
        raise BitstreamError(
            "fingerprint",
            expected=known or f"a {_anywhere()}",
            found=f"{fingerprint.hex()} ({model})",
            hint="decompress with the bundle that made the stream: --bundle",
        )


def _fingerprints() -> dict[Path, tuple[str, ...]]:
    """What streams may name it by, by folder, in order; none where a manifest cannot be read: somebody else's bundle,
    which no stream need suffer for.  What the user has named is another matter."""
    named = _of_the_variable()
    known = {} if named is None else {named.path: _names(named.path)}
    for found in known_bundles():
        try:
            if found.path not in known:
                known[found.path] = _names(found.path)
        except (S2CError, OSError, MemoryError):
            known[found.path] = ()
    return known


def _names(bundle: Path) -> tuple[str, ...]:
    """What its streams may carry: the fingerprint that the manifest has, and what came before it."""
    from s2c_deploy.formats.fingerprints import stream_fingerprints
    from s2c_deploy.formats.manifest import read_manifest

    return stream_fingerprints(read_manifest(bundle))
