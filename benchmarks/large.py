"""Large pictures there and back as a user does it: time a megapixel, peak memory, and a region (Linux).

    python -m benchmarks.large --images KODAK [--sizes 3840x2160,8192x8192,16384x16384] [--tile 512] [--out FOLDER]

Each picture is photographs side by side, in a deflated TIFF, and every figure a process of its own that runs the
command; its peak is the kernel's (VmHWM).  The region of 512 x 512 pixels lies across a corner of four tiles, in a
codec that is open.  The table is what docs/large.md shows.  Files lie in --out, a temporary folder by default.
"""

from __future__ import annotations

import argparse
import io
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from s2c_deploy import Codec
from s2c_deploy.arrays import Pixels
from s2c_deploy.bench.cases import photographs
from s2c_deploy.formats.stream_file import open_stream
from s2c_deploy.pictures.strips_writing import write_strips
from s2c_deploy.report.table import Table, markdown

_STRIP = 256
_REGION = 512
#: Runs the command line, and leaves its peak memory, in megabytes (10^6 bytes), in a file.
_COMMAND = """
import sys
from s2c_deploy.bench.worker import memory
from s2c_deploy.cli import main
place = sys.argv.pop(1)
try:
    main.main()
finally:
    open(place, "w").write(str(memory("VmHWM")))
"""


@dataclass(frozen=True, kw_only=True)
class Timed:
    """One command."""

    seconds: float
    #: Megabytes.
    peak: float


class CountedFile(io.FileIO):
    """A file that counts the bytes read from it."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(-1 if size is None else size) or b""
        self.taken += len(data)
        return data


def rows(sources: list[Pixels], width: int, height: int) -> Iterator[Pixels]:
    """Photographs side by side, row after row of them, as strips of a large picture; all of one height."""
    first, side = 0, min(len(source) for source in sources)
    for top in range(0, height, side):
        line: list[Pixels] = []
        while sum(part.shape[1] for part in line) < width:
            line.append(sources[first % len(sources)][:side])
            first += 1
        strip = np.ascontiguousarray(np.concatenate(line, axis=1)[: height - top, :width])
        for start in range(0, len(strip), _STRIP):
            yield strip[start : start + _STRIP]


def timed(arguments: list[str], folder: Path) -> Timed:
    """A command of s2c-deploy; CalledProcessError where it fails."""
    place = folder / "peak.txt"
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", _COMMAND, str(place), *arguments], check=True, stdout=subprocess.DEVNULL)
    return Timed(seconds=time.perf_counter() - started, peak=float(place.read_text()))


def region(codec: Codec, path: Path, tile: int) -> tuple[float, float]:
    """Seconds of a region across a corner of tiles, the median of five, and the share of the file that one reads."""
    times = []
    with CountedFile(path) as file:
        stream = open_stream(file, max_pixels=2**32)
        corners = (max(tile, tile * (side // tile // 2)) for side in (stream.width, stream.height))
        left, top = (corner - _REGION // 2 for corner in corners)
        for _ in range(5):
            file.taken = 0
            started = time.perf_counter()
            codec.decompress_region(stream, left, top, _REGION, _REGION)
            times.append(time.perf_counter() - started)
        return statistics.median(times), file.taken / path.stat().st_size


def measure(sources: list[Pixels], size: tuple[int, int], arguments: argparse.Namespace, folder: Path) -> list[str]:
    """The cells of a size."""
    width, height = size
    picture, stream, back = (folder / name for name in ("picture.tif", "picture.s2c", "back.tif"))
    write_strips(picture, rows(sources, width, height), width=width, height=height, icc=None, exif=None)
    common = ["--bundle", str(arguments.bundle), "--backend", arguments.backend, "--force"]
    there = timed(["compress", str(picture), str(stream), "--tile", str(arguments.tile), *common], folder)
    again = timed(["decompress", str(stream), str(back), "--max-pixels", str(2**32), *common], folder)
    with Codec.open(arguments.bundle, arguments.backend) as codec:
        codec.load(encoder=False)
        seconds, share = region(codec, stream, arguments.tile)
    megapixels = width * height / 1e6
    cells = [f"{megapixels:.1f}", f"{stream.stat().st_size / 1e6:.1f}"]
    for one in (there, again):
        cells += [f"{one.seconds:.0f}", f"{one.seconds / megapixels:.2f}", f"{one.peak:.0f}"]
    return [*cells, f"{seconds:.2f}", f"{100 * share:.2f} %"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("engines/conv-small"))
    parser.add_argument("--images", type=Path, default=Path("export/photographs"))
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--sizes", default="3840x2160,8192x8192,16384x16384", help="with commas between")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--out", type=Path, help="folder for the files, which stay there")
    arguments = parser.parse_args()
    sources = [source.pixels for source in photographs(arguments.images, None)]
    # Upright photographs lie down, so that all are of one height.
    sources = [pixels if pixels.shape[1] >= pixels.shape[0] else np.rot90(pixels) for pixels in sources]
    table = []
    with TemporaryDirectory() as temporary:
        folder = arguments.out or Path(temporary)
        for name in arguments.sizes.split(","):
            width, height = map(int, name.split("x"))
            table.append((name, *measure(sources, (width, height), arguments, folder)))
            print(*table[-1], file=sys.stderr, flush=True)
    columns = (
        *("size", "megapixels", "stream MB", "compress s", "s/megapixel", "peak MB"),
        *("decompress s", "s/megapixel", "peak MB", "region s", "of the file"),
    )
    print(f"{arguments.bundle.name}, {arguments.backend}, tiles of {arguments.tile}\n")
    print(markdown(Table(title="large pictures", columns=columns, rows=tuple(table))))


if __name__ == "__main__":
    main()
