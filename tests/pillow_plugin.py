"""Pillow with the plugin, and without it again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import PIL.Image as Pil

from s2c_deploy import pillow

_TABLES = (Pil.OPEN, Pil.SAVE, Pil.SAVE_ALL, Pil.EXTENSION, Pil.MIME)


@contextmanager
def registered(**options: object) -> Iterator[None]:
    """``register_s2c_opener(**options)``, taken back afterwards: other tests are to see Pillow as it comes."""
    before, opening = [dict(table) for table in _TABLES], pillow._opening
    try:
        pillow.register_s2c_opener(**options)  # type: ignore[arg-type]
        yield
    finally:
        for table, content in zip(_TABLES, before, strict=True):
            table.pop("S2C", None)  # type: ignore[attr-defined]
            table.pop(".s2c", None)  # type: ignore[attr-defined]
            table.update(content)  # type: ignore[attr-defined]
        if "S2C" not in Pil.OPEN and "S2C" in Pil.ID:
            Pil.ID.remove("S2C")
        pillow._opening = opening
