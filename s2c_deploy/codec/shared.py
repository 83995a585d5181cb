"""The codecs that a process opens by itself, for those who call functions and hold no ``Codec``: one for each bundle.

INVARIANT: a process uses only what it opened.  Forking waits while another thread opens a bundle, since its locks would
stay held for ever in the child; the child begins with nothing.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

from s2c_deploy.codec.checks import check_options, whole
from s2c_deploy.codec.codec import Codec
from s2c_deploy.errors import InputError
from s2c_deploy.formats.finding import BUNDLE_VARIABLE, BundleFinder, choose_bundle
from s2c_deploy.formats.manifest import MANIFEST
from s2c_deploy.presets import FULL

# Its hooks come first, so that a fork waits for the lock here before it closes the gate there.
from s2c_deploy.runtime import forks  # noqa: F401


@dataclass(frozen=True, kw_only=True)
class Opening:
    """How a codec is opened, in the words of ``Codec.open``; those who say the same share one.

    InputError for values of other types.
    """

    #: A bundle's folder; None: found as the commands find it (docs/environment.md).
    bundle: Path | None = None
    backend: str = "auto"
    threads: int = 0
    synthesis: str = FULL
    precision: str = "auto"
    max_pixels: int | None = None
    memory_limit: int | None = None

    def __post_init__(self) -> None:
        for name in ("threads", "max_pixels", "memory_limit"):
            object.__setattr__(self, name, whole(getattr(self, name)))
        check_options(self.backend, self.threads, self.synthesis, self.precision, self.max_pixels, self.memory_limit)


#: Device, inode, time and size of a manifest: a bundle that was exported anew has others.
_Stamp = tuple[int, int, int, int]
_Key = tuple[str, Opening]


@dataclass(frozen=True, kw_only=True)
class _Opened:
    codec: Codec
    stamp: _Stamp | None
    #: Directions whose graphs are open: "encoder", "decoder".
    loaded: frozenset[str]


@dataclass(kw_only=True)
class _Process:
    """What one process has opened; codecs are never closed, as another thread may be in one."""

    lock: threading.RLock = field(default_factory=threading.RLock)  # type: ignore[valid-type, unused-ignore]
    codecs: dict[_Key, _Opened] = field(default_factory=dict)
    #: Where the bundle of a fingerprint was found, by $S2C_BUNDLE as it was then.
    found: dict[tuple[bytes, str | None], Path] = field(default_factory=dict)


_mine = _Process()
#: Of the processes that this one is a fork of: kept, since freeing an engine without its threads waits or crashes.
_inherited: list[_Process] = []


def _begin_anew() -> None:
    global _mine
    _inherited.append(_mine)
    _mine = _Process()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _mine.lock.acquire(), after_in_parent=lambda: _mine.lock.release(), after_in_child=_begin_anew
    )


def encoder(opening: Opening) -> Codec:
    """The codec that compresses.  InputError where there is no bundle or several, and as ``Codec.open``."""
    return _open(choose_bundle(opening.bundle).path, opening, "encoder")


def decoder(opening: Opening, fingerprint: bytes, model: str) -> Codec:
    """The codec of the bundle that made a stream; fingerprint: 8 bytes, model: as the stream names it.

    BitstreamError where no bundle has it, and as ``Codec.open``; of a bundle that is named, whether it is the right one
    is for ``Codec.check_stream`` to say.
    """
    if opening.bundle is not None:
        return _open(choose_bundle(opening.bundle).path, opening, "decoder")
    wanted = (fingerprint, os.environ.get(BUNDLE_VARIABLE))
    if (known := _mine.found.get(wanted)) is not None and known.is_dir():
        codec = _open(known, opening, "decoder")
        if codec.bundle.reads(fingerprint):
            return codec
    folder = BundleFinder(None).find(fingerprint, model).absolute()
    codec = _open(folder, opening, "decoder")
    _mine.found[wanted] = folder
    return codec


def _open(folder: Path, opening: Opening, direction: str) -> Codec:
    """With the graphs of a direction open: an engine that fails does so here."""
    stamp = _stamp(folder)
    key = (os.path.realpath(folder), replace(opening, bundle=None))
    opened = _mine.codecs.get(key)
    if opened is not None and opened.stamp == stamp and direction in opened.loaded:
        return opened.codec
    with _mine.lock:
        opened = _mine.codecs.get(key)
        if opened is None or opened.stamp != stamp:
            codec = Codec.open(
                key[0],
                opening.backend,
                threads=opening.threads,
                synthesis=opening.synthesis,
                precision=opening.precision,
                max_pixels=opening.max_pixels,
                memory_limit=opening.memory_limit,
            )
            opened = _Opened(codec=codec, stamp=stamp, loaded=frozenset())
        opened.codec.load(encoder=direction == "encoder", decoder=direction == "decoder")
        _mine.codecs[key] = _Opened(codec=opened.codec, stamp=stamp, loaded=opened.loaded | {direction})
        return opened.codec


def _stamp(folder: Path) -> _Stamp | None:
    """None where there is no manifest, which opening the bundle will say."""
    try:
        status = os.stat(folder / MANIFEST)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def bundle_folder(bundle: object) -> Path | None:
    """A path as callers give it, made absolute: what they mean when they say it; InputError for anything else."""
    if bundle is None:
        return None
    if not isinstance(bundle, str | os.PathLike):
        raise InputError(f"bundle: expected the path of a folder, found {type(bundle).__name__}")
    return Path(os.path.abspath(os.fspath(bundle)))
