"""Which pictures a stream can hold, and how they are cut into tiles."""

from __future__ import annotations

from dataclasses import dataclass

from s2c_deploy.contract import MAX_PIXELS, MAX_TILE_PIXELS, padded
from s2c_deploy.errors import InputError

TILE_UNIT = 64
MAX_SIDE = 0xFFFF
MAX_TILE = MAX_SIDE * TILE_UNIT


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A rectangle of the picture, in pixels; always inside the picture."""

    left: int
    top: int
    width: int
    height: int


def _check_grid(width: int, height: int, tile: int) -> None:
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise InputError(f"a picture of {width}x{height} cannot be stored", hint=f"sides go from 1 to {MAX_SIDE}")
    if type(tile) is not int or tile % TILE_UNIT or not 0 <= tile <= MAX_TILE:
        raise InputError(
            f"tile size {tile!r:.40} is not usable",
            hint=f"pass a multiple of {TILE_UNIT} up to {MAX_TILE}, or 0 for one tile",
        )


def check_size(
    width: int, height: int, tile: int, max_pixels: int | None, *, in_rows: bool = False
) -> tuple[str, str, str] | None:
    """Whether a picture is too large for a reader of ``max_pixels``; then what is expected, what found, and a hint.

    What counts is what will be allocated: sides padded to multiples of 64, of the picture and of its largest tile.
    None stands for MAX_PIXELS and MAX_TILE_PIXELS, a number for itself in both places.  in_rows: rows of the picture
    come and go, and by default only its tiles count.
    """
    most, most_of_tile = (MAX_PIXELS, MAX_TILE_PIXELS) if max_pixels is None else (max_pixels, max_pixels)
    sides = [padded(width), padded(height)]
    pixels = sides[0] * sides[1]
    tile_pixels = min(sides[0], tile or sides[0]) * min(sides[1], tile or sides[1])
    found = f"{width}x{height}, with its padding {sides[0]}x{sides[1]}"
    raised = "raise max_pixels (--max-pixels) if you trust where it comes from"
    if pixels > most and not (in_rows and max_pixels is None):
        return f"at most {most} pixels", found, raised
    if tile_pixels > most_of_tile:
        return f"at most {most_of_tile} pixels a tile", found, f"code it in tiles (--tile 1024), or {raised}"
    return None


def _grid_size(width: int, height: int, tile: int) -> tuple[int, int]:
    return (-(-width // tile), -(-height // tile)) if tile else (1, 1)


def tile_count(width: int, height: int, tile: int) -> int:
    """Number of tiles of :func:`tile_grid`, without making them."""
    _check_grid(width, height, tile)
    columns, rows = _grid_size(width, height, tile)
    return columns * rows


def tile_grid(width: int, height: int, tile: int) -> list[Tile]:
    """The tiles of a picture, row by row from the top left; those at the right and the bottom are cut to fit.

    ``width``, ``height`` and ``tile`` are in pixels; ``tile`` 0 means one tile, the whole picture.  Raises
    :class:`InputError` for sides outside 1..65535 and for a tile size that is not a multiple of 64.
    """
    _check_grid(width, height, tile)
    columns, rows = _grid_size(width, height, tile)
    return [tile_at(width, height, tile, number) for number in range(columns * rows)]


def tile_at(width: int, height: int, tile: int, number: int) -> Tile:
    """One of :func:`tile_grid`, by its number there."""
    if not tile:
        return Tile(left=0, top=0, width=width, height=height)
    row, column = divmod(number, -(-width // tile))
    left, top = column * tile, row * tile
    return Tile(left=left, top=top, width=min(tile, width - left), height=min(tile, height - top))
