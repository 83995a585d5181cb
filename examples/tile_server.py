"""Serves a tiled stream to viewers: only the tiles that somebody looks at are decoded.

    s2c-deploy compress --tile 512 scan.tif scan.s2c
    python examples/tile_server.py scan.s2c        # then open http://127.0.0.1:8000

The page scrolls over the picture.  For OpenSeadragon take its address of a tile (it has no smaller levels):

    tileSources: {width: WIDTH, height: HEIGHT, tileSize: TILE, minLevel: LEVEL, maxLevel: LEVEL,
                  getTileUrl: (level, column, row) => `/${column}_${row}.png`}
    // LEVEL = Math.ceil(Math.log2(Math.max(WIDTH, HEIGHT)))
"""

from __future__ import annotations

import io
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

from s2c_deploy.errors import S2CError
from s2c_deploy.tiles import TiledPicture

PAGE = """<!doctype html><meta charset="utf-8"><title>{width} x {height}</title>
<body style="margin:0"><div style="position:relative;width:{width}px;height:{height}px">{tiles}</div>"""
TILE = '<img loading="lazy" src="/{column}_{row}.png" width={width} height={height} alt="" \
style="position:absolute;left:{left}px;top:{top}px">'


def page(picture: TiledPicture) -> str:
    """All tiles in their places; browsers ask for those near the window."""
    side = picture.tile
    tiles = [
        TILE.format(
            column=column,
            row=row,
            left=column * side,
            top=row * side,
            width=min(side, picture.width - column * side),
            height=min(side, picture.height - row * side),
        )
        for row in range(picture.rows)
        for column in range(picture.columns)
    ]
    return PAGE.format(width=picture.width, height=picture.height, tiles="".join(tiles))


class Handler(BaseHTTPRequestHandler):
    """``/``: the page; ``/COLUMN_ROW.png``: a tile."""

    picture: TiledPicture

    def do_GET(self) -> None:
        place = re.fullmatch(r"/([0-9]{1,6})_([0-9]{1,6})\.png", self.path)
        try:
            if self.path == "/":
                self.answer(200, "text/html", page(self.picture).encode())
            elif place is not None:
                file = io.BytesIO()
                pixels = self.picture.pixels(int(place[1]), int(place[2]))
                Image.fromarray(pixels).save(file, "PNG", compress_level=1, icc_profile=self.picture.icc)
                self.answer(200, "image/png", file.getvalue())
            else:
                self.answer(404, "text/plain", b"no such tile")
        except S2CError as error:
            self.answer(404, "text/plain", str(error).encode())

    def answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    with TiledPicture(sys.argv[1]) as picture:
        Handler.picture = picture
        port = int(sys.argv[2]) if len(sys.argv) > 2 else 8000
        with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
            print(f"http://127.0.0.1:{server.server_port}", flush=True)
            server.serve_forever()


if __name__ == "__main__":
    main()
