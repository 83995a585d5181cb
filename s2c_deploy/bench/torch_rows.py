"""PyTorch's baselines: the model's own g_s module, run in the ways that PyTorch offers.  Needs torch.

The entropy networks are the bundle's integers here too, or nothing would decode; they are run operator by operator, in
the memory layout of the row, as their modules would be.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from s2c_deploy.arrays import FloatArray
from s2c_deploy.bench.row import TorchWay
from s2c_deploy.bench.stages import StageClock, TimedCodec, TimedNetworks
from s2c_deploy.errors import InputError
from s2c_deploy.formats.bundle import Bundle, open_bundle
from s2c_deploy.formats.manifest import FLOAT_GRAPHS
from s2c_deploy.models.checkpoint import Checkpoint, load_checkpoint
from s2c_deploy.runtime.runner import Runner, TensorSpec
from s2c_deploy.runtime.torch_graph import use_threads
from s2c_deploy.runtime.torch_runner import TorchRunner


class ModuleRunner(Runner):
    """A transform of the model as a runner: g_a (x, gain -> y), h_a (y, hyper_gain -> z), g_s (y_hat, inverse_gain ->
    x_hat); gains as the exported graphs apply them."""

    backend = "torch"

    def __init__(self, graph: str, module: nn.Module, way: TorchWay) -> None:
        data, gain, output = {
            "g_a": ("x", "gain", "y"),
            "h_a": ("y", "hyper_gain", "z"),
            "g_s": ("y_hat", "inverse_gain", "x_hat"),
        }[graph]
        self._format = torch.channels_last if way.channels_last else torch.contiguous_format
        module = module.eval().to(memory_format=self._format)  # type: ignore[call-overload]
        compiled = way.compiled and graph == "g_s"
        self._module = torch.compile(module, dynamic=True) if compiled else module
        self._gain_first = graph == "g_s"
        self.precision = way.precision if graph == "g_s" else "float32"
        self.provider = f"torch {torch.__version__} CPU" + ", inductor" * compiled
        dynamic = (None, None, None, None)
        self.inputs = (TensorSpec(name=data, shape=dynamic), TensorSpec(name=gain, shape=(1, None, 1, 1)))
        self.outputs = (TensorSpec(name=output, shape=dynamic),)

    # no_grad and not inference_mode: the compiler's guards do without inference tensors
    @torch.no_grad()
    def _run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        x, gain = (torch.from_numpy(inputs[spec.name]) for spec in self.inputs)
        x = x.contiguous(memory_format=self._format)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.precision == "bfloat16"):
            out: Tensor = self._module(x * gain) if self._gain_first else self._module(x) * gain
        return {self.outputs[0].name: out.float().contiguous().numpy()}


class ModuleNetworks(TimedNetworks):
    """g_a, h_a and g_s as the model's modules, the exact graphs on PyTorch's kernels."""

    def __init__(
        self, bundle: Bundle, checkpoint: Checkpoint, clock: StageClock, way: TorchWay, *, threads: int
    ) -> None:
        super().__init__(bundle, "torch", clock, threads=threads, precision=way.precision)
        self._model, self._way = checkpoint.model, way

    def untimed(self, graph: str) -> Runner:
        if graph not in FLOAT_GRAPHS:
            return TorchRunner(
                self._bundle.read_graph(graph), threads=self.engine_threads, channels_last=self._way.channels_last
            )
        use_threads(self.engine_threads)
        return ModuleRunner(graph, getattr(self._model, graph), self._way)


def same_weights(bundle: Bundle, weights: Path | None) -> Checkpoint:
    """The model folder that a bundle was exported from; InputError with both hashes for another one."""
    if weights is None:
        raise InputError("no model folder", hint="name the one that the bundle was exported from: --weights")
    checkpoint = load_checkpoint(weights)
    if checkpoint.sha256 != bundle.manifest["weights_sha256"]:
        raise InputError(
            f"{weights}: expected the bundle's weights {bundle.manifest['weights_sha256'][:16]}, "
            f"found {checkpoint.sha256[:16]}",
            hint="export the bundle again, or name its model folder with --weights",
        )
    return checkpoint


def open_module_codec(bundle: Path, weights: Path | None, threads: int, way: TorchWay) -> TimedCodec:
    """The codec on PyTorch's modules."""
    opened = open_bundle(bundle)
    networks = ModuleNetworks(opened, same_weights(opened, weights), StageClock(), way, threads=threads)
    return TimedCodec(opened, networks)
