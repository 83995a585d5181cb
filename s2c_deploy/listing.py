"""What a folder holds of what is looked for, and what is left out of it, each with its reason."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from s2c_deploy.errors import InputError
from s2c_deploy.image import READ_SUFFIXES

STREAM_SUFFIXES = frozenset({".s2c"})
#: Names that a line of text shows of each reason; JSON has them all.
_NAMES_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Something in a folder that was not taken."""

    path: Path
    reason: str


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a folder holds."""

    folder: Path
    #: Regular files with one of the suffixes, sorted.
    files: tuple[Path, ...]
    left_out: tuple[LeftOut, ...]
    #: How many names begin with a dot.
    hidden: int


def list_folder(
    folder: str | os.PathLike[str],
    suffixes: Collection[str] = READ_SUFFIXES,
    *,
    recursive: bool = False,
    follow_links: bool = False,
) -> Listing:
    """The files of a folder whose suffix, in any case, is one of ``suffixes``.

    Only regular files count, and hidden ones (of other systems, of interrupted writing) never do.  A link counts as
    what it leads to, inside the folder; what lies outside of it only with follow_links, since whoever made the folder
    need not be allowed to have our files read.  recursive: subfolders too, each once, however many links lead to it.

    Raises :class:`InputError` where the folder cannot be listed.
    """
    root = Path(folder)
    walk = _Walk(root=root, real=os.path.realpath(root), suffixes=suffixes, follow_links=follow_links)
    waiting = deque([root])
    while waiting:
        place = waiting.popleft()
        try:
            with os.scandir(place) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            if place is root:
                raise InputError(f"cannot list {folder}: {reason}", hint="name a folder of pictures") from error
            walk.left_out.append(LeftOut(path=place, reason=f"cannot be listed: {reason}"))
            continue
        for entry in found:
            below = walk.look_at(place, entry, recursive)
            if below is not None:
                waiting.append(below)
    return Listing(folder=root, files=tuple(sorted(walk.files)), left_out=tuple(walk.left_out), hidden=walk.hidden)


class _Walk:
    def __init__(self, *, root: Path, real: str, suffixes: Collection[str], follow_links: bool) -> None:
        self.real, self.suffixes, self.follow_links = real, suffixes, follow_links
        self.files: list[Path] = []
        self.left_out: list[LeftOut] = []
        self.hidden = 0
        status = _status(root)
        self.seen = set() if status is None else {(status.st_dev, status.st_ino)}

    def look_at(self, place: Path, entry: os.DirEntry[str], recursive: bool) -> Path | None:
        """Takes an entry or leaves it out; returns a folder to go into."""
        path = place / entry.name
        if entry.name.startswith("."):
            self.hidden += 1
            return None
        status = _status(path)
        reason = self._reason(path, entry, status, recursive)
        if reason:
            self.left_out.append(LeftOut(path=path, reason=reason))
            return None
        assert status is not None
        if not stat.S_ISDIR(status.st_mode):
            self.files.append(path)
            return None
        self.seen.add((status.st_dev, status.st_ino))
        return path

    def _reason(
        self, path: Path, entry: os.DirEntry[str], status: os.stat_result | None, recursive: bool
    ) -> str | None:
        link = entry.is_symlink()
        if status is None:
            return "a link to nothing" if link else "cannot be looked at"
        if link and not self.follow_links and not is_inside(os.path.realpath(path), self.real):
            return "a link out of the folder: --follow-links"
        if stat.S_ISDIR(status.st_mode):
            if not recursive:
                return "a subfolder: --recursive"
            return "a folder that is listed elsewhere" if (status.st_dev, status.st_ino) in self.seen else None
        if not stat.S_ISREG(status.st_mode):
            return "not a regular file"
        if os.path.splitext(entry.name)[1].lower() not in self.suffixes:
            return "no .s2c suffix" if self.suffixes == STREAM_SUFFIXES else "no picture's suffix"
        return None


def is_inside(path: str, folder: str) -> bool:
    """Whether a path lies in a folder or is it; both as ``os.path.realpath`` gives them."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def list_images(folder: str | os.PathLike[str], *, follow_links: bool = False) -> list[Path]:
    """The picture files directly in a folder (``list_folder``), sorted by name.

    Raises :class:`InputError` if it is no folder that can be read, or has none.
    """
    listing = list_folder(folder, follow_links=follow_links)
    check_found(listing, "pictures", READ_SUFFIXES)
    return list(listing.files)


def check_found(listing: Listing, what: str, suffixes: Collection[str]) -> None:
    """:class:`InputError` where nothing was found, with what was left out."""
    if not listing.files:
        known = f"known suffixes: {' '.join(sorted(suffixes))}"
        said = describe_left_out([listing])
        raise InputError(f"no {what} in {listing.folder}" + (f"; {said}" if said else ""), hint=known)


def describe_left_out(listings: Collection[Listing]) -> str:
    """``left out: 3 files (a subfolder: --recursive: sub; no picture's suffix: a, b)``; empty where nothing was.

    Names are as the system gives them: what prints them makes them harmless.
    """
    groups: dict[str, list[str]] = {}
    for listing in listings:
        for entry in listing.left_out:
            groups.setdefault(entry.reason, []).append(os.path.relpath(entry.path, listing.folder))
    hidden = sum(listing.hidden for listing in listings)
    count = hidden + sum(map(len, groups.values()))
    if not count:
        return ""
    parts = [f"{reason}: {shortened(names)}" for reason, names in sorted(groups.items())]
    parts += [f"{hidden} hidden"] if hidden else []
    return f"left out: {count} {'file' if count == 1 else 'files'} ({'; '.join(parts)})"


def shortened(names: Collection[str]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(list(names)[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} and {len(names) - _NAMES_SHOWN} more"


def name_of(path: Path) -> str:
    """A file's name for a report: bytes that are no UTF-8 with backslashes, as JSON cannot hold them."""
    return os.fsencode(path.name).decode("utf-8", "backslashreplace")


def _status(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None
