"""Decode latency that can be believed: the same streams through every engine, in turns, gated on parity."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s2c_deploy.bench.cases import Source
    from s2c_deploy.bench.measure import run_benchmark
    from s2c_deploy.bench.request import Request
    from s2c_deploy.bench.result import Benchmark, read_result, write_result

__all__ = ["Benchmark", "Request", "Source", "read_result", "run_benchmark", "write_result"]
_MODULES = {
    "Source": "cases",
    "Request": "request",
    "run_benchmark": "measure",
    "Benchmark": "result",
    "read_result": "result",
    "write_result": "result",
}


def __getattr__(name: str) -> Any:
    """Loads a part when it is asked for: clock and parity gate need numpy alone, the whole needs Pillow, too."""
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
