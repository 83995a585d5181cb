"""One ONNX graph to engine bytes, with whichever TensorRT is there."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from s2c_deploy.errors import EngineError, InputError
from s2c_deploy.runtime.profiles import Shape
from s2c_deploy.tensorrt.library import Library, quiet

#: Called with the phase that began and the seconds since the build's start; only where the library reports phases.
OnPhase = Callable[[str, float], None]
#: Libraries whose kernels TensorRT may call: off, as later versions have it, so that an engine needs nothing beside it.
_EXTERNAL_TACTICS = ("CUBLAS", "CUBLAS_LT", "CUDNN")
#: How freely an exact graph's kernels are chosen, one try after another until one passes the known-answer test: as the
#: library likes; without TF32; also without kernels made at build time and edge masks; also with next to no search.
#: No library lets Winograd be forbidden by name: which kernels these leave out is seen from the answers.
TACTICS = ("any", "no_tf32", "few_sources", "first_found")
_SPECIAL_TACTICS = ("JIT_CONVOLUTIONS", "EDGE_MASK_CONVOLUTIONS")


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """How to build; the shapes of one graph's inputs apart."""

    #: "8.6", for libraries that build without the GPU.
    compute_capability: str | None = None
    #: Bytes of workspace, or None for the library's own.
    memory_limit: int | None = None
    #: "none" or a level of the library.
    hardware_compatibility: str = "none"
    #: Later versions of the library may load the engine.
    version_compatible: bool = False
    #: Bytes of an earlier build of this user on this GPU.
    timing_cache: bytes = b""
    #: One of TACTICS.
    tactics: str = "any"


@dataclass(frozen=True, kw_only=True)
class Graph:
    """One graph to build an engine of."""

    name: str
    #: The .onnx file.
    data: bytes
    #: Per profile: input to its min, opt and max shape.
    profiles: Sequence[Mapping[str, tuple[Shape, Shape, Shape]]]
    #: The graph is typed in FP16, but for the nodes named in ``float32_nodes``.
    half: bool = False
    float32_nodes: Collection[str] = ()
    #: Those that the engine sends as bytes if the library can.
    uint8_outputs: Collection[str] = ()


@dataclass(frozen=True, kw_only=True)
class Built:
    """A built engine."""

    #: What other loaders open, as it is.
    engine: bytes
    timing_cache: bytes
    #: What it was built with.
    flags: tuple[str, ...]
    seconds: float
    #: Every message of the builder.
    log: tuple[str, ...] = field(repr=False)


class BuildError(EngineError):
    """A failed build; ``log``: every line that the library wrote."""

    def __init__(self, message: str, *, hint: str, log: Sequence[str]) -> None:
        super().__init__(message, hint=hint)
        self.log = tuple(log)


def build_engine(
    library: Library, graph: Graph, options: BuildOptions, *, on_phase: OnPhase = lambda phase, seconds: None
) -> Built:
    """Builds one engine.

    BuildError with what the library said last when it cannot: no GPU, an operator it does not know, no memory.
    InputError for options that it does not have.
    """
    check_options(library, options)
    started = time.perf_counter()
    log = _logger(library.module, started)
    try:
        with quiet():
            builder = library.module.Builder(log)
            network = _parsed(library, builder, graph, log)
            config, flags, timing = _configured(library, builder, network, graph, options)
            if library.progress:
                config.progress_monitor = monitor = _monitor(library.module, started, on_phase)
            data = builder.build_serialized_network(network, config)
            if library.progress and monitor.error is not None:
                raise monitor.error
            timings = bytes(timing.serialize()) if timing is not None and data is not None else b""
    except (TypeError, RuntimeError, MemoryError) as error:
        raise _failure(library, graph, log, str(error)) from error
    if data is None:
        raise _failure(library, graph, log, "no engine")
    seconds = time.perf_counter() - started
    return Built(engine=bytes(data), timing_cache=timings, flags=tuple(flags), seconds=seconds, log=tuple(log.lines))


def check_options(library: Library, options: BuildOptions) -> None:
    """InputError where the library cannot do what is asked."""
    levels = ("none", *library.hardware_compatibility)
    if options.hardware_compatibility not in levels:
        raise InputError(
            f"hardware compatibility: expected {', '.join(levels)} of {library.target} {library.version}, "
            f"found {options.hardware_compatibility!r}"
        )
    known = library.compute_capabilities
    if known and options.compute_capability not in known:
        raise InputError(
            f"compute capability: expected {', '.join(known)} of {library.target}, found {options.compute_capability}"
        )
    if not known and options.compute_capability is not None:
        raise InputError(
            f"compute capability: {library.target} {library.version} builds for the GPU at hand only",
            hint="build on the GPU that will run it, or for --targets tensorrt-rtx",
        )


def _parsed(library: Library, builder: Any, graph: Graph, log: Any) -> Any:
    kinds = library.module.NetworkDefinitionCreationFlag
    # Explicit batches are all there is where networks can be strongly typed; before, they had to be asked for.
    kind = kinds.STRONGLY_TYPED if library.strongly_typed else kinds.EXPLICIT_BATCH
    network = builder.create_network(1 << int(kind))
    parser = library.module.OnnxParser(network, log)
    if not parser.parse(graph.data):
        errors = "; ".join(_parser_error(parser.get_error(i)) for i in range(parser.num_errors))
        raise _failure(library, graph, log, f"the graph cannot be read: {errors}")
    if graph.half and not library.strongly_typed:
        _pin_precision(library.module, network, graph.float32_nodes)
    if hasattr(library.module.DataType, "UINT8") and hasattr(network, "add_cast"):
        _cast_outputs(library, network, graph.uint8_outputs)
    return network


def _parser_error(error: Any) -> str:
    # Older parsers give a node's number only.
    node = error.node_name() if hasattr(error, "node_name") else f"node {error.node()}"
    return f"{node}: {error.desc()}" if node else str(error.desc())


def _pin_precision(module: Any, network: Any, float32_nodes: Collection[str]) -> None:
    """Every layer's precision from its node's, for a library that does not take it from the graph's types.

    A layer has the name of its node, with a number behind it where a node became several.
    """
    floats = (module.DataType.FLOAT, module.DataType.HALF)
    kinds = module.LayerType
    skipped = (kinds.CONSTANT, kinds.SHAPE, kinds.CAST)
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        outputs = [layer.get_output(k) for k in range(layer.num_outputs)]
        if layer.type in skipped or not outputs:
            continue
        if any(output.dtype not in floats for output in outputs):
            continue
        node = re.sub(r"_\d+$", "", layer.name)
        kind = floats[0] if layer.name in float32_nodes or node in float32_nodes else floats[1]
        layer.precision = kind
        for k, output in enumerate(outputs):
            if not output.is_network_output:
                layer.set_output_type(k, kind)


def _cast_outputs(library: Library, network: Any, names: Collection[str]) -> None:
    """Puts a cast to uint8 behind outputs, which keep their names."""
    kind = library.module.DataType.UINT8
    for tensor in [network.get_output(i) for i in range(network.num_outputs)]:
        name = tensor.name
        if name not in names:
            continue
        tensor.name = f"{name}/float32"
        network.unmark_output(tensor)
        cast = network.add_cast(tensor, kind).get_output(0)
        cast.name = name
        network.mark_output(cast)
        if not library.strongly_typed:
            cast.dtype = kind


def _configured(
    library: Library, builder: Any, network: Any, graph: Graph, options: BuildOptions
) -> tuple[Any, list[str], Any]:
    """The builder's configuration, the flags it got by name, and its timing cache."""
    module = library.module
    config = builder.create_builder_config()
    flags = ["STRONGLY_TYPED"] if library.strongly_typed else []
    wanted = ["VERSION_COMPATIBLE"] if options.version_compatible else []
    if graph.half and not library.strongly_typed:
        wanted += ["FP16", "OBEY_PRECISION_CONSTRAINTS"]
    if library.compute_capabilities and hasattr(module.BuilderFlag, "REQUIRE_USER_ALLOCATION"):
        # Without it an engine of TensorRT-RTX may allocate memory while it runs, and cannot be recorded.
        wanted.append("REQUIRE_USER_ALLOCATION")
    for name in wanted:
        config.set_flag(getattr(module.BuilderFlag, name))
        flags.append(name)
    flags += _choose_tactics(module, config, TACTICS.index(options.tactics))
    if options.memory_limit is not None:
        config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, options.memory_limit)
        flags.append(f"WORKSPACE={options.memory_limit}")
    if options.hardware_compatibility != "none":
        level = options.hardware_compatibility.upper()
        config.hardware_compatibility_level = getattr(module.HardwareCompatibilityLevel, level)
        flags.append(level)
    if library.compute_capabilities and options.compute_capability is not None:
        digits = options.compute_capability.replace(".", "")
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(module.ComputeCapability, f"SM{digits}"), 0)
    timing = None
    if library.timing_cache:
        timing = config.create_timing_cache(options.timing_cache)
        config.set_timing_cache(timing, False)
    for shapes in graph.profiles:
        profile = builder.create_optimization_profile()
        for name, (low, typical, high) in shapes.items():
            profile.set_shape(name, low, typical, high)
        if config.add_optimization_profile(profile) < 0:
            raise EngineError(f"{graph.name}: {library.target} refuses the profile {dict(shapes)}")
    return config, flags, timing


def _choose_tactics(module: Any, config: Any, strictness: int) -> list[str]:
    """Leaves out kernels, the more the stricter (the position in TACTICS); the flags that say so."""
    flags = []
    if strictness >= 1 and hasattr(module.BuilderFlag, "TF32"):
        config.clear_flag(module.BuilderFlag.TF32)
    if hasattr(module.BuilderFlag, "TF32") and config.get_flag(module.BuilderFlag.TF32):
        # Operands of the exact graphs are integers up to 2^11, which TF32 holds.
        flags.append("TF32")
    sources = _EXTERNAL_TACTICS + (_SPECIAL_TACTICS if strictness >= 2 else ())
    named = [name for name in sources if hasattr(module.TacticSource, name)]
    off = sum(1 << int(getattr(module.TacticSource, name)) for name in named)
    if off:
        config.set_tactic_sources(config.get_tactic_sources() & ~off)
    if strictness >= 3 and hasattr(config, "builder_optimization_level"):
        config.builder_optimization_level = 0
    return flags + [TACTICS[strictness].upper()] * (strictness > 0)


def _failure(library: Library, graph: Graph, log: Any, what: str) -> BuildError:
    said = [line for line in log.lines if "[ERROR]" in line or "[INTERNAL_ERROR]" in line] or [
        line for line in log.lines if "[WARNING]" in line
    ]
    last = "; it said: " + " | ".join(said[-2:]) if said else ""
    cuda = any("CUDA" in line for line in said)
    hint = (
        "it needs an NVIDIA GPU and driver: build there, or for --targets tensorrt-rtx"
        if cuda and not library.compute_capabilities
        else "the cause may stand earlier in its log"
    )
    message = f"{library.target} {library.version} cannot build {graph.name}: {what}{last}"
    return BuildError(message, hint=hint, log=log.lines)


def _logger(module: Any, started: float) -> Any:
    class Log(module.ILogger):  # type: ignore[misc]
        """Keeps every line with the seconds since the start, and prints none."""

        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            level = str(getattr(severity, "name", severity)).rpartition(".")[2]
            if level != "VERBOSE":
                self.lines.append(f"{time.perf_counter() - started:9.3f} s [{level}] {message}")

    return Log()


def _monitor(module: Any, started: float, on_phase: OnPhase) -> Any:
    class Monitor(module.IProgressMonitor):  # type: ignore[misc]
        """An exception of the callback (Ctrl-C, say) cancels the build and is raised after it."""

        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)
            self.error: BaseException | None = None

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            try:
                on_phase(name, time.perf_counter() - started)
            except BaseException as error:
                self.error = error

        def step_complete(self, name: str, step: int) -> bool:
            return self.error is None

        def phase_finish(self, name: str) -> None:
            return

    return Monitor()
