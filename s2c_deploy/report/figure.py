"""Figures by way of matplotlib: how they are drawn and written, not what they show."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from html import escape
from importlib.util import find_spec
from math import log10
from typing import Any

from s2c_deploy.errors import DependencyError

PLOT_SUFFIXES = (".png", ".svg")
#: Okabe and Ito's colours, which also colour-blind readers tell apart, then a few more.
COLORS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#7F7F7F", "#B8A800")
#: Places of labels within a decade of a logarithmic axis, by the most decades that it shows.
_LABELLED = ((1.0, (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)), (2.5, (1, 2, 5)), (99.0, (1,)))


def require_plotting() -> None:
    """DependencyError if matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise DependencyError("matplotlib", extra="eval")


def rendered(
    draw: Callable[[Any], None], kind: str, *, width: float, height: float, background: str = "white"
) -> bytes:
    """A .png or .svg of a figure, sides in inches, that ``draw`` fills; DependencyError without matplotlib.

    No date and no links inside: the same figure gives the same file.
    """
    require_plotting()
    import matplotlib
    from matplotlib.figure import Figure

    how: dict[Any, Any] = {"svg.hashsalt": "s2c-deploy", "font.size": 9}
    how |= {"figure.facecolor": background, "axes.facecolor": background}
    how |= {"text.parse_math": False}  # a name with dollars in it is a name, not mathematics
    with matplotlib.rc_context(how):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        file = io.BytesIO()
        empty = dict.fromkeys(("Creator", "Date", "Format", "Type")) if kind == "svg" else {"Software": None}
        figure.savefig(file, format=kind, dpi=150, metadata=empty)
    return file.getvalue()


def svg_element(draw: Callable[[Any], None], *, label: str, width: float, height: float) -> str:
    """A figure as an ``<svg>`` element to stand inside a page: on the page's background, black in its ink's colour.

    label: what it shows, for who cannot see it.
    """
    text = rendered(draw, "svg", width=width, height=height, background="none").decode("utf-8")
    text = text[text.index("<svg") :].replace("#000000", "currentColor")
    # Groups' names serve nothing, and recur; what is referred to gets a name that no other figure of the page has.
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    unique = hashlib.sha256(f"{label}\n{text}".encode()).hexdigest()[:8]
    text = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>f{unique}-", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(label)}" fill="currentColor"', 1)


def logarithmic(axis: Any, low: float, high: float) -> None:
    """Makes an x or y axis logarithmic, from below ``low`` to above ``high``, with plain numbers beside it."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    # So much room that even one single value has a labelled one beside it.
    low, high = low / 1.2, high * 1.2
    side = axis.axis_name
    getattr(axis.axes, f"set_{side}scale")("log")
    getattr(axis.axes, f"set_{side}lim")(low, high)
    places = next(places for most, places in _LABELLED if log10(high / low) <= most)
    axis.set_major_locator(LogLocator(subs=places, numticks=99))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
