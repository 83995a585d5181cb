"""Pictures of what stands on screens: a page, code, a table beside a plot, letters over a photograph.

    python -m benchmarks.screens FOLDER
    s2c-deploy eval FOLDER --ssimulacra2

Four PNG files of 1280 x 800 pixels are drawn, of texts and a photograph of this repository, with the fonts
that matplotlib brings.
"""

from __future__ import annotations

import argparse
import io
import keyword
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from s2c_deploy.report.figure import COLORS, rendered

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT = 1280, 800
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
Font = ImageFont.FreeTypeFont


def font(name: str, size: int) -> Font:
    return ImageFont.truetype(str(FONTS / f"{name}.ttf"), size)


def prose() -> list[str]:
    """The paragraphs of a text that does not change."""
    return [" ".join(part.split()) for part in (ROOT / "LICENSE").read_text(encoding="utf-8").split("\n\n")]


def page() -> Image.Image:
    """Black on white, in serifs, two columns."""
    sheet = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((60, 36), "Terms", "black", font("DejaVuSerif-Bold", 34))
    lines = [line for part in prose() for line in (*textwrap.wrap(part, 66), "")]
    per_column = 38
    for column in range(2):
        for number, line in enumerate(lines[column * per_column : (column + 1) * per_column]):
            draw.text((60 + 600 * column, 100 + 18 * number), line, "black", font("DejaVuSerif", 14))
    return sheet


def tokens(line: str) -> Iterator[tuple[str, str]]:
    """Pieces of a line of Python and their colours."""
    for piece in re.findall(r"#.*|\"[^\"]*\"|\w+|\s+|.", line):
        if piece.startswith(("#", '"')):
            yield piece, "#6a9955" if piece.startswith("#") else "#ce9178"
        else:
            yield piece, "#569cd6" if keyword.iskeyword(piece) else "#b5cea8" if piece.isdigit() else "#d4d4d4"


def code() -> Image.Image:
    """Colours on a dark ground, every letter of one width."""
    sheet = Image.new("RGB", (WIDTH, HEIGHT), "#1e1e1e")
    draw = ImageDraw.Draw(sheet)
    face = font("DejaVuSansMono", 13)
    for number, line in enumerate((ROOT / "examples" / "demo.py").read_text(encoding="utf-8").splitlines()[:46]):
        y = 14 + 17 * number
        draw.text((16, y), f"{number + 1:4}", "#858585", face)
        x = 70.0
        for piece, color in tokens(line):
            draw.text((x, y), piece, color, face)
            x += face.getlength(piece)
    return sheet


def table() -> Image.Image:
    """Numbers in a grid beside a plot."""
    sheet = Image.new("RGB", (WIDTH, HEIGHT), "#f4f5f7")
    draw = ImageDraw.Draw(sheet)
    steps = np.arange(30)
    values = 40 + 25 * np.sin(steps[:, None] / (3 + np.arange(5))) + steps[:, None] * np.arange(5)
    for row in range(30):
        y = 20 + 25 * row
        draw.rectangle((20, y, 500, y + 24), "white" if row % 2 else "#e8eef7", "#c8ccd4")
        for column, value in enumerate(values[row]):
            draw.text((40 + 92 * column, y + 4), f"{value:,.2f}", "#202124", font("DejaVuSans", 13))

    def lines(figure: Any) -> None:
        axes = figure.add_subplot()
        for column in range(values.shape[1]):
            axes.plot(steps, values[:, column], color=COLORS[column], label=f"series {column + 1}")
        axes.legend()
        axes.grid(alpha=0.3)

    with Image.open(io.BytesIO(rendered(lines, "png", width=4.9, height=4.9))) as drawn:
        sheet.paste(drawn.convert("RGB"), (522, 30))
    return sheet


def poster() -> Image.Image:
    """White letters with a dark rim over a photograph, from large to small."""
    with Image.open(ROOT / "export" / "photographs" / "kodim23.png") as photograph:
        sheet: Image.Image = photograph.convert("RGB").resize(
            (WIDTH, HEIGHT), Image.Resampling.LANCZOS, (0, 16, 768, 496)
        )
    draw = ImageDraw.Draw(sheet)
    y = 20
    words = " ".join(prose())
    for size in (64, 48, 36, 28, 22, 18, 15, 13, 11, 10):
        face = font("DejaVuSans-Bold", size)
        line = words[: int(1200 / face.getlength("n"))]
        draw.text((40, y), line, "white", face, stroke_width=max(1, size // 16), stroke_fill="#202020")
        words, y = words[len(line) :], y + int(1.5 * size)
    return sheet


SCREENS: dict[str, Callable[[], Image.Image]] = {"page": page, "code": code, "table": table, "poster": poster}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, screen in SCREENS.items():
        screen().save(folder / f"{name}.png")


if __name__ == "__main__":
    main()
