"""The user's own manifest: which engines this user has built.

An engine is a program.  Whoever can write into an engine folder could put one there, sidecar and all; so the word
of the folder counts for nothing.  What counts is one small record per engine in a folder that only the user can write:

    $S2C_STATE, else $XDG_STATE_HOME/s2c-deploy, else ~/.local/state/s2c-deploy
        engines/<sha256 of the engine>.json     its identity, as it was when this user built it
        timing/<target>-….cache                 timings of tactics, which TensorRT parses as trustingly
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from s2c_deploy.engine.identity import Identity, read_identity
from s2c_deploy.errors import EngineError
from s2c_deploy.files import atomic_write

STATE_VARIABLE = "S2C_STATE"


def state_folder() -> Path:
    """Where this user's records are; the folder need not exist.  A relative path in XDG_STATE_HOME is ignored, as its
    specification says."""
    if own := os.environ.get(STATE_VARIABLE):
        return Path(own).absolute()
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".local" / "state") / "s2c-deploy"


class Trust:
    """The records of one user.  EngineError where others could write them."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder if folder is not None else state_folder()

    def recorded(self, sha256: str) -> Identity | None:
        """The identity under which this user built an engine of this hash, or None."""
        path = self._path(sha256)
        if not path.is_file():
            return None
        self._check_owned(path)
        identity = read_identity(path)
        return identity if identity.sha256 == sha256 else None

    def record(self, identity: Identity) -> None:
        """Remembers an engine that this process has just built."""
        self._private_folder("engines")
        with atomic_write(self._path(identity.sha256)) as temporary:
            temporary.chmod(0o600)
            temporary.write_text(identity.to_json())

    def forget(self, sha256: str) -> None:
        self._path(sha256).unlink(missing_ok=True)

    def hashes(self) -> Iterator[str]:
        """Of all engines on record."""
        for path in sorted((self.folder / "engines").glob("*.json")):
            if re.fullmatch("[0-9a-f]{64}", path.stem):
                yield path.stem

    def timing_cache(self, name: str) -> bytes:
        """Timings kept under a name, or nothing."""
        path = self.folder / "timing" / f"{name}.cache"
        if not path.is_file():
            return b""
        self._check_owned(path)
        return path.read_bytes()

    def keep_timing_cache(self, name: str, data: bytes) -> None:
        self._private_folder("timing")
        with atomic_write(self.folder / "timing" / f"{name}.cache") as temporary:
            temporary.chmod(0o600)
            temporary.write_bytes(data)

    def _path(self, sha256: str) -> Path:
        return self.folder / "engines" / f"{sha256}.json"

    def _private_folder(self, name: str) -> None:
        folder = self.folder / name
        try:
            for place in (self.folder, folder):
                place.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise EngineError(
                f"cannot write {folder}: {error.strerror}", hint=f"name a folder of yours in ${STATE_VARIABLE}"
            ) from error
        self._check_owned(folder / "any")

    def _check_owned(self, path: Path) -> None:
        """A record counts only if nobody but this user and root can have written it: file, folder, the one above."""
        for place in (path, path.parent, path.parent.parent):
            if not place.exists():
                continue
            found = place.stat()
            others = stat.S_IMODE(found.st_mode) & 0o022
            if found.st_uid not in (0, os.geteuid()) or others:
                raise EngineError(
                    f"{place}: expected to be this user's and writable by nobody else, found owner {found.st_uid}, "
                    f"mode {stat.S_IMODE(found.st_mode):o}",
                    hint="chmod go-w it if all engines in it are yours, else delete it and build again",
                )
