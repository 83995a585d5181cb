"""libvips, which decodes and encodes pictures a few rows at a time: an extra, imported when it is first needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from s2c_deploy.errors import DependencyError

# libvips keeps rows for every thread that it might use, gigabytes of a wide picture on a machine with many cores; what
# decodes and encodes is one thread for each file in any case
_THREADS = 2


def libvips() -> ModuleType:
    """The package pyvips.  :class:`DependencyError` where it is missing, or the library that it looks for.

    From then on libvips uses two threads at most for a picture in this process, since it has no setting for one.
    """
    try:
        import pyvips
    except (ImportError, OSError) as error:  # OSError: pyvips is there, and no libvips
        raise DependencyError("pyvips", extra="huge") from error
    module: ModuleType = pyvips
    if module.concurrency_get() > _THREADS:
        module.concurrency_set(_THREADS)
    return module


@contextmanager
def vips_errors() -> Iterator[None]:
    """What libvips raises, and says in several lines, becomes a ValueError of one."""
    pyvips = libvips()
    try:
        yield
    except pyvips.Error as error:
        lines = dict.fromkeys(line.strip() for line in error.detail.splitlines() if line.strip())
        raise ValueError("; ".join(lines) or "libvips cannot read it, and does not say why") from None
