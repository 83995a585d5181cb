"""The exact graphs on OpenVINO in float32 and on INT8 kernels: milliseconds, and values that differ.

    python -m benchmarks.int8 [--bundle engines/conv-small] [--width 768 --height 512] [--threads 2] [--rounds 30]

Inputs are random whole numbers over their whole range; the two take turns, and times are the medians of the rounds.
docs/performance.md shows the table.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import numpy as np

from s2c_deploy.arrays import FloatArray
from s2c_deploy.codec.networks import has_int8, open_graph
from s2c_deploy.contract import EXACT_INPUTS, HYPER_STRIDE, LATENT_STRIDE
from s2c_deploy.formats.bundle import Bundle, exact_graphs, open_bundle
from s2c_deploy.report.environment import processor
from s2c_deploy.report.table import Table, markdown
from s2c_deploy.runtime import Runner

BACKEND = "openvino"


def random_inputs(runner: Runner, height: int, width: int) -> dict[str, FloatArray]:
    """Of a picture's size, over the ranges that decoders pass."""
    rng = np.random.default_rng(0)
    inputs = {}
    for spec in runner.inputs:
        stride = HYPER_STRIDE if spec.name == "z_hat" else LATENT_STRIDE
        low, high = EXACT_INPUTS[spec.name]
        shape = (1, spec.shape[1] or 1, height // stride, width // stride)
        inputs[spec.name] = rng.integers(low, high + 1, shape).astype(np.float32)
    return inputs


def timed(runner: Runner, inputs: Mapping[str, FloatArray]) -> float:
    """Milliseconds of a call."""
    start = time.perf_counter()
    runner(inputs)
    return 1000 * (time.perf_counter() - start)


def measure(bundle: Bundle, graph: str, arguments: argparse.Namespace) -> tuple[float, float, int]:
    """Milliseconds in float32 and in INT8, and how many values differ."""
    threads = arguments.threads
    with (
        open_graph(bundle, graph, backend=BACKEND, threads=threads) as whole,
        open_graph(bundle, graph, backend=BACKEND, threads=threads, int8=True) as bytewise,
    ):
        inputs = random_inputs(whole, arguments.height, arguments.width)
        expected, found = whole(inputs), bytewise(inputs)
        differing = sum(int((found[name] != expected[name]).sum()) for name in expected)
        rounds = [(timed(whole, inputs), timed(bytewise, inputs)) for _ in range(arguments.rounds)]
    return median(first for first, _ in rounds), median(second for _, second in rounds), differing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("engines/conv-small"))
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--height", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    bundle = open_bundle(arguments.bundle)
    if not has_int8(bundle, BACKEND):
        parser.error("expected a bundle of operands of 8 bits and a processor with VNNI")
    measured = {graph: measure(bundle, graph, arguments) for graph in exact_graphs(bundle.config)}
    measured["all"] = tuple(map(sum, zip(*measured.values(), strict=True)))  # type: ignore[assignment]
    rows = tuple(
        (graph, f"{whole:.2f}", f"{bytewise:.2f}", f"{bytewise / whole:.2f}", str(differing))
        for graph, (whole, bytewise, differing) in measured.items()
    )
    columns = ("graph", "float32, ms", "INT8, ms", "of the time", "differing values")
    print(f"{bundle.config.name}, {arguments.width}x{arguments.height}, {arguments.threads} threads, {processor()}\n")
    print(markdown(Table(title="int8", columns=columns, rows=rows)))


if __name__ == "__main__":
    main()
