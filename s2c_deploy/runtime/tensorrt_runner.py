"""TensorRT and TensorRT-RTX: runs a built engine on a GPU, with cuda-python for memory and streams.

The engine comes from the store, which has checked it; nothing here reads an engine file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from s2c_deploy.bundle import Bundle
from s2c_deploy.engine.host import this_host
from s2c_deploy.engine.library import Library, load_library, quiet
from s2c_deploy.engine.store import EngineStore, VerifiedEngine, deserialize
from s2c_deploy.engine.trust import Trust
from s2c_deploy.errors import EngineError
from s2c_deploy.manifest import FLOAT_GRAPHS
from s2c_deploy.runtime.cuda_memory import Buffer, Recording, Stopwatch, Stream, load_cuda
from s2c_deploy.runtime.profile_shapes import ProfileShapes, Shape, choose_profile, split_batch
from s2c_deploy.runtime.runner import FloatArray, Runner, TensorSpec


class TensorRTRunner(Runner):
    """One engine with an execution context, a stream and buffers of its own.

    recorded: whether calls are replayed from a CUDA graph.  The first call at a shape runs as it is (the library does
    late work then), the second is recorded, and the recording is replayed until a call has other shapes.
    """

    def __init__(self, library: Library, engine: VerifiedEngine, *, record: bool = True) -> None:
        identity = engine.identity
        self.backend, self.precision, self._name = library.target, identity.precision, identity.graph
        self._cuda = cuda = load_cuda()
        # Asks for the GPU first: a missing one is said by CUDA more plainly than by the library.
        self._stream = Stream(cuda)
        self._log = _log(library.module)
        self._runtime = library.module.Runtime(self._log)
        self._engine = deserialize(library, self._runtime, engine)
        with quiet():
            self._context = new_context(library.module, self._engine, exact=identity.graph not in FLOAT_GRAPHS)
        if self._context is None:
            raise self._failure("no execution context")
        self.provider = f"{library.target} {library.version} {identity.gpu or 'compute capability'}"
        self.provider += "" if identity.gpu else f" {identity.compute_capability}"
        self.inputs, self.outputs = tensor_specs(library.module, self._engine)
        self._profiles = engine_profiles(self._engine, self.inputs)
        self._buffers = {spec.name: Buffer(cuda) for spec in (*self.inputs, *self.outputs)}
        self._profile = 0
        self._shapes: dict[str, Shape] = {}
        self._results: dict[str, Shape] = {}
        self._ran, self._recordable = False, record
        self._recording: Recording | None = None

    @property
    def recorded(self) -> bool:
        return self._recording is not None

    def _run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        limit = max(profile.batch for profile in self._profiles)
        parts = [self._run_part(part) for part in split_batch(inputs, self.inputs, limit)]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _run_part(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        shapes = {name: tuple(array.shape) for name, array in inputs.items()}
        if shapes != self._shapes:
            self._take_shapes(shapes)
        for name, array in inputs.items():
            np.copyto(self._buffers[name].view(array.shape), array)
        self._start()
        self._stream.synchronize()
        return {name: self._buffers[name].view(shape).copy() for name, shape in self._results.items()}

    def device_times(self, inputs: Mapping[str, FloatArray], count: int) -> list[float]:
        """Milliseconds on the device of ``count`` calls with these inputs (one batch), copies of inputs and outputs
        in them; two calls before do not count, so that recorded calls are timed as such."""
        for _ in range(2):
            self._run_part(inputs)
        watch = Stopwatch(self._cuda, self._stream)
        times = []
        for _ in range(count):
            watch.start()
            self._start()
            times.append(watch.stop())
        watch.close()
        return times

    def _take_shapes(self, shapes: dict[str, Shape]) -> None:
        """Tells the context of new shapes, and makes room for them.

        A recording holds shapes and addresses: it goes before either changes, and there are no shapes until all is
        done, so that a call that fails half-way leaves nothing that a later one could take for its own.
        """
        profile = choose_profile(self._profiles, shapes)
        self._forget_recording()
        self._shapes, self._results, self._ran = {}, {}, False
        if profile != self._profile:
            self._check(self._context.set_optimization_profile_async(profile, self._stream.handle), "profile")
            self._stream.synchronize()
            self._profile = profile
        for spec in self.inputs:
            if None in spec.shape:
                self._check(self._context.set_input_shape(spec.name, shapes[spec.name]), f"shape of {spec.name}")
        if missing := self._context.infer_shapes():
            raise self._failure(f"no shapes of {', '.join(missing)}")
        results = {spec.name: tuple(self._context.get_tensor_shape(spec.name)) for spec in self.outputs}
        for name, shape in (shapes | results).items():
            if min(shape) < 0:
                raise self._failure(f"{name} has no shape: {shape}")
            self._buffers[name].reserve(_count(shape))
            self._check(self._context.set_tensor_address(name, self._buffers[name].device), f"address of {name}")
        self._shapes, self._results = shapes, results

    def _start(self) -> None:
        """Starts a call: by its recording, where there is one or one can be made."""
        if self._recording is None and self._ran and self._recordable:
            try:
                # TensorRT-RTX knows beforehand which contexts cannot be.
                if hasattr(self._context, "is_stream_capturable"):
                    self._check(self._context.is_stream_capturable(self._stream.handle), "recording")
                with self._stream.recording() as made:
                    self._enqueue()
                self._recording = made[0]
            except EngineError:
                # Some engines cannot be recorded: they run call by call.
                self._recordable = False
        if self._recording is not None:
            self._recording.launch(self._stream)
        else:
            self._enqueue()
            self._ran = True

    def _enqueue(self) -> None:
        for name, shape in self._shapes.items():
            self._stream.copy_in(self._buffers[name], _count(shape))
        self._check(self._context.execute_async_v3(self._stream.handle), "call")
        for name, shape in self._results.items():
            self._stream.copy_out(self._buffers[name], _count(shape))

    def _check(self, done: object, what: str) -> None:
        if not done:
            raise self._failure(f"{what} refused")

    def _failure(self, what: str) -> EngineError:
        said = f"; it said: {' | '.join(self._log.lines[-2:])}" if self._log.lines else ""
        return EngineError(f"{self.backend} cannot run {self._name}: {what}{said}")

    def _forget_recording(self) -> None:
        if self._recording is not None:
            self._recording.close()
            self._recording = None

    def close(self) -> None:
        """Frees recording, context, engine and memory, in this order."""
        self._forget_recording()
        self._shapes = {}
        self._context = self._engine = self._runtime = None
        for buffer in self._buffers.values():
            buffer.close()
        self._stream.close()


def open_engine(
    bundle: Bundle,
    graph: str,
    *,
    target: str,
    precision: str,
    trust: Trust | None = None,
    sha256: str | None = None,
) -> TensorRTRunner:
    """A runner of this machine's engine of a graph, out of the bundle's store.

    precision: float32, float16, or auto: float16 where the store has such an engine, usable or not; sha256: of the
    engine, where it must be this one.  DependencyError, or EngineError where there is no GPU, no engine, or none that
    may be loaded.
    """
    library, host = load_library(target), this_host()
    if host.compute_capability is None:
        raise EngineError(
            f"{target} cannot run {graph}: the CUDA driver shows no GPU", hint="use onnxruntime or openvino"
        )
    store = EngineStore(bundle, versions={target: library.version}, host=host, trust=trust)
    if precision == "auto":
        precision = "float16" if "float16" in store.precisions(graph, target=target) else "float32"
    return TensorRTRunner(library, store.load(graph, target=target, precision=precision, sha256=sha256))


def has_engines(bundle: Bundle, target: str, trust: Trust | None = None) -> bool:
    """Whether every graph of a bundle has an engine that this machine's library may load; bytes are not read."""
    versions = {target: load_library(target).version}
    store = EngineStore(bundle, versions=versions, host=this_host(), trust=trust)
    sound = [entry.identity for entry in store.entries(thorough=False) if entry.problem is None]
    good = {identity.graph for identity in sound if identity is not None and identity.target == target}
    return good >= set(bundle.manifest["graphs"])


def new_context(module: Any, engine: Any, *, exact: bool) -> Any:
    """An execution context whose kernels do not change behind the known-answer test's back.

    Left to itself, TensorRT-RTX compiles kernels for every new shape in the background and takes them once they are
    ready.  Exact graphs stay with the kernels that serve all shapes, which are those that were tested; float graphs get
    their own before the first call at a shape, so that a recording holds them.
    """
    strategies = getattr(module, "DynamicShapesKernelSpecializationStrategy", None)
    if strategies is None:
        return engine.create_execution_context()
    config = engine.create_runtime_config()
    config.dynamic_shapes_kernel_specialization_strategy = strategies.NONE if exact else strategies.EAGER
    return engine.create_execution_context(config)


def tensor_specs(module: Any, engine: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of an engine, in its order; EngineError for a tensor that is not float32."""
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    for i in range(engine.num_io_tensors):
        name = engine.get_tensor_name(i)
        if engine.get_tensor_dtype(name) != module.DataType.FLOAT:
            raise EngineError(f"{name}: expected float32, found {engine.get_tensor_dtype(name)}")
        shape = tuple(None if size < 0 else int(size) for size in engine.get_tensor_shape(name))
        side = inputs if engine.get_tensor_mode(name) == module.TensorIOMode.INPUT else outputs
        side.append(TensorSpec(name=name, shape=shape))
    return tuple(inputs), tuple(outputs)


def engine_profiles(engine: Any, inputs: tuple[TensorSpec, ...]) -> list[ProfileShapes]:
    """What each optimization profile of an engine serves."""
    free = [spec.name for spec in inputs if None in spec.shape]
    found = []
    for i in range(max(engine.num_optimization_profiles, 1)):
        bounds = {}
        for name in free:
            low, typical, high = (tuple(int(n) for n in dims) for dims in engine.get_tensor_profile_shape(name, i))
            bounds[name] = (low, typical, high)
        found.append(ProfileShapes(bounds=bounds))
    return found


def _count(shape: Shape) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _log(module: Any) -> Any:
    class Log(module.ILogger):  # type: ignore[misc]
        """Keeps the last errors, and prints nothing."""

        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (module.ILogger.ERROR, module.ILogger.INTERNAL_ERROR):
                self.lines = [*self.lines[-9:], message]

    return Log()
