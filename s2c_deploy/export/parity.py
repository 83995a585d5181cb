"""The gate between the exporter and a bundle: the written files must compute what the model computes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from s2c_deploy.errors import EngineError, ParityError
from s2c_deploy.runtime import open_runner
from s2c_deploy.runtime.probe import Comparison, Probe, compare


def check_file(path: Path) -> None:
    """onnx.checker and strict shape inference on a written file; ParityError with its complaint."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
        onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ParityError(f"{path.name}: not a valid ONNX file: {error}") from error


def check_graph(name: str, path: Path, probes: list[Mapping[str, Probe]], *, exact: bool) -> Comparison:
    """Loads a written file in ONNX Runtime and holds it against PyTorch's answers; the worst of all probes.

    ParityError names the output, position, expected and found value.
    """
    check_file(path)
    try:
        with open_runner(path, backend="onnxruntime") as runner:
            results = [compare(name, runner, probe[name], exact=exact) for probe in probes]
    except EngineError as error:
        raise ParityError(f"{name}: {error}") from error
    for result in results:
        if result.failure is not None:
            raise ParityError(result.failure)
    return max(results, key=lambda result: result.largest)
