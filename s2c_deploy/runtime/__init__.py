"""Engines behind one life cycle: ``with open_runner(graph, backend="onnxruntime") as run: outputs = run(inputs)``."""

from s2c_deploy.runtime.backends import (
    BACKENDS,
    ENGINE_BACKENDS,
    GPU_BACKENDS,
    backend_status,
    choose_backend,
    open_runner,
)
from s2c_deploy.runtime.runner import Runner, TensorSpec

__all__ = [
    "BACKENDS",
    "ENGINE_BACKENDS",
    "GPU_BACKENDS",
    "Runner",
    "TensorSpec",
    "backend_status",
    "choose_backend",
    "open_runner",
]
