"""Decoding many streams: one after another, against the symbols of one read while g_s runs for the one before.

    python -m benchmarks.overlap --images KODAK [--backends openvino,onnxruntime] [--json FILE]

Both ways take turns in one process; every picture must come out the same from both before anything is timed.  With
``--png`` pictures are written too, in the second way by a thread of their own, as ``s2c-deploy decompress`` does.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.progress import Progress

from s2c_deploy import Codec
from s2c_deploy.codec import Pixels
from s2c_deploy.image import Image, read_image, write_image
from s2c_deploy.listing import list_images
from s2c_deploy.pipeline import ahead


def one_by_one(codec: Codec, streams: list[bytes]) -> Iterator[Pixels]:
    return (codec.decompress(data) for data in streams)


def overlapped(codec: Codec, streams: list[bytes]) -> Iterator[Pixels]:
    return ahead(codec.decompress_all(streams))


def consume(pictures: Iterable[Pixels], folder: Path | None) -> None:
    for k, pixels in enumerate(pictures):
        if folder is not None:
            write_image(folder / f"{k}.png", Image(pixels=pixels, icc=None, exif=None))


def measure(codec: Codec, streams: list[bytes], rounds: int, folder: Path | None) -> dict[str, list[float]]:
    """Seconds of every round, by way."""
    ways: dict[str, Callable[[Codec, list[bytes]], Iterator[Pixels]]] = {
        "one by one": one_by_one,
        "overlapped": overlapped,
    }
    for a, b in zip(list(one_by_one(codec, streams)), overlapped(codec, streams), strict=True):
        if not np.array_equal(a, b):
            raise SystemExit("the two ways give different pictures: not measured")
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            consume(way(codec, streams), folder)
            seconds[name].append(time.perf_counter() - started)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, default=Path("engines/conv-small"))
    parser.add_argument("--backends", default="openvino,onnxruntime")
    parser.add_argument("--quality", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--png", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    images = [read_image(path).pixels for path in list_images(arguments.images)]
    rows = []
    with Progress(transient=True) as progress, TemporaryDirectory() as folder:
        task = progress.add_task("decoding", total=None)
        for backend in arguments.backends.split(","):
            progress.update(task, description=backend)
            with Codec.open(arguments.bundle, backend, threads=arguments.threads) as codec:
                streams = [codec.compress(image, arguments.quality) for image in images]
                seconds = measure(codec, streams, arguments.rounds, Path(folder) if arguments.png else None)
            rows.append({"backend": backend, "pictures": len(images), "png": arguments.png, "seconds": seconds})
    for row in rows:
        serial, side = (statistics.median(row["seconds"][way]) for way in ("one by one", "overlapped"))
        print(
            f"{row['backend']:14} {1e3 * serial / len(images):7.1f} ms a picture one by one, "
            f"{1e3 * side / len(images):7.1f} overlapped: {serial / side:.2f} x"
        )
    if arguments.json:
        record = {"rows": rows, "processors": os.cpu_count(), "load": os.getloadavg()}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
