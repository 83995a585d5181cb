"""libvips, which decodes and encodes pictures a few rows at a time: an extra, imported when it is first needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from s2c_deploy.errors import DependencyError


def libvips() -> ModuleType:
    """The package pyvips.  :class:`DependencyError` where it is missing, or the library that it looks for."""
    try:
        import pyvips
    except (ImportError, OSError) as error:  # OSError: pyvips is there, and no libvips
        raise DependencyError("pyvips", extra="huge") from error
    module: ModuleType = pyvips
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
