"""One photograph through the command line at three qualities, and what came of it: the end of ``make demo``.

    python examples/demo.py export/photographs/kodim23.png

Takes the bundle in engines/conv-small, which ``s2c-deploy export --variant conv`` writes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from s2c_deploy.image import read_image
from s2c_deploy.metrics import psnr

QUALITIES = (1, 4, 8)


def _s2c(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "s2c_deploy.cli.main", *arguments, "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: python examples/demo.py PHOTO")
    photograph = Path(sys.argv[1])
    original = read_image(photograph).pixels
    table = Table(title=f"{photograph.name}, {original.shape[1]}x{original.shape[0]}")
    for column in ("quality", "bytes", "bpp", "PSNR dB", "compress s", "decompress s", "engine"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        for quality in QUALITIES:
            stream, picture = Path(folder) / f"{quality}.s2c", Path(folder) / f"{quality}.png"
            bundle = ("--bundle", "engines/conv-small")
            made = _s2c("compress", str(photograph), str(stream), "--quality", str(quality), *bundle)
            read = _s2c("decompress", str(stream), str(picture), *bundle)
            figures = (made["bytes"], f"{made['bpp']:.4f}", f"{psnr(original, read_image(picture).pixels):.2f}")
            times = (f"{made['seconds']:.3f}", f"{read['seconds']:.3f}", read["backend"])
            table.add_row(str(quality), *map(str, figures + times))
    Console().print(table)


if __name__ == "__main__":
    main()
