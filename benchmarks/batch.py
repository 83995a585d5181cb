"""Many pictures: one process against two, and local processes against Ray's actors, on the same pictures in one run.

    python -m benchmarks.batch --images KODAK [--count 300] [--rounds 3] [--out results.json]

Every way compresses COUNT crops as `s2c-deploy batch compress` does, into a folder of its own, table included; ways
take turns.  There are two times: of the whole command, which starts Python and, for Ray, a cluster; and of the batch,
as the command tells it: processes or actors start, open their codecs and code.  Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

import s2c_deploy
from s2c_deploy.bench.cases import photographs
from s2c_deploy.files import write_text
from s2c_deploy.formats.bundle import open_bundle
from s2c_deploy.host import usable_processors
from s2c_deploy.report.environment import describe
from s2c_deploy.report.table import Table, markdown, percent
from s2c_deploy.runtime.backends import installed_version

RESULTS = Path(__file__).resolve().parent / "results" / s2c_deploy.__version__


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to do it."""

    name: str
    #: Of the command.
    options: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One run of a way."""

    way: str
    round: int
    #: Of the whole command.
    seconds: float
    #: Of the batch, as the command tells it.
    batch_seconds: float
    #: Of all files, reading, coding and writing, summed over the workers.
    coding_seconds: float
    pictures: int


def ways(processors: int) -> list[Way]:
    """On as many processors for Ray as for local processes."""
    many = str(processors)
    return [
        Way(name="1 process", options=("--workers", "1")),
        Way(name=f"{many} processes", options=("--workers", many)),
        Way(name=f"Ray, {many} actors", options=("--workers", many, "--ray", "local")),
    ]


def crops(images: Path, count: int, width: int, height: int, folder: Path) -> None:
    """Different parts of the pictures, as PNG files that are quick to read."""
    sources = photographs(images, None)
    generator = np.random.default_rng(0)
    for k in range(count):
        pixels = sources[k % len(sources)].pixels
        size = (min(height, pixels.shape[0]), min(width, pixels.shape[1]))
        top, left = (int(generator.integers(0, pixels.shape[axis] - size[axis] + 1)) for axis in (0, 1))
        part = np.ascontiguousarray(pixels[top : top + size[0], left : left + size[1]])
        Image.fromarray(part).save(folder / f"{k:05d}.png", compress_level=1)


def run(way: Way, number: int, pictures: Path, arguments: argparse.Namespace) -> Sample:
    """A way, as a user calls it; CalledProcessError where a picture fails."""
    from pyarrow import parquet

    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "s2c_deploy.cli.main", "batch", "compress", str(pictures), f"{folder}/out"]
        command += ["--bundle", str(arguments.bundle), "--backend", arguments.backend, "--json", *way.options]
        started = time.perf_counter()
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        seconds = time.perf_counter() - started
        record = json.loads(told)
        coding = sum(parquet.read_table(f"{folder}/out/batch.parquet")["seconds"].to_pylist())
    return Sample(
        way=way.name,
        round=number,
        seconds=seconds,
        batch_seconds=record["seconds"],
        coding_seconds=coding,
        pictures=record["done"],
    )


def table_of(samples: list[Sample], names: list[str]) -> Table:
    """Medians of the rounds, and each way's against the first's and the second's."""

    def median(name: str, what: str) -> float:
        return statistics.median(float(getattr(sample, what)) for sample in samples if sample.way == name)

    rows = []
    for name in names:
        command, batch = median(name, "seconds"), median(name, "batch_seconds")
        pictures = next(sample.pictures for sample in samples if sample.way == name)
        cells = (
            f"{batch:.1f}",
            f"{pictures / batch:.2f}",
            f"{median(names[0], 'batch_seconds') / batch:.2f}",
            percent(batch / median(names[1], "batch_seconds") - 1, 1),
            f"{command:.1f}",
            percent(command / median(names[1], "seconds") - 1, 1),
        )
        rows.append((name, *cells))
    against = f"against {names[1]}"
    columns = ("way", "batch s", "pictures/s", f"x {names[0]}", against, "command s", against)
    return Table(title="batch", columns=columns, rows=tuple(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("engines/conv-small"))
    parser.add_argument("--images", type=Path, default=Path("export/photographs"))
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--size", default="768x512", help="of the crops, width x height; no larger than a picture")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON of every sample; benchmarks/results/VERSION/batch_BUNDLE.json")
    arguments = parser.parse_args()
    bundle = open_bundle(arguments.bundle)
    out = arguments.out or RESULTS / f"batch_{bundle.config.name}.json"
    width, height = map(int, arguments.size.split("x"))
    chosen = ways(usable_processors())
    record: dict[str, Any] = {"environment": describe(bundle), "ray": installed_version("ray"), "size": [width, height]}
    record |= {"count": arguments.count, "backend": arguments.backend}
    samples: list[Sample] = []
    with TemporaryDirectory() as folder:
        crops(arguments.images, arguments.count, width, height, Path(folder))
        for number in range(arguments.rounds):
            for way in chosen if number % 2 == 0 else reversed(chosen):
                samples.append(run(way, number, Path(folder), arguments))
    record["samples"] = [asdict(sample) for sample in samples]
    write_text(out, json.dumps(record, indent=1) + "\n")
    environment = record["environment"]
    print(
        f"{arguments.count} pictures of {arguments.size}, {bundle.config.name}, {environment['processor']} "
        f"({environment['usable_processors']} cores), Ray {record['ray']}, commit {str(environment['commit'])[:10]}\n"
    )
    print(markdown(table_of(samples, [way.name for way in chosen])))
    print(f"\n{out}")


if __name__ == "__main__":
    main()
