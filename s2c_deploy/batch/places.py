"""Folders that a batch reads and writes: on this machine, or in object storage by way of pyarrow's file systems."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from s2c_deploy.batch.addresses import Address, split_address
from s2c_deploy.errors import DependencyError, InputError, OutOfMemoryError
from s2c_deploy.files import (
    cannot_read,
    check_folder_writable,
    make_folder,
    read_bytes,
    read_open,
    status_of,
    write_bytes,
)
from s2c_deploy.listing import STREAM_SUFFIXES, LeftOut, Listing, is_inside, list_folder
from s2c_deploy.pictures.reading import open_regular

#: Where a written object appears whole or not at all.
_WHOLE = ("s3", "gcs", "abfs")
#: So many names are asked for one by one; for more, everything is listed.
_FEW = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A file to read."""

    #: Below its place, with slashes between, as ``os.fsdecode`` gives it.
    name: str
    #: Bytes.
    size: int
    #: Nanoseconds since 1970.
    modified: int


class Place(Protocol):
    """A folder.  Every method raises InputError for what the system or the storage refuses."""

    #: For messages and the table: without passwords.
    shown: str
    #: The same for two places that may lie in each other.
    storage: tuple[str, str]

    def entries(self, suffixes: Collection[str], *, follow_links: bool) -> tuple[list[Entry], Listing]:
        """All files below with one of the suffixes, in any case, by name; and what was left out."""

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Bytes of those that are there."""

    def identities(self, names: Iterable[str]) -> dict[str, object]:
        """What makes two names, of two places even, one file; only of those that are there and can have others."""

    def read(self, name: str, *, limit: int, regular: bool = False) -> bytes:
        """A whole file of at most ``limit`` bytes, InputError for a named pipe if it has to be regular;
        OutOfMemoryError."""

    def write(self, name: str, data: bytes) -> None:
        """A whole file, with the folders on its way; nobody ever sees half of it.  What is there is replaced."""

    def prepare(self) -> None:
        """Makes the folder, and tries whether it can be written."""


def open_place(address: str) -> Place:
    """A folder by its path or address.  InputError for an address that cannot be understood, DependencyError."""
    found = split_address(address)
    return LocalFolder(found) if isinstance(found, str) else ObjectStore(found)


def check_apart(source: Place, target: Place) -> None:
    """InputError where one lies in the other: results would be read, or sources written over."""
    if source.storage != target.storage:
        return
    places = [place.shown.rstrip("/") + "/" for place in (source, target)]
    if places[0].startswith(places[1]) or places[1].startswith(places[0]):
        raise InputError(
            f"{source.shown} and {target.shown} lie in each other", hint="name a folder for the results beside it"
        )


class LocalFolder:
    """A folder of this machine, or one that every machine has at the same path."""

    def __init__(self, path: str) -> None:
        try:
            self._root = Path(os.path.realpath(path))
        except ValueError as error:  # a null character
            raise InputError(f"{path!r:.80} is no path: {error}", hint="check the path") from None
        self.shown = str(self._root)
        self.storage = ("", "")

    def entries(self, suffixes: Collection[str], *, follow_links: bool) -> tuple[list[Entry], Listing]:
        status = status_of(self._root)
        if status is None or not stat.S_ISDIR(status.st_mode):
            raise InputError(f"no folder {self._root}" if status is None else f"{self._root} is a file")
        listing = list_folder(self._root, suffixes, recursive=True, follow_links=follow_links)
        found = []
        for path in listing.files:
            with suppress(InputError):  # gone meanwhile
                status = status_of(path)
                if status is not None:
                    name = path.relative_to(self._root).as_posix()
                    found.append(Entry(name=name, size=status.st_size, modified=status.st_mtime_ns))
        return found, listing

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        found = {}
        for name in names:
            with suppress(OSError):
                found[name] = os.lstat(self._root / name).st_size
        return found

    def identities(self, names: Iterable[str]) -> dict[str, object]:
        found = {name: status_of(self._root / name) for name in names}
        return {name: (status.st_dev, status.st_ino) for name, status in found.items() if status is not None}

    def read(self, name: str, *, limit: int, regular: bool = False) -> bytes:
        path = self._root / name
        if not regular:
            return read_bytes(path, limit=limit)
        with open_regular(path) as file:
            try:
                return read_open(file, str(path), limit=limit)
            except OSError as error:
                raise cannot_read(path, error) from error

    def write(self, name: str, data: bytes) -> None:
        path = self._root / name
        if not is_inside(os.path.realpath(path.parent), str(self._root)):
            raise InputError(f"{path.parent} is a link out of {self._root}", hint="delete it, or name another folder")
        make_folder(path.parent)
        write_bytes(path, data, follow_links=False)

    def prepare(self) -> None:
        check_folder_writable(self._root)
        make_folder(self._root)


class ObjectStore:
    """A bucket, or what is below a prefix in it, as ``pyarrow.fs.FileSystem.from_uri`` knows it."""

    def __init__(self, address: Address) -> None:
        try:
            from pyarrow import fs
        except ModuleNotFoundError as error:
            raise DependencyError("pyarrow", extra="batch") from error
        self._address = address
        self.shown, self.storage = address.shown, address.storage
        try:
            self._files, base = fs.FileSystem.from_uri(address.whole)
        except (OSError, ValueError, NotImplementedError) as error:  # pyarrow's ArrowInvalid is a ValueError
            raise self._refused("open", "", error) from error
        self._base = base.rstrip("/")
        if not self._base:
            raise InputError(f"{self.shown} names no bucket or folder", hint="as in s3://bucket/prefix")

    def entries(self, suffixes: Collection[str], *, follow_links: bool) -> tuple[list[Entry], Listing]:
        from pyarrow import fs

        found, left_out, hidden = [], [], 0
        for info in self._listed(missing=False):
            name = info.path[len(self._base) + 1 :]
            if info.type != fs.FileType.File or not name:
                continue
            parts = name.split("/")
            if any(part in ("", ".", "..") for part in parts) or "\0" in name:
                left_out.append(LeftOut(path=Path(name), reason="no plain name"))
            elif any(part.startswith(".") for part in parts):
                hidden += 1
            elif PurePosixPath(name).suffix.lower() not in suffixes:
                kind = "no .s2c suffix" if suffixes == STREAM_SUFFIXES else "no picture's suffix"
                left_out.append(LeftOut(path=Path(name), reason=kind))
            else:
                found.append(Entry(name=name, size=info.size or 0, modified=info.mtime_ns or 0))
        found.sort(key=lambda entry: entry.name)
        names = tuple(Path(entry.name) for entry in found)
        return found, Listing(folder=Path(), files=names, left_out=tuple(left_out), hidden=hidden)

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        from pyarrow import fs

        wanted = set(names)
        infos = self._asked(wanted) if len(wanted) <= _FEW else self._listed(missing=True)
        sizes = {info.path[len(self._base) + 1 :]: info.size or 0 for info in infos if info.type == fs.FileType.File}
        return {name: sizes[name] for name in wanted & sizes.keys()}

    def identities(self, names: Iterable[str]) -> dict[str, object]:
        return {}  # an object has one name

    def _asked(self, names: Iterable[str]) -> list[Any]:
        try:
            return list(self._files.get_file_info([f"{self._base}/{name}" for name in names]))
        except OSError as error:
            raise self._refused("look into", "", error) from error

    def _listed(self, *, missing: bool) -> list[Any]:
        """Everything below; missing: nothing may be there."""
        from pyarrow import fs

        try:
            selector = fs.FileSelector(self._base, recursive=True, allow_not_found=missing)
            return list(self._files.get_file_info(selector))
        except OSError as error:
            raise self._refused("list", "", error) from error

    def read(self, name: str, *, limit: int, regular: bool = False) -> bytes:
        try:
            with self._files.open_input_file(f"{self._base}/{name}") as file:
                if file.size() > limit:
                    raise InputError(f"{name} has more than {limit} bytes", hint="check that it is the right file")
                return bytes(file.read())
        except MemoryError:  # pyarrow's ArrowMemoryError is one
            raise OutOfMemoryError(f"reading {name}") from None
        except OSError as error:
            raise self._refused("read", name, error) from error

    def write(self, name: str, data: bytes) -> None:
        path = f"{self._base}/{name}"
        try:
            if self._files.type_name in _WHOLE:
                with self._files.open_output_stream(path) as file:
                    file.write(data)
            else:
                self._write_and_move(path, data)
        except OSError as error:
            raise self._refused("write", name, error) from error

    def _write_and_move(self, path: str, data: bytes) -> None:
        folder, _, name = path.rpartition("/")
        temporary = f"{folder}/.{os.urandom(6).hex()}.part"
        self._files.create_dir(folder, recursive=True)
        try:
            with self._files.open_output_stream(temporary) as file:
                file.write(data)
            self._files.move(temporary, f"{folder}/{name}")
        except BaseException:
            with suppress(OSError):
                self._files.delete_file(temporary)
            raise

    def prepare(self) -> None:
        """The table, which is written before anything else, shows whether this place takes files."""

    def _refused(self, what: str, name: str, error: Exception) -> InputError:
        text = self._address.without_secrets(str(error))
        where = f"{self.shown}/{name}" if name else self.shown
        return InputError(f"cannot {what} {where}: {text}", hint="check the address, its bucket and your credentials")
