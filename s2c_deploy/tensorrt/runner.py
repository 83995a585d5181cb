"""TensorRT and TensorRT-RTX: runs a built engine on a GPU, with cuda-python for memory and streams.

The engine comes from the store, which has checked it; nothing here reads an engine file.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from s2c_deploy.arrays import FloatArray
from s2c_deploy.errors import EngineError
from s2c_deploy.formats.bundle import Bundle, graph_names
from s2c_deploy.formats.manifest import is_float
from s2c_deploy.host import this_host
from s2c_deploy.runtime.runner import PIXELS, CallTimes, Runner, TensorSpec
from s2c_deploy.tensorrt.cuda_memory import Buffer, DeviceArray, Recording, Stopwatch, Stream, load_cuda
from s2c_deploy.tensorrt.library import Library, load_library, quiet
from s2c_deploy.tensorrt.profile_shapes import ProfileShapes, Shape, choose_profile, largest_batch, split_batch
from s2c_deploy.tensorrt.store import EngineStore, VerifiedEngine, deserialize
from s2c_deploy.tensorrt.trust import Trust


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
            self._context = new_context(library.module, self._engine, exact=not is_float(identity.graph))
        if self._context is None:
            raise self._failure("no execution context")
        self.provider = f"{library.target} {library.version} {identity.gpu or 'compute capability'}"
        self.provider += "" if identity.gpu else f" {identity.compute_capability}"
        self.inputs, self.outputs = tensor_specs(library.module, self._engine)
        self._profiles = engine_profiles(self._engine, self.inputs)
        self._buffers = {spec.name: Buffer(cuda, spec.dtype) for spec in (*self.inputs, *self.outputs)}
        self._kept = kept_outputs(self.outputs)
        self._profile = self._calls = 0
        self._shapes: dict[str, Shape] = {}
        self._sources: dict[str, int] = {}
        self._results: dict[str, Shape] = {}
        self._ran, self._recordable = False, record
        self._recording: Recording | None = None
        self._watch: Stopwatch | None = None
        self._times: list[CallTimes] = []

    @property
    def recorded(self) -> bool:
        return self._recording is not None

    def _run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        if any(isinstance(array, DeviceArray) for array in inputs.values()):
            return self._run_part(inputs)
        shapes = {name: tuple(array.shape) for name, array in inputs.items()}
        parts = list(split_batch(inputs, self.inputs, largest_batch(self._profiles, shapes)))
        if len(parts) == 1:
            return self._run_part(parts[0])
        # What one call leaves on the device, the next would overwrite: it comes to the host in between.
        results = [{name: np.asarray(a) for name, a in self._run_part(part).items()} for part in parts]
        return {name: np.concatenate([result[name] for result in results]) for name in results[0]}

    def batch(self, rows: int, columns: int) -> int:
        free = [spec for spec in self.inputs if None in spec.shape]
        return largest_batch(self._profiles, {spec.name: (1, int(spec.shape[1] or 1), rows, columns) for spec in free})

    def _run_part(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        shapes = {name: tuple(array.shape) for name, array in inputs.items()}
        given: Mapping[str, object] = inputs
        sources = {name: array.address for name, array in given.items() if isinstance(array, DeviceArray)}
        self._calls += 1
        if (shapes, sources) != (self._shapes, self._sources):
            self._take_shapes(shapes, sources)
        for name, array in inputs.items():
            if name not in sources:
                np.copyto(self._buffers[name].view(array.shape), array)
        self._launch()
        return {name: self._result(name, shape) for name, shape in self._results.items()}

    def _result(self, name: str, shape: Shape) -> FloatArray:
        if name not in self._kept:
            own: FloatArray = self._buffers[name].view(shape).copy()
            return own
        call = self._calls
        left = DeviceArray(self._buffers[name], self._stream, shape, lambda: self._calls == call)
        # An array in all that callers do with it: hand it on, or ask numpy for it.
        return cast("FloatArray", left)

    def _launch(self) -> None:
        """Runs a call to its end."""
        if self._watch is None:
            self._start()
            self._stream.synchronize()
            return
        self._watch.start()
        began = time.perf_counter()
        self._start()
        enqueue = time.perf_counter() - began
        self._times.append(CallTimes(device=1e-3 * self._watch.stop(), enqueue=enqueue))

    def watch(self) -> None:
        if self._watch is None:
            self._watch = Stopwatch(self._cuda, self._stream)

    def take_times(self) -> list[CallTimes]:
        taken, self._times = self._times, []
        return taken

    def _take_shapes(self, shapes: dict[str, Shape], sources: dict[str, int]) -> None:
        """Tells the context of new shapes, and makes room for them; sources: addresses of inputs on the device.

        A recording holds shapes and addresses: it goes before either changes, and there are no shapes until all is
        done, so that a call that fails half-way leaves nothing that a later one could take for its own.
        """
        profile = choose_profile(self._profiles, shapes)
        self._forget_recording()
        self._shapes, self._sources, self._results, self._ran = {}, {}, {}, False
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
            if name not in sources:
                self._buffers[name].reserve(_count(shape))
            address = sources.get(name, self._buffers[name].device)
            self._check(self._context.set_tensor_address(name, address), f"address of {name}")
        self._shapes, self._sources, self._results = shapes, sources, results

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
            if name not in self._sources:
                self._stream.copy_in(self._buffers[name], _count(shape))
        self._check(self._context.execute_async_v3(self._stream.handle), "call")
        for name, shape in self._results.items():
            if name not in self._kept:
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
        if self._watch is not None:
            self._watch.close()
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
    """Whether every graph of a bundle has an engine that this machine's library may load, lighter versions of g_s
    aside; bytes are not read."""
    versions = {target: load_library(target).version}
    store = EngineStore(bundle, versions=versions, host=this_host(), trust=trust)
    sound = [entry.identity for entry in store.entries(thorough=False) if entry.problem is None]
    good = {identity.graph for identity in sound if identity is not None and identity.target == target}
    return good >= set(graph_names(bundle.config))


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


def kept_outputs(outputs: Sequence[TensorSpec]) -> frozenset[str]:
    """Outputs that stay on the device: those that only other graphs read, and x_hat where pixels come of it."""
    names = {spec.name for spec in outputs}
    return frozenset(names & ({"hyper", "features"} | ({"x_hat"} if PIXELS in names else set())))


def tensor_specs(module: Any, engine: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of an engine, in its order; EngineError for a tensor that is not float32, or for an output not
    uint8 either."""
    kinds: dict[object, np.dtype[Any]] = {module.DataType.FLOAT: np.dtype(np.float32)}
    if hasattr(module.DataType, "UINT8"):
        kinds[module.DataType.UINT8] = np.dtype(np.uint8)
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    for i in range(engine.num_io_tensors):
        name = engine.get_tensor_name(i)
        side = inputs if engine.get_tensor_mode(name) == module.TensorIOMode.INPUT else outputs
        dtype = kinds.get(engine.get_tensor_dtype(name))
        if dtype is None or (side is inputs and dtype != np.float32):
            raise EngineError(f"{name}: expected float32, found {engine.get_tensor_dtype(name)}")
        shape = tuple(None if size < 0 else int(size) for size in engine.get_tensor_shape(name))
        side.append(TensorSpec(name=name, shape=shape, dtype=dtype))
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
