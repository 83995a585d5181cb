"""Peak memory of decoding, whole and in blocks: a fresh process for every figure, with Python and numpy in it (Linux).

    python -m benchmarks.memory [--backends onnxruntime,openvino] [--threads 1]

The table is what docs/production.md shows.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from s2c_deploy import Codec
from s2c_deploy.bench.cases import of_sizes, photographs
from s2c_deploy.report.table import Table, markdown
from s2c_deploy.runtime import backend_status

#: Column: picture's size and tile; the first decodes nothing.
CASES = {
    "graphs open": None,
    "768x512": ((768, 512), 0),
    "2048x2048": ((2048, 2048), 0),
    "2048x2048 in blocks": ((2048, 2048), 512),
}
#: VmHWM, not getrusage: the latter's peak begins at that of the process that started this one.
_DECODE = """
import sys
from s2c_deploy import Codec
from s2c_deploy.bench.worker import memory
from s2c_deploy.formats.bundle import exact_graphs
bundle, backend, threads, *streams = sys.argv[1:]
with Codec.open(bundle, backend, threads=int(threads)) as codec:
    codec.load(encoder=False)
    for stream in streams:
        codec.decompress(open(stream, "rb").read())
print(memory("VmHWM"))
"""


def peak(bundle: Path, backend: str, threads: int, streams: list[Path]) -> float:
    """Megabytes (10^6 bytes) of a process that opens the graphs and decodes some streams."""
    command: list[str | Path] = [sys.executable, "-c", _DECODE, bundle, backend, str(threads), *streams]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("engines/conv-small"))
    parser.add_argument("--images", type=Path, default=Path("export/photographs"))
    parser.add_argument("--backends", default="onnxruntime,openvino", help="with commas between")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    source = photographs(arguments.images, 1)[0]
    with TemporaryDirectory() as folder, Codec.open(arguments.bundle) as codec:
        streams: dict[str, list[Path]] = {}
        for name, case in CASES.items():
            streams[name] = []
            if case is not None:
                path = Path(folder) / f"{name}.s2c"
                path.write_bytes(codec.compress(of_sizes(source, [case[0]])[0].pixels, tile=case[1]))
                streams[name].append(path)
        rows = []
        for backend in arguments.backends.split(","):
            peaks = [peak(arguments.bundle, backend, arguments.threads, of) for of in streams.values()]
            label = f"{backend} {backend_status(backend).version}"
            rows.append((label, *(f"{megabytes:.0f} MB" for megabytes in peaks)))
    print(markdown(Table(title="peak memory", columns=("", *CASES), rows=tuple(rows))))


if __name__ == "__main__":
    main()
