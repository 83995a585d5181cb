"""The user's own manifest: which engines this user has built.

An engine is a program.  Whoever can write into an engine folder could put one there, sidecar and all; so the word
of the folder counts for nothing.  What counts is one small record per engine in a folder that only the user can write:

    $S2C_STATE, else $XDG_STATE_HOME/s2c-deploy, else ~/.local/state/s2c-deploy
        engines/<sha256 of the engine>.json     its identity, as it was when this user built it
        timing/<target>-….cache                 timings of tactics, which TensorRT parses as trustingly
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from s2c_deploy.errors import EngineError
from s2c_deploy.inside import names_in, read_file, remove_file, write_file
from s2c_deploy.tensorrt.identity import Identity, read_identity

STATE_VARIABLE = "S2C_STATE"
MAX_TIMINGS = 256 << 20


def state_folder() -> Path | None:
    """Where this user's records are; the folder need not exist.  None for a user without a home.  A relative path in
    XDG_STATE_HOME is ignored, as its specification says."""
    if own := os.environ.get(STATE_VARIABLE):
        return Path(own).absolute()
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    if base.is_absolute():
        return base / "s2c-deploy"
    try:
        return Path.home() / ".local" / "state" / "s2c-deploy"
    except RuntimeError:  # neither $HOME nor a name for this user id
        return None


class Trust:
    """The records of one user, none where there is no folder for them.  EngineError where others could write them."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder if folder is not None else state_folder()

    def check_writable(self) -> None:
        """EngineError where no record could be kept: said before a build, not after it."""
        self._private_folder("engines")

    def recorded(self, sha256: str) -> Identity | None:
        """The identity under which this user built an engine of this hash, or None."""
        if self.folder is None or f"{sha256}.json" not in dict(names_in(self.folder, "engines")):
            return None
        self._check_owned(self._path(sha256))
        identity = read_identity(self.folder, "engines", f"{sha256}.json")
        return identity if identity.sha256 == sha256 else None

    def record(self, identity: Identity) -> None:
        """Remembers an engine that this process has just built."""
        self._private_folder("engines")
        self._write("engines", f"{identity.sha256}.json", data=identity.to_json().encode())

    def forget(self, sha256: str) -> None:
        if self.folder is not None:
            with suppress(OSError):
                remove_file(self.folder, "engines", f"{sha256}.json")

    def hashes(self) -> Iterator[str]:
        """Of all engines on record."""
        for name, _ in names_in(self.folder, "engines") if self.folder is not None else ():
            if re.fullmatch("[0-9a-f]{64}[.]json", name):
                yield name.removesuffix(".json")

    def timing_cache(self, name: str) -> bytes:
        """Timings kept under a name, or nothing."""
        file = f"{name}.cache"
        if self.folder is None or file not in dict(names_in(self.folder, "timing")):
            return b""
        self._check_owned(self.folder / "timing" / file)
        try:
            return read_file(self.folder, "timing", file, limit=MAX_TIMINGS)
        except OSError as error:
            raise EngineError(
                f"cannot read {self.folder / 'timing' / file}: {error.strerror}", hint="delete it: it saves time only"
            ) from error

    def keep_timing_cache(self, name: str, data: bytes) -> None:
        self._private_folder("timing")
        self._write("timing", f"{name}.cache", data=data)

    def _path(self, sha256: str) -> Path:
        return self._known_folder() / "engines" / f"{sha256}.json"

    def _known_folder(self) -> Path:
        if self.folder is None:
            raise EngineError(
                "there is no place for records of built engines: no $HOME, and no name for this user",
                hint=f"name a folder of yours in ${STATE_VARIABLE}",
            )
        return self.folder

    def _write(self, *parts: str, data: bytes) -> None:
        folder = self._known_folder()
        try:
            write_file(folder, *parts, data=data, mode=0o600)
        except OSError as error:
            raise self._cannot_write(folder.joinpath(*parts), error) from error

    def _cannot_write(self, path: Path, error: OSError) -> EngineError:
        hint = f"name a folder of yours in ${STATE_VARIABLE}"
        return EngineError(f"cannot write {path}: {error.strerror}", hint=hint)

    def _private_folder(self, name: str) -> None:
        folder = self._known_folder() / name
        try:
            for place in (folder.parent, folder):
                place.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise self._cannot_write(folder, error) from error
        self._check_owned(folder / "any")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise self._cannot_write(folder, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))

    def _check_owned(self, path: Path) -> None:
        """A record counts only if nobody but this user and root can have written it, or exchanged a folder around it.

        Above the state folder, others may write where the sticky bit keeps them from renaming what is not theirs, and
        a group may if it is this user's own.
        """
        state = self._known_folder()
        above = {*state.parents, *Path(os.path.realpath(state)).parents}
        for place in dict.fromkeys((path, *path.parents, *above)):
            try:
                found = place.stat()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise EngineError(f"cannot look at {place}: {error.strerror}") from error
            others = _others_above(found) if place in above else stat.S_IMODE(found.st_mode) & 0o022
            if found.st_uid not in (0, os.geteuid()) or others:
                raise EngineError(
                    f"{place}: expected to be this user's and writable by nobody else, found owner {found.st_uid}, "
                    f"mode {stat.S_IMODE(found.st_mode):o}",
                    hint="chmod go-w it if all engines in it are yours, else delete it and build again",
                )


def _others_above(found: os.stat_result) -> int:
    """Which others can exchange what lies in a folder."""
    mode = stat.S_IMODE(found.st_mode)
    if mode & stat.S_ISVTX:
        return 0
    own_group = found.st_gid == os.getegid() and _is_private(found.st_gid)
    return mode & (0o002 if own_group else 0o022)


def _is_private(group: int) -> bool:
    """Whether a group is one user's: named as the user is and without members, as most systems make one for each."""
    try:
        entry, user = grp.getgrgid(group), pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return entry.gr_name == user.pw_name and set(entry.gr_mem) <= {user.pw_name}
