"""Benchmark runs made by hand: rows with equal times, so that every ratio is known."""

from __future__ import annotations

import dataclasses

from s2c_deploy.bench.result import Benchmark, Measured, RowResult, Series

CASE = Measured(
    name="768x512, quality 4", width=768, height=512, quality=4.0, pictures=("a.png",), sha256=("00",),
    size=10000, pixels=768 * 512,
)  # fmt: skip


def row(name: str, kind: str, ms: float, **changes: object) -> RowResult:
    seconds = tuple(ms / 1e3 for _ in range(10))
    stages = {"g_s": tuple(0.7 * s for s in seconds), "entropy": tuple(0.299 * s for s in seconds)}
    rounds = tuple(i // 2 for i in range(10))
    series = Series(case=CASE.name, operation="decode", seconds=seconds, rounds=rounds, stages=stages)
    result = RowResult(
        name=name, kind=kind, description=name, threads=2, ran=(name,), precision="float32", load_seconds=ms,
        first_seconds=ms, peak_megabytes=100 * ms, series=(series,),
    )  # fmt: skip
    return dataclasses.replace(result, **changes)  # type: ignore[arg-type]


def benchmark(*rows: RowResult) -> Benchmark:
    environment = {"bundle": "conv-tiny", "processor": "abacus", "load_before": [0.1, 0, 0]}
    return Benchmark(
        request={}, environment=environment, encoder="openvino", cases=(CASE,), rows=rows, left_out={"tpu": "not here"}
    )


ROWS = (
    row("reference", "reference", 100.0, bytes={CASE.name: 10500}),
    row("fast", "engine", 10.0),
    row("torch-eager", "pytorch", 40.0),
    row("torch-slow", "pytorch", 80.0),
)
