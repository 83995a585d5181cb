"""Decode latency that can be believed: the same streams through every engine, in turns, gated on parity."""

from s2c_deploy.bench.cases import Source
from s2c_deploy.bench.measure import Request, run_benchmark
from s2c_deploy.bench.result import Benchmark, read_result, write_result

__all__ = ["Benchmark", "Request", "Source", "read_result", "run_benchmark", "write_result"]
