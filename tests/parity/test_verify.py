"""Streams of every engine decoded on every other; and that disagreement is seen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest

from s2c_deploy.arrays import FloatArray, Pixels
from s2c_deploy.errors import EngineError
from s2c_deploy.formats.bundle import exact_graphs, open_bundle
from s2c_deploy.formats.onnx_graph import OnnxGraph
from s2c_deploy.runtime.openvino_runner import OpenVinoRunner
from s2c_deploy.verify.cross import Agreement, Setting, check_known_answers, cross_decode, decode, encode, opened


def test_every_engine_decodes_every_other(bundle_path: Path, small_photograph: Pixels) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    pictures = [small_photograph, noise]
    results = cross_decode(open_bundle(bundle_path), pictures, [1, 8], ["torch", "onnxruntime", "openvino"])
    assert len(results) == 3 * 8  # three encoders; two thread counts each, and two more settings of PyTorch
    for result in results:
        assert (result.streams, result.differing_outputs, result.differing_symbols, result.failed) == (4, 0, 0, 0)
        assert result.outputs > 0
        assert result.agrees


class Half:
    """A runner whose inputs lose all but the bits of bfloat16, as an engine's default precision may do."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self.provider = runner.provider

    def __call__(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        cut = {n: (np.ascontiguousarray(x).view(np.uint32) & 0xFFFF0000).view(np.float32) for n, x in inputs.items()}
        out: dict[str, FloatArray] = self._runner(cut)
        return out


def test_reduced_precision_is_seen(bundle_path: Path, small_photograph: Pixels) -> None:
    bundle = open_bundle(bundle_path)
    exact = exact_graphs(bundle.config)
    with opened(bundle, Setting(backend="onnxruntime"), ["g_a", "h_a", *exact]) as graphs:
        coded = encode(bundle, graphs, small_photograph, 8)
        halves: Any = {name: Half(graphs[name]) for name in exact}
        result = Agreement(encoder="onnxruntime", decoder="half")
        decode(bundle, halves, coded, result)
        assert not result.agrees
        assert result.differing_outputs > 0
        assert result.failed == 1
        with pytest.raises(EngineError, match="known-answer"):
            check_known_answers(bundle, halves)


def test_an_engine_that_runs_in_bfloat16_is_refused(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processors without bfloat16 ignore a request for it, so here the engine only says that it uses it."""
    monkeypatch.setattr(openvino.CompiledModel, "get_property", lambda self, name: openvino.Type.bf16)
    with pytest.raises(EngineError, match=r"expected precision float32, found .*bf"):
        OpenVinoRunner(OnnxGraph.read(bundle_path / "h_s.onnx"))
