"""The FP16 graphs of a bundle: which nodes stay in float32, and the proof on pictures that the rest may not.

FP16 loses silently on an engine: a value overflows, a difference cancels, and the picture is a little or wholly wrong.
So every node is measured on photographs at every quality; those that cannot do in FP16 keep float32 in the
graph's own types; then whole pictures are coded, and the loss of PSNR has to stay within the limit.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from s2c_deploy.arrays import Pixels
from s2c_deploy.codec.networks import Networks
from s2c_deploy.errors import EngineError, ParityError
from s2c_deploy.export.parity import check_file
from s2c_deploy.export.precision.gate import Reference, coded_in_float32, cost
from s2c_deploy.export.precision.measure import NodeRange, node_ranges
from s2c_deploy.export.precision.pixels import with_pixels
from s2c_deploy.export.precision.rounding import rounded_graph
from s2c_deploy.export.precision.typed import folded, typed_graph
from s2c_deploy.formats.bundle import Bundle
from s2c_deploy.formats.onnx_graph import OnnxGraph
from s2c_deploy.progress import Progress, Steps, silent
from s2c_deploy.runtime.onnxruntime_runner import OnnxRuntimeRunner
from s2c_deploy.runtime.runner import Runner

#: Largest loss at any quality, the mean over the pictures: of g_a and g_s together, and of h_a (gate.py).
LIMIT_DB = 0.01
#: A graph of which more convolutions and products than this stay in float32 is FP16 by name only.
LARGEST_SHARE = 0.5
#: Largest difference of a file's outputs in ONNX Runtime, relative to the largest: a wrong cast or weight shows.
FILE_TOLERANCE = 0.05
_HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")

#: Quality: graph: dB that it loses, the mean over the pictures.
Losses = dict[float, dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class HalfGraphs:
    """FP16 versions of the graphs that passed the gate."""

    #: Typed graphs by name.
    models: Mapping[str, onnx.ModelProto]
    #: What the manifest says of them (docs/bundle.md).
    report: dict[str, Any]


def half_graphs(
    bundle: Bundle,
    pictures: Sequence[Pixels],
    *,
    io: str = "float32",
    threads: int = 0,
    progress: Progress = silent,
) -> HalfGraphs:
    """FP16 versions of g_a, h_a and every g_s that pass the gate on these pictures, uint8 H x W x 3, at every quality.

    io: type of the graphs' inputs and outputs, float32 or float16; gains are float32.  Latents of every picture and
    quality are held in memory.  ParityError names the graph and the node to blame when the gate cannot be passed.
    """
    steps = Steps(progress)  # how often the search turns, nobody knows before
    networks = Networks(bundle, "onnxruntime", threads=threads)
    try:
        references: dict[float, list[Reference]] = {}
        for quality in (level + 1.0 for level in range(bundle.config.levels)):
            steps(f"coding photographs in float32, quality {quality:g}")
            references[quality] = [coded_in_float32(bundle, networks, p, quality) for p in pictures]
        plans = {}
        for name in ("g_a", "h_a", *bundle.half_syntheses):
            steps(f"measuring the nodes of {name}")
            model = folded(onnx.load_model_from_string(bundle.read_graph(name).data))
            # A gain that multiplies the output changes nothing before it: one quality tells all of g_a.
            rows = list(references.values())[-1:] if name == "g_a" else references.values()
            calls = [r.calls[name] for row in rows for r in row]
            plans[name] = _Plan(name, model, *node_ranges(model, calls, threads=threads), io=io)
        with tempfile.TemporaryDirectory() as folder:
            losses = _Search(plans, references, Path(folder), threads, steps).run()
    except EngineError as error:
        raise ParityError(f"the FP16 gate: {error}") from error
    finally:
        networks.close()
    models = {name: plan.typed() for name, plan in plans.items()}
    report = _report(plans, losses, len(pictures), io)
    for name in bundle.half_syntheses:
        models[name], added = with_pixels(models[name])
        # Of no precision but float32: those libraries that take it from here, not from the graph, are told.
        report["graphs"][name]["float32_nodes"] |= {node: {"op": op, "reason": "pixels"} for node, op in added.items()}
    return HalfGraphs(models=models, report=report)


class _Plan:
    """One graph: its nodes' ranges, and which of them stay in float32, with the reason."""

    def __init__(self, name: str, model: onnx.ModelProto, ranges: list[NodeRange], gains: set[str], *, io: str) -> None:
        self.name, self.model, self.io = name, model, io
        self.ranges = {node.name: node for node in ranges}
        self.difference = 0.0  # of the outputs, relative to the largest: the worst seen
        # y_hat counts in 1/16 steps, up to half a million: the gain brings it to where FP16 can follow.
        self.kept = dict.fromkeys(sorted(gains), "gain")
        self.kept |= {r.name: r.reason for r in ranges if r.reason is not None and r.name not in gains}

    def typed(self) -> onnx.ModelProto:
        typed = typed_graph(self.model, self.kept, io=self.io)
        described = {p.key: p.value for p in self.model.metadata_props}
        described["arithmetic"] = f"float16, {len(self.kept)} nodes in float32"
        onnx.helper.set_model_props(typed, described)
        return typed

    @property
    def share(self) -> float:
        """Part of the convolutions and products that stay in float32."""
        heavy = [r.name for r in self.ranges.values() if r.op in _HEAVY]
        return sum(name in self.kept for name in heavy) / max(len(heavy), 1)

    def candidates(self) -> list[NodeRange]:
        """Nodes still in FP16, those that lose most by themselves first."""
        nodes = [r for r in self.ranges.values() if r.name not in self.kept and r.error > 0]
        return sorted(nodes, key=lambda r: (-r.error, r.name))

    def worst(self) -> NodeRange:
        """The node to blame: of those that compute in float32 for what was measured, else of all, the lossiest."""
        blamed = [r for r in self.ranges.values() if self.kept.get(r.name) in ("overflow", "loses", "gate")]
        return max(blamed or self.ranges.values(), key=lambda r: (min(r.error, 1e30), r.largest))


class _Search:
    """Adds nodes to what stays in float32, twice as many each time, until the gate passes or FP16 is given up."""

    def __init__(
        self,
        plans: Mapping[str, _Plan],
        references: Mapping[float, Sequence[Reference]],
        folder: Path,
        threads: int,
        steps: Steps,
    ) -> None:
        self._plans, self._references = plans, references
        self._folder, self._threads, self._steps = folder, threads, steps
        self._half: dict[str, Runner] = {}

    def run(self) -> Losses:
        """What the graphs lose at every quality, all within the limit; ParityError when there is no way."""
        for plan in self._plans.values():
            self._refuse_float32(plan, "the nodes that FP16 cannot hold")
            self._open(plan)
        count = 1
        while True:
            found, failed = self._gate()
            if failed is None:
                return found
            plan = self._plans[max(self._plans, key=lambda name: found[failed][name])]
            what = f"{LIMIT_DB} dB at quality {failed:g}"
            candidates = plan.candidates()
            if not candidates:
                self._fail(plan, f"{found[failed][plan.name]:.4f} dB, over {what}")
            for node in candidates[:count]:
                plan.kept[node.name] = "gate"
            count *= 2
            self._refuse_float32(plan, f"a loss within {what}")
            self._open(plan)

    def _gate(self) -> tuple[Losses, float | None]:
        """Losses of the qualities from the highest down, as it suffers most; the first one over the limit, or None."""
        found: Losses = {}
        for quality in sorted(self._references, reverse=True):
            self._steps(f"coding in FP16, quality {quality:g}")
            rows = self._references[quality]
            found[quality] = row = {}
            for name, half in self._half.items():
                costs = [cost(r, name, half) for r in rows]
                row[name] = float(np.mean([c.loss for c in costs]))
                plan = self._plans[name]
                plan.difference = max(plan.difference, *(c.difference for c in costs))
            drawn = max(loss for name, loss in row.items() if name not in ("g_a", "h_a"))
            if not (row["g_a"] + drawn <= LIMIT_DB and row["h_a"] <= LIMIT_DB):
                return found, quality
        return found, None

    def _open(self, plan: _Plan) -> None:
        typed = plan.typed()
        plan.difference = 0.0
        path = _save(typed, self._folder, f"{plan.name}.float16")
        check_file(path)
        self._run_file(plan, path)
        rounded = _save(rounded_graph(typed), self._folder, plan.name)
        self._half[plan.name] = OnnxRuntimeRunner(OnnxGraph.read(rounded), threads=self._threads)

    def _run_file(self, plan: _Plan, path: Path) -> None:
        """The file itself in ONNX Runtime, which loads and casts as written, though it rounds little on a CPU."""
        with OnnxRuntimeRunner(OnnxGraph.read(path), threads=self._threads) as run:
            if plan.io != "float32":  # runners take float32 only; that it loads must do
                return
            reference = next(iter(self._references.values()))[0]
            found = cost(reference, plan.name, run).difference
            if not found <= FILE_TOLERANCE:
                raise ParityError(
                    f"{path.name}: expected outputs within {FILE_TOLERANCE:g} of the float32 graph's, found {found:g}"
                )

    def _refuse_float32(self, plan: _Plan, what: str) -> None:
        if plan.share > LARGEST_SHARE:
            self._fail(plan, f"{plan.share:.0%} of its convolutions and products in float32 for {what}")

    def _fail(self, plan: _Plan, found: str) -> None:
        node = plan.worst()
        raise ParityError(
            f"{plan.name} in FP16: expected a loss of at most {LIMIT_DB} dB with at most {LARGEST_SHARE:.0%} of it in "
            f"float32, found {found}; to blame is {node.name} ({node.op}): values up to {node.largest:.4g}, "
            f"relative error {node.error:.2g} by itself",
            hint="export without FP16 graphs (--precision float32), or train with smaller activations",
        )


def _report(plans: Mapping[str, _Plan], losses: Losses, pictures: int, io: str) -> dict[str, Any]:
    return {
        "io": io,
        "gate": {
            "limit_db": LIMIT_DB,
            "pictures": pictures,
            "loss_db": {
                f"{quality:g}": {name: round(value, 6) for name, value in row.items()}
                for quality, row in sorted(losses.items())
            },
        },
        "graphs": {
            name: {
                "file": f"{name}.float16.onnx",
                "float32_nodes": {node: _described(plan.ranges[node], reason) for node, reason in plan.kept.items()},
                "largest_in_float16": max(r.largest for r in plan.ranges.values() if r.name not in plan.kept),
                "nodes": len(plan.model.graph.node),
                "relative_difference": float(f"{plan.difference:.3g}"),
            }
            for name, plan in plans.items()
        },
    }


def _described(node: NodeRange, reason: str) -> dict[str, float | str]:
    described: dict[str, float | str] = {"op": node.op, "reason": reason}
    if reason not in ("gain", "reduction"):
        described["largest"] = float(f"{node.largest:.4g}")
        if np.isfinite(node.error):  # JSON has no infinity: an overflow is told by the largest value
            described["relative_error"] = float(f"{node.error:.3g}")
    return described


def _save(model: onnx.ModelProto, folder: Path, name: str) -> Path:
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path
