"""The graphs of a bundle on one engine."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext, suppress

from s2c_deploy.errors import EngineError
from s2c_deploy.formats.bundle import Bundle, exact_graphs
from s2c_deploy.formats.manifest import is_float, is_int8
from s2c_deploy.formats.receptive_field import ReceptiveField, receptive_field
from s2c_deploy.host import multiplies_bytes, usable_processors
from s2c_deploy.presets import FULL
from s2c_deploy.runtime import ENGINE_BACKENDS, Runner, backend_status, choose_backend, open_runner
from s2c_deploy.runtime.probe import first_failure


def can_run(bundle: Bundle, backend: str) -> bool:
    """Whether a backend's packages and GPU are here and, where it runs engines, one for every graph of the bundle."""
    if not backend_status(backend).usable:
        return False
    if backend not in ENGINE_BACKENDS:
        return True
    if not (bundle.path / backend).is_dir():
        return False
    from s2c_deploy.tensorrt.runner import has_engines

    try:
        return has_engines(bundle, backend)
    except EngineError:  # a library that cannot be imported here
        return False


def choose_for(bundle: Bundle, backend: str) -> str:
    """``auto`` to TensorRT where there is a GPU and every graph of the bundle has an engine for it, else to the
    fastest backend on the CPU; other names as ``choose_backend`` checks them."""
    if backend == "auto":
        for target in ENGINE_BACKENDS:
            if can_run(bundle, target):
                return target
    return choose_backend(backend)


def has_int8(bundle: Bundle, backend: str) -> bool:
    """Whether a backend computes the exact graphs of a bundle by INT8 kernels here, and in less time."""
    return backend == "openvino" and bundle.config.operand_bits == 8 and multiplies_bytes()


def open_graph(
    bundle: Bundle,
    graph: str,
    *,
    backend: str,
    threads: int = 0,
    channels_last: bool = False,
    precision: str = "auto",
    int8: bool = False,
) -> Runner:
    """A graph of a bundle on one backend: its .onnx file, or its engine.  precision: of float graphs; int8: of exact
    ones (``has_int8``), which have float32 besides."""
    if not is_float(graph):
        precision = "float32"
    if backend in ENGINE_BACKENDS:
        from s2c_deploy.tensorrt.runner import open_engine

        return open_engine(bundle, graph, target=backend, precision=precision)
    return open_runner(
        bundle.read_graph(graph),
        backend=backend,
        threads=threads,
        channels_last=channels_last,
        precision=precision,
        int8=int8,
    )


class Networks:
    """The graphs of a bundle on one backend, opened when first asked for.

    Each must give its known answers before it is used: EngineError names the first value that differs.  Exact ones
    run on INT8 kernels where these are there and give them, else in float32.
    synthesis: which g_s, full or a lighter one of the bundle; precision: of it, the one graph that may lose some and
    that the encoder can do without; auto: float32, or on TensorRT what its engines were built in.

    Any thread may ask for a graph and, on a CPU, call it at any time.  On a GPU a graph's outputs may stay there until
    its next call: ``walking`` and ``drawing`` are held by whoever uses the graphs of the latent, or g_s.
    """

    def __init__(
        self, bundle: Bundle, backend: str, *, threads: int = 0, synthesis: str = FULL, precision: str = "auto"
    ) -> None:
        self._bundle = bundle
        #: The graph of g_s.
        self.synthesis = bundle.synthesis_graph(synthesis)
        self.backend = choose_for(bundle, backend)
        #: As asked for: 0 lets an engine choose.
        self.engine_threads = threads
        self._precision = {self.synthesis: precision}
        self._check_bytes(synthesis)
        self._answers = bundle.known_answers()
        self._exact = set(exact_graphs(bundle.config))
        self._int8 = self._exact.copy() if has_int8(bundle, self.backend) else set()
        self._runners: dict[str, Runner] = {}
        self._fields: dict[str, ReceptiveField] = {}
        self._opening = threading.Lock()
        alone = self.backend in ENGINE_BACKENDS
        self.walking: AbstractContextManager[object] = threading.Lock() if alone else nullcontext()
        self.drawing: AbstractContextManager[object] = threading.Lock() if alone else nullcontext()

    def _check_bytes(self, name: str) -> None:
        """EngineError where a g_s of bytes cannot run, or would give other pixels."""
        if not is_int8(self.synthesis):
            return
        if self.backend == "openvino" and not multiplies_bytes():
            raise EngineError(
                f"g_s {name}: expected a processor with VNNI, found one that adds products of bytes in 16 bits",
                hint="take another --synthesis; --backend onnxruntime computes this one, in float32",
            )
        if self.backend in ENGINE_BACKENDS:
            raise EngineError(
                f"g_s {name}: expected a CPU's backend, found {self.backend}", hint="take another --synthesis"
            )

    @property
    def threads(self) -> int:
        """How many threads the coder may use: as many as the engine was given, or one per processor."""
        return self.engine_threads or usable_processors()

    def __getitem__(self, graph: str) -> Runner:
        if (runner := self._runners.get(graph)) is not None:
            return runner
        with self._opening:
            if graph not in self._runners:
                self._runners[graph] = self._open(graph)
            return self._runners[graph]

    def _open(self, graph: str) -> Runner:
        if graph in self._int8:
            with suppress(EngineError):
                return self._open_proven(graph)
            self._int8.remove(graph)
        return self._open_proven(graph)

    def _open_proven(self, graph: str) -> Runner:
        exact = graph in self._exact
        runner = self.open_graph(graph)
        try:
            failure = first_failure(graph, runner, self._answers, exact=exact)
            if failure is not None:
                raise EngineError(
                    f"{self.backend} fails the known-answer test: {failure}",
                    hint="use another --backend, and report this engine's version",
                )
        except BaseException:
            runner.close()
            raise
        return runner

    def field(self, graph: str) -> ReceptiveField:
        """What g_a or a g_s looks at."""
        if graph not in self._fields:
            source = "x" if graph == "g_a" else "y_hat"
            self._fields[graph] = receptive_field(self._bundle.read_graph(graph), source)
        return self._fields[graph]

    def open_graph(self, graph: str) -> Runner:
        """The engine of a graph, before it has given its known answers."""
        return open_graph(
            self._bundle,
            graph,
            backend=self.backend,
            threads=self.engine_threads,
            precision=self._precision.get(graph, "auto"),
            int8=graph in self._int8,
        )

    def close(self) -> None:
        """Frees the engines; on a GPU once nobody is in them."""
        with self.walking, self.drawing:
            for runner in self._runners.values():
                runner.close()
            self._runners.clear()
