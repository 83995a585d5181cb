"""Figures by way of matplotlib: how they are drawn and written, not what they show."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from s2c_deploy.errors import DependencyError

PLOT_SUFFIXES = (".png", ".svg")
#: Okabe and Ito's colours, which also colour-blind readers tell apart, then a few more.
COLORS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#7F7F7F", "#B8A800")


def require_plotting() -> None:
    """DependencyError if matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise DependencyError("matplotlib", extra="eval")


def rendered(draw: Callable[[Any], None], kind: str, *, width: float, height: float) -> bytes:
    """A .png or .svg of a figure, sides in inches, that ``draw`` fills; DependencyError without matplotlib.

    No date and no links inside: the same figure gives the same file.
    """
    require_plotting()
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "s2c-deploy", "font.size": 9}):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        file = io.BytesIO()
        empty = dict.fromkeys(("Creator", "Date", "Format", "Type")) if kind == "svg" else {"Software": None}
        figure.savefig(file, format=kind, dpi=150, metadata=empty)
    return file.getvalue()


def svg_element(file: bytes) -> str:
    """The ``<svg>`` element of an .svg file, to stand inside a page."""
    text = file.decode("utf-8")
    return text[text.index("<svg") :]
