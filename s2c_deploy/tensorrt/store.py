"""Built engines in a bundle's folder: where they are, what they are, and which of them may be loaded.

    <bundle>/<target>/<graph>/<sm>-<os>-<trt|rtx><version>-<precision>-<profiles>.engine    the engine's bytes
                              …engine.json                                                  its identity
                              …engine.log                                                   what the builder said

No byte reaches the library before: the folder's sidecar names a hash; this user's own records (``trust``) know that
hash, with the same identity; the identity is what the caller wants; the file has the size and the SHA-256 on record.
The bytes that were hashed are the bytes that are handed over.  The folder may come from elsewhere: links in it are
neither followed nor written through (``inside``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from s2c_deploy.errors import (
    EngineError,
    ForeignEngineError,
    OutOfMemoryError,
    TamperedEngineError,
    TruncatedEngineError,
)
from s2c_deploy.formats.bundle import Bundle
from s2c_deploy.host import Host
from s2c_deploy.inside import names_in, read_file, remove_file, size_of, write_file
from s2c_deploy.tensorrt.fitness import REBUILD, check_current, check_host
from s2c_deploy.tensorrt.identity import Identity, read_identity
from s2c_deploy.tensorrt.library import TARGETS, Library, quiet
from s2c_deploy.tensorrt.trust import Trust

ENGINE, SIDECAR, LOG = ".engine", ".json", ".log"


@dataclass(frozen=True, kw_only=True)
class VerifiedEngine:
    """The bytes of an engine that passed every check; only ``EngineStore.load`` makes one."""

    identity: Identity
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One engine file as found."""

    path: Path
    #: As its sidecar says, or None.
    identity: Identity | None
    #: Why it cannot be used, or None.
    problem: EngineError | None

    @property
    def state(self) -> str:
        """ok, stale, foreign, truncated, tampered or unusable."""
        if self.problem is None:
            return "ok"
        name = type(self.problem).__name__.removesuffix("EngineError").lower()
        return name or "unusable"


class EngineStore:
    """The engines of one bundle.

    versions: target to the version of its library that would load them; host: where; both as far as they are known.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        versions: Mapping[str, str] | None = None,
        host: Host | None = None,
        trust: Trust | None = None,
    ) -> None:
        self.bundle, self.host = bundle, host
        self.versions = dict(versions or {})
        self.trust = trust if trust is not None else Trust()

    def path(self, identity: Identity, tag: str) -> Path:
        """Where an engine of this identity belongs; tag: the library's name in file names."""
        name = "-".join(
            (
                "sm" + identity.compute_capability.replace(".", ""),
                identity.os.replace("-", "_"),
                f"{tag}{identity.library_version}",
                identity.precision,
                "+".join(identity.profiles),
            )
        )
        return self.bundle.path / identity.target / identity.graph / f"{name}{ENGINE}"

    def write(self, identity: Identity, data: bytes, *, tag: str, log: str = "") -> tuple[Path, Identity]:
        """Stores an engine that was just built; returns its path, and its identity with hash and size.

        The user's record comes last: an engine on record is whole.  Each file is written beside and renamed.
        """
        identity = replace(identity, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        path = self.path(identity, tag)
        self._write(path, data)
        self._write(_beside(path, LOG), log.encode())
        self._write(_beside(path, SIDECAR), identity.to_json().encode())
        self.trust.record(identity)
        self._remove(self._failure_log(identity))
        return path, identity

    def keep_failure(self, identity: Identity, log: str) -> Path:
        """Keeps the log of a build that gave no engine, until one does; returns where."""
        path = self._failure_log(identity)
        self._write(path, log.encode())
        return path

    def _failure_log(self, identity: Identity) -> Path:
        return self.bundle.path / identity.target / f"failed-{identity.graph}.log"

    def _parts(self, path: Path) -> tuple[str, ...]:
        return path.relative_to(self.bundle.path).parts

    def _write(self, path: Path, data: bytes) -> None:
        """The bundle may be from elsewhere: nothing is written through a link in it."""
        try:
            write_file(self.bundle.path, *self._parts(path), data=data)
        except OSError as error:
            raise EngineError(
                f"cannot write {path}: {error.strerror}", hint="make room there, or copy the bundle to another place"
            ) from error

    def _remove(self, path: Path) -> None:
        try:
            remove_file(self.bundle.path, *self._parts(path))
        except OSError as error:
            raise EngineError(f"cannot delete {path}: {error.strerror}") from error

    def load(
        self, graph: str, *, target: str, precision: str, profile: str | None = None, sha256: str | None = None
    ) -> VerifiedEngine:
        """The engine of a graph that fits this store's versions and host; profile: that must be among its profiles;
        sha256: of the engine, where it must be this one.

        EngineError if there is none; Stale, Foreign, Truncated or TamperedEngineError for the one that comes nearest.
        """
        problems: list[EngineError] = []
        for path in self._files(target, graph):
            try:
                identity = self._trusted(path)
                if identity.precision != precision or (profile is not None and profile not in identity.profiles):
                    continue
                if sha256 is not None and identity.sha256 != sha256:
                    continue
                self._check_fits(path, identity)
                return VerifiedEngine(identity=identity, data=self._read(path, identity))
            except EngineError as error:
                problems.append(error)
        if problems:
            # Of several that fail, one that was meant for this machine says more than one for another.
            raise min(problems, key=lambda error: isinstance(error, ForeignEngineError))
        raise EngineError(f"no {target} engine of {graph} in {self.bundle.path} at {precision}", hint=REBUILD)

    def precisions(self, graph: str, *, target: str) -> set[str]:
        """Those that a graph's engines claim to have been built in; nothing is checked."""
        found = (self._entry(path, thorough=False).identity for path in self._files(target, graph))
        return {identity.precision for identity in found if identity is not None}

    def remove(self, path: Path) -> None:
        """Deletes one engine and its record."""
        with suppress(EngineError):
            self.trust.forget(self._claimed(path).sha256)
        self._unlink(path)

    def entries(self, *, thorough: bool = True) -> list[Entry]:
        """Every engine file under the bundle, checked; thorough: its bytes, too."""
        return [self._entry(path, thorough) for path in self._files("*", "*")]

    def check(self, path: Path) -> Entry | None:
        """One engine file, checked; None if it is not there."""
        names = dict(names_in(self.bundle.path, *self._parts(path)[:-1]))
        return self._entry(path, thorough=True) if path.name in names else None

    def _entry(self, path: Path, thorough: bool) -> Entry:
        identity = problem = None
        try:
            identity = self._claimed(path)
            self._check_fits(path, self._trusted(path))
            if thorough:
                self._read(path, identity)
            else:
                self._check_size(path, identity)
        except EngineError as error:
            problem = error
        return Entry(path=path, identity=identity, problem=problem)

    def prune(self, *, foreign: bool = False, dry_run: bool = False) -> list[Entry]:
        """Deletes what cannot be used: stale, truncated and tampered engines; foreign: other GPUs' and users', too.

        Records of deleted engines go with them.  Returns what was, or would be, deleted.
        """
        kinds = {"stale", "truncated", "tampered", "unusable"} | ({"foreign"} if foreign else set())
        entries = self.entries()
        doomed = [entry for entry in entries if entry.state in kinds]
        # A damaged sidecar may claim the hash of an engine that is good.
        kept = {entry.identity.sha256 for entry in entries if entry not in doomed and entry.identity is not None}
        for entry in () if dry_run else doomed:
            self._unlink(entry.path)
            if entry.identity is not None and entry.identity.sha256 not in kept:
                self.trust.forget(entry.identity.sha256)
        return doomed

    def _files(self, target: str, graph: str) -> Iterator[Path]:
        """Engine files, without a look behind links: what is no folder has none in it."""
        root = self.bundle.path
        targets = [name for name, _ in names_in(root) if name in TARGETS and target in ("*", name)]
        for folder in targets:
            for name, _ in names_in(root, folder):
                if graph in ("*", name):
                    files = names_in(root, folder, name)
                    yield from (root / folder / name / file for file, _ in files if file.endswith(ENGINE))

    def _claimed(self, path: Path) -> Identity:
        """What the sidecar says; nothing that anybody could not have written."""
        sidecar = _beside(path, SIDECAR)
        if sidecar.name not in dict(names_in(self.bundle.path, *self._parts(path)[:-1])):
            raise ForeignEngineError(f"{path}: expected its identity in {sidecar.name}, found none", hint=REBUILD)
        return read_identity(self.bundle.path, *self._parts(sidecar))

    def _unlink(self, path: Path) -> None:
        """An engine and what stands beside it."""
        for file in (path, _beside(path, SIDECAR), _beside(path, LOG)):
            self._remove(file)

    def _check_size(self, path: Path, identity: Identity) -> None:
        try:
            size = size_of(self.bundle.path, *self._parts(path))
        except OSError as error:
            raise _unreadable(path, error) from error
        _check_length(path, size, identity)

    def _read(self, path: Path, identity: Identity) -> bytes:
        """The file's bytes, of the size and hash on record."""
        self._check_size(path, identity)
        try:
            data = read_file(self.bundle.path, *self._parts(path), limit=identity.size)
        except OSError as error:
            raise _unreadable(path, error) from error
        except MemoryError:
            raise OutOfMemoryError(f"{path}, {identity.size} bytes") from None
        _check_length(path, len(data), identity)
        digest = hashlib.sha256(data).hexdigest()
        if digest != identity.sha256:
            raise TamperedEngineError(f"{path}: expected SHA-256 {identity.sha256}, found {digest}", hint=REBUILD)
        return data

    def _trusted(self, path: Path) -> Identity:
        """The identity on this user's record for an engine file; its bytes are not looked at yet."""
        claimed = self._claimed(path)
        known = self.trust.recorded(claimed.sha256)
        if known is None:
            raise ForeignEngineError(
                f"{path}: expected an engine that this user built, found no record of {claimed.sha256[:16]}… in "
                f"{self.trust.folder}",
                hint=f"an engine is a program: {REBUILD}",
            )
        if known != claimed:
            raise TamperedEngineError(f"{path}: its sidecar says {_differences(known, claimed)}", hint=REBUILD)
        folder = (path.parent.parent.name, path.parent.name)
        if folder != (known.target, known.graph):
            raise TamperedEngineError(
                f"{path}: expected an engine of {folder[1]} for {folder[0]}, found one of {known.graph} for "
                f"{known.target}",
                hint=REBUILD,
            )
        return known

    def _check_fits(self, path: Path, found: Identity) -> None:
        check_current(path, found, self.bundle, self.versions)
        if self.host is not None:
            check_host(path, found, self.host)


def deserialize(library: Library, runtime: Any, engine: VerifiedEngine) -> Any:
    """The library's engine object: the one place where engine bytes reach the library.

    runtime: of the library, with the caller's logger, kept alive by the caller.  EngineError when the library refuses.
    """
    with quiet():
        loaded = runtime.deserialize_cuda_engine(engine.data)
    if loaded is None:
        raise EngineError(
            f"{library.target} {library.version} cannot load its engine of {engine.identity.graph}",
            hint="is there a GPU and a driver new enough? s2c-deploy doctor",
        )
    return loaded


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _unreadable(path: Path, error: OSError) -> EngineError:
    """What is no regular file was put there; what cannot be read may still be an engine."""
    kind = TamperedEngineError if "expected a regular file" in str(error.strerror) else EngineError
    return kind(f"{path}: {error.strerror}", hint=REBUILD)


def _check_length(path: Path, size: int, identity: Identity) -> None:
    if size != identity.size:
        kind = TruncatedEngineError if size < identity.size else TamperedEngineError
        raise kind(f"{path}: expected {identity.size} bytes, found {size}", hint=REBUILD)


def _differences(known: Identity, claimed: Identity) -> str:
    pairs = [
        f"{name} {getattr(claimed, name)!r:.60} where this user's record has {value!r:.60}"
        for name, value in vars(known).items()
        if getattr(claimed, name) != value
    ]
    return ", ".join(pairs)
