"""The TensorRT runner: its bookkeeping on a CUDA in host memory, what it says without a GPU, and with one the lot."""

from __future__ import annotations

import dataclasses
import gc
import os
import shutil
import time
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import require
from host_cuda import Context, Engine, HostCuda, module_of
from hypothesis import given
from hypothesis import strategies as st

from s2c_deploy.arrays import FloatArray, Pixels
from s2c_deploy.bench.row import Row
from s2c_deploy.bench.stages import StageClock, TimedRunner
from s2c_deploy.bench.worker import Setup, _Session
from s2c_deploy.codec.codec import Codec
from s2c_deploy.codec.networks import Networks, choose_for, open_graph
from s2c_deploy.codec.transforms import to_pixels
from s2c_deploy.errors import DependencyError, EngineError
from s2c_deploy.formats.bundle import Bundle, exact_graphs, graph_names, load_arrays, open_bundle
from s2c_deploy.formats.manifest import KNOWN_ANSWERS
from s2c_deploy.host import Host, this_host
from s2c_deploy.runtime import backend_status, backends, choose_backend, open_runner
from s2c_deploy.runtime.probe import compare, known_probes
from s2c_deploy.runtime.profiles import Profile
from s2c_deploy.runtime.runner import Runner, TensorSpec
from s2c_deploy.tensorrt import cuda_memory
from s2c_deploy.tensorrt import runner as tensorrt_runner
from s2c_deploy.tensorrt.build import build_bundle
from s2c_deploy.tensorrt.cuda_memory import Buffer, DeviceArray, Stream, load_cuda
from s2c_deploy.tensorrt.identity import Identity
from s2c_deploy.tensorrt.library import Library, load_library
from s2c_deploy.tensorrt.profile_shapes import ProfileShapes, choose_profile, largest_batch, split_batch
from s2c_deploy.tensorrt.runner import TensorRTRunner, open_engine
from s2c_deploy.tensorrt.store import EngineStore, VerifiedEngine
from s2c_deploy.verify.cross import cross_decode

SMALL = Profile(min=(64, 64), opt=(128, 64), max=(192, 128))
NO_GPU = this_host().compute_capability is None
without_gpu = pytest.mark.skipif(not NO_GPU, reason="there is a GPU here")


@pytest.fixture
def bundle(bundle_path: Path, tmp_path: Path) -> Bundle:
    shutil.copytree(bundle_path, tmp_path / "conv-tiny", copy_function=os.link)
    return open_bundle(tmp_path / "conv-tiny")


# shapes and profiles

sides = st.integers(1, 9)
shapes = st.tuples(st.just(1), st.just(5), sides, sides)


@given(st.lists(shapes, min_size=3, max_size=3), shapes)
def test_a_profile_admits_what_lies_between(corners: list[tuple[int, ...]], shape: tuple[int, ...]) -> None:
    low, typical, high = (tuple(sorted(c[i] for c in corners)[k] for i in range(4)) for k in range(3))
    profile = ProfileShapes(bounds={"x": (low, typical, high)})
    inside = all(low[i] <= shape[i] <= high[i] for i in range(4))
    assert profile.admits({"x": shape}) == inside
    assert not profile.admits({"x": shape[1:]})
    if inside:
        assert choose_profile([profile], {"x": shape}) == 0
    else:
        with pytest.raises(EngineError, match=r"the engine serves x \(1, 5, .*; found x \(1, 5, .*--profile"):
            choose_profile([profile], {"x": shape})


def test_a_profile_tuned_for_the_shape_is_preferred() -> None:
    wide = ProfileShapes(bounds={"x": ((1, 1), (1, 4), (1, 9))})
    exact = ProfileShapes(bounds={"x": ((1, 6), (1, 6), (1, 6))})
    assert choose_profile([wide, exact], {"x": (1, 6)}) == 1
    assert choose_profile([wide, exact], {"x": (1, 7)}) == 0


def test_the_largest_batch_is_that_of_a_profile_that_admits_the_size() -> None:
    one = ProfileShapes(bounds={"x": ((1, 5, 1, 1), (1, 5, 4, 4), (1, 5, 9, 9))})
    four = ProfileShapes(bounds={"x": ((1, 5, 4, 4), (4, 5, 4, 4), (4, 5, 4, 4))})
    for batch in (1, 3, 7):
        assert largest_batch([one, four], {"x": (batch, 5, 4, 4), "gain": (1, 5)}) == 4
        assert largest_batch([one, four], {"x": (batch, 5, 8, 8)}) == 1
    assert largest_batch([four], {"x": (1, 5, 8, 8)}) == 1, "and the call is refused"


@given(st.integers(1, 9), st.integers(1, 4))
def test_batches_are_divided_and_stay_whole(total: int, limit: int) -> None:
    x = np.arange(total * 3, dtype=np.float32).reshape(total, 3)
    gain = np.ones((1, 3), np.float32)
    specs = [TensorSpec(name="x", shape=(None, 3)), TensorSpec(name="gain", shape=(1, 3))]
    parts = list(split_batch({"x": x, "gain": gain}, specs, limit))
    assert all(1 <= len(part["x"]) <= limit and part["gain"] is gain for part in parts)
    np.testing.assert_array_equal(np.concatenate([part["x"] for part in parts]), x)


def test_inputs_of_different_batches_are_refused() -> None:
    specs = [TensorSpec(name=name, shape=(None, 3)) for name in "ab"]
    inputs = {"a": np.ones((2, 3), np.float32), "b": np.ones((1, 3), np.float32)}
    with pytest.raises(EngineError, match=r"expected one batch, found \[1, 2\]"):
        list(split_batch(inputs, specs, 1))


# memory


def test_a_buffer_grows_and_gives_everything_back() -> None:
    cuda: Any = HostCuda()
    room = cuda.room
    buffer = Buffer(cuda)
    buffer.reserve(6)
    address = buffer.device
    buffer.view((2, 3))[:] = 1
    buffer.reserve(5)
    assert buffer.device == address, "what is large enough stays"
    buffer.reserve(7)
    assert cuda.room == room - 2 * 7 * 4
    del buffer
    gc.collect()
    assert cuda.room == room


def test_a_failed_call_is_named_and_leaves_nothing_behind() -> None:
    cuda: Any = HostCuda(room=100)
    buffer = Buffer(cuda)
    with pytest.raises(EngineError, match="cudaMalloc: out of memory"):
        buffer.reserve(26)
    with pytest.raises(EngineError, match="cudaHostAlloc: out of memory"):
        buffer.reserve(15)
    assert cuda.room == 100
    buffer.reserve(12)
    assert cuda.room == 4


def test_a_recording_that_fails_is_ended() -> None:
    cuda: Any = HostCuda()
    stream = Stream(cuda)
    with pytest.raises(ValueError, match="inside"), stream.recording():
        raise ValueError("inside")
    assert cuda.recorded is None
    stream.synchronize()


@without_gpu
def test_the_real_runtime_says_that_there_is_no_gpu() -> None:
    cuda = require("cuda.bindings.runtime")
    with pytest.raises(EngineError, match=r"cudaStreamCreateWithFlags: .*driver"):
        Stream(cuda)
    buffer = Buffer(cuda)
    with pytest.raises(EngineError, match=r"cudaMalloc: .*driver"):
        buffer.reserve(10)


def test_the_real_runtime_has_every_call() -> None:
    cuda = require("cuda.bindings.runtime")
    used = {name for name in vars(HostCuda) if name.startswith("cuda")}
    assert len(used) > 15
    assert not {name for name in used if not hasattr(cuda, name)}


@without_gpu
def test_the_real_runtime_takes_these_arguments() -> None:
    """A wrong number or type of arguments is a TypeError before the driver is missed."""
    cuda = require("cuda.bindings.runtime")
    kind = cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
    mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    graph, executable = cuda.cudaGraph_t(0), cuda.cudaGraphExec_t(0)
    calls: dict[str, tuple[Any, ...]] = {
        "cudaMemcpyAsync": (4096, 8192, 16, kind, 7),
        "cudaStreamBeginCapture": (7, mode),
        "cudaStreamEndCapture": (7,),
        "cudaStreamSynchronize": (7,),
        "cudaHostAlloc": (64, 0),
        "cudaGraphInstantiate": (graph, 0),
        "cudaGraphLaunch": (executable, 7),
    }
    for name, arguments in calls.items():
        with pytest.raises(EngineError, match=rf"{name}: .*driver"):
            cuda_memory.call(cuda, name, *arguments)
    with pytest.raises(EngineError, match=r"cudaEventCreate: .*driver"):
        cuda_memory.call(cuda, "cudaEventCreate")
    event = cuda.cudaEvent_t(0)
    assert len(cuda.cudaEventRecord(event, 7)) == len(cuda.cudaEventSynchronize(event)) == 1
    assert len(cuda.cudaEventElapsedTime(event, event)) == 2
    for name, argument in (("cudaGraphDestroy", graph), ("cudaGraphExecDestroy", executable), ("cudaFree", 0)):
        assert len(getattr(cuda, name)(argument)) == 1
    assert int(cuda.cudaStream_t(7)) == 7


def test_a_missing_cuda_python_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ModuleType:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(cuda_memory, "import_module", missing)
    with pytest.raises(DependencyError, match=r"cuda-bindings is not installed .*s2c-deploy\[tensorrt\]"):
        load_cuda()


# the runner, in host memory


class Stand:
    """A runner of a graph on a CUDA in host memory."""

    def __init__(
        self,
        bundle: Bundle,
        graph: str,
        profiles: list[Profile],
        monkeypatch: pytest.MonkeyPatch,
        precision: str = "float32",
        cuda: Any = None,
    ) -> None:
        self.cuda: Any = cuda if cuda is not None else HostCuda()
        monkeypatch.setattr(tensorrt_runner, "load_cuda", lambda: self.cuda)
        inputs = bundle.manifest["graphs"][graph]["inputs"]
        self.engine = Engine(self.cuda, bundle.graph(graph, precision), inputs, profiles)
        self.library = Library(
            target="tensorrt",
            module=module_of(self.engine),
            version="0",
            tag="trt",
            strongly_typed=True,
            compute_capabilities=(),
            progress=False,
            timing_cache=False,
            hardware_compatibility=(),
        )
        self.runner = TensorRTRunner(self.library, VerifiedEngine(identity=identity_of(graph, precision), data=b""))


def identity_of(graph: str, precision: str = "float32") -> Identity:
    texts = {field.name: "0" for field in dataclasses.fields(Identity)}
    return Identity(**{**texts, "graph": graph, "precision": precision, "gpu": "a GPU"})  # type: ignore[arg-type]


def latents(rows: int, columns: int, seed: int = 0) -> dict[str, FloatArray]:
    return {"z_hat": np.random.default_rng(seed).integers(-50, 50, (1, 96, rows, columns)).astype(np.float32)}


def test_every_graph_gives_its_known_answers(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = load_arrays(bundle.path / KNOWN_ANSWERS)
    for name in graph_names(bundle.config):
        stand = Stand(bundle, name, [SMALL], monkeypatch)
        exact = name in exact_graphs(bundle.config)
        # Those over the full range come in a batch of four, which an engine of one picture takes in four calls.
        for probe in known_probes(name, answers, exact=exact) * 3:
            assert compare(name, stand.runner, probe, exact=exact).failure is None
        stand.runner.close()
        assert not stand.cuda.memory
        assert stand.cuda.streams == 0


def test_calls_are_recorded_and_recorded_again_for_other_shapes(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = Stand(bundle, "h_s", [SMALL], monkeypatch)
    runner, cuda = stand.runner, stand.cuda
    states = []
    with open_runner(bundle.graph("h_s"), backend="onnxruntime") as reference:
        # Small, large (buffers grow), small again: the recording must not outlive its shapes and addresses.
        for i, size in enumerate([(1, 2), (1, 2), (1, 2), (2, 3), (2, 3), (1, 2), (1, 2), (1, 2)]):
            inputs = latents(*size, seed=i)
            found = runner(inputs)
            np.testing.assert_array_equal(found["hyper"], reference(inputs)["hyper"])
            states.append(runner.recorded)
    assert states == [False, True, True, False, True, False, True, True]
    assert cuda.calls.count("cudaGraphInstantiate") == cuda.calls.count("cudaGraphExecDestroy") + 1 == 3
    assert cuda.calls.count("cudaGraphLaunch") == 5
    assert cuda.calls.count("cudaMalloc") == 4, "input and output, at two sizes"
    runner.close()


@pytest.mark.parametrize("batch", [1, 4])
def test_a_picture_in_tiles_of_some_sizes(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, small_photograph: Pixels, batch: int
) -> None:
    """The whole codec: shapes change from tile to tile and back, and every value stays what ONNX Runtime computes.

    Tiles of 64 are three in a row, which an engine for four at a time decodes together; one of 128 and what is left
    beside it are not of one size, and go through it apart.
    """

    device: Any = HostCuda()

    class Stood(Networks):
        def open_graph(self, graph: str) -> Runner:
            profiles = [SMALL, Profile.parse(f"64x64,64x64,128x128@{batch}")]
            return Stand(self._bundle, graph, profiles, monkeypatch, cuda=device).runner

    # As on a GPU, one thread at a time uses the graphs.
    alone = Stood(bundle, "onnxruntime", threads=1)
    with Codec.open(bundle.path, "onnxruntime") as codec, Codec(bundle, alone) as stood:
        for tile in (0, 128, 64):
            data = codec.compress(small_photograph, 5, tile=tile)
            assert stood.compress(small_photograph, 5, tile=tile) == data
            for _ in range(2):
                np.testing.assert_array_equal(stood.decompress(data), codec.decompress(data))
        assert alone["h_s"]._shapes["z_hat"][0] == {1: 1, 4: 3}[batch]  # type: ignore[attr-defined]
    assert not device.memory
    assert device.streams == 0


def test_what_the_next_graph_reads_stays_on_the_device(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    device: Any = HostCuda()
    h_s, context = (
        Stand(bundle, graph, [SMALL], monkeypatch, cuda=device).runner for graph in ("h_s", "context_0_anchor")
    )
    with (
        open_runner(bundle.graph("h_s"), backend="onnxruntime") as left,
        open_runner(bundle.graph("context_0_anchor"), backend="onnxruntime") as right,
    ):
        for i, size in enumerate([(1, 2), (1, 2), (1, 2), (2, 3), (1, 2)]):
            inputs = latents(*size, seed=i)
            hyper = h_s(inputs)["hyper"]
            assert isinstance(hyper, DeviceArray)
            before = device.calls.count("cudaMemcpyAsync")
            found = context({"hyper": hyper})
            if i == 0:
                assert device.calls.count("cudaMemcpyAsync") == before + 2, "indexes and means come down"
            expected = right({"hyper": left(inputs)["hyper"]})
            for name in ("indexes", "means", "features"):
                np.testing.assert_array_equal(np.asarray(found[name]), expected[name])
            np.testing.assert_array_equal(np.asarray(hyper), left(inputs)["hyper"])
    assert context.recorded is False, "h_s's memory grew: what was recorded with the old addresses is gone"
    h_s(latents(1, 2))
    with pytest.raises(EngineError, match="of an earlier call"):
        np.asarray(hyper)
    with pytest.raises(EngineError, match="of an earlier call"):
        context({"hyper": hyper})


def test_the_same_shapes_from_another_place(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses are part of a recording: an array of the host, then of one runner, then of another."""
    device: Any = HostCuda()
    graphs = ("h_s", "h_s", "context_0_anchor")
    one, other, context = (Stand(bundle, name, [SMALL], monkeypatch, cuda=device).runner for name in graphs)
    with open_runner(bundle.graph("context_0_anchor"), backend="onnxruntime") as reference:
        for seed, runner in enumerate((one, one, other, one, other)):
            hyper = runner(latents(1, 2, seed=seed))["hyper"]
            expected = reference({"hyper": np.asarray(hyper)})
            for given in (hyper, np.asarray(hyper), hyper, hyper, hyper):
                found = context({"hyper": given})
                np.testing.assert_array_equal(found["means"], expected["means"])
            assert context.recorded


def test_pixels_come_as_bytes(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """x_hat stays where it is; the known-answer test asks for it, and holds the pixels against it."""
    stand = Stand(bundle, "g_s", [SMALL], monkeypatch, precision="float16")
    assert {spec.name: str(spec.dtype) for spec in stand.runner.outputs} == {"x_hat": "float32", "pixels": "uint8"}
    (probe,) = known_probes("g_s", load_arrays(bundle.path / KNOWN_ANSWERS), exact=False)
    for _ in range(3):
        assert compare("g_s", stand.runner, probe, exact=False).failure is None
        out = stand.runner(probe.inputs)
        assert isinstance(out["x_hat"], DeviceArray)
        height, width = out["x_hat"].shape[2:]
        np.testing.assert_array_equal(out["pixels"][0], to_pixels(np.asarray(out["x_hat"]), height, width))

    right = stand.engine.compute

    def cut_off(inputs: dict[str, Any]) -> dict[str, Any]:
        """As a cast without rounding would make them."""
        out = right(inputs)
        levels = np.clip(out["x_hat"] * 255, 0, 255).transpose(0, 2, 3, 1)
        return {**out, "pixels": levels.astype(np.uint8)}

    monkeypatch.setattr(stand.engine, "compute", cut_off)
    assert "pixels at" in (compare("g_s", stand.runner, probe, exact=False).failure or "")


def test_calls_are_timed_by_stage(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    stand, clock = Stand(bundle, "h_s", [SMALL], monkeypatch), StageClock()
    assert stand.runner.take_times() == []
    timed = TimedRunner(stand.runner, clock, "contexts")
    for _ in range(3):
        timed(latents(1, 2))
    stages, calls = clock.take(), clock.take_calls()
    assert list(calls) == ["contexts"]
    # Where a stream runs at once, what is enqueued is done: the two times are the same work.
    assert 0 < calls["contexts"].enqueue <= stages["contexts"]
    assert 0 < calls["contexts"].device <= stages["contexts"]
    assert clock.take_calls() == {}
    assert stand.runner.take_times() == []
    timed.close()
    assert not stand.cuda.memory


def test_a_row_on_a_gpu_says_what_it_takes_there(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device: Any = HostCuda()
    monkeypatch.setattr(cuda_memory, "load_cuda", lambda: device)
    taken: list[Buffer] = []

    def opened(bundle: Path, weights: Path | None, threads: int) -> Any:
        taken.append(Buffer(device))
        taken[0].reserve(500_000)
        return SimpleNamespace(provider="here", precision="float32")

    for gpu, growth in ((True, 4.0), (False, None)):
        row = Row(name="row", kind="engine", description="", open=opened, wants="here", gpu=gpu)
        setup = Setup(bundle=bundle_path, weights=None, threads=1, folder=bundle_path, variables={})
        session = _Session(row, setup)
        session.open(False)
        assert session.device_growth() == growth
        taken.pop().close()

    def missing() -> None:
        raise DependencyError("cuda-bindings", extra="tensorrt")

    monkeypatch.setattr(cuda_memory, "load_cuda", missing)
    session = _Session(dataclasses.replace(row, gpu=True), setup)
    session.open(False)
    assert session.device_growth() is None, "ONNX Runtime needs no cuda-bindings: its row is not lost for it"


def test_results_are_the_callers_own(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Stand(bundle, "h_s", [SMALL], monkeypatch).runner
    first = np.asarray(runner(latents(1, 2, seed=1))["hyper"])
    kept = first.copy()
    runner(latents(1, 2, seed=2))
    runner.close()
    np.testing.assert_array_equal(first, kept)


def test_an_engine_that_cannot_be_recorded_runs_all_the_same(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(bundle, "h_s", [SMALL], monkeypatch, cuda=HostCuda(capturable=False))
    results = [np.asarray(stand.runner(latents(1, 2))["hyper"]) for _ in range(4)]
    assert all(np.array_equal(result, results[0]) for result in results)
    assert not stand.runner.recorded
    assert stand.cuda.calls.count("cudaGraphInstantiate") == 1, "it is tried once"


def test_a_refused_call_is_an_error_and_no_wrong_result(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(bundle, "h_s", [SMALL], monkeypatch)
    right = np.asarray(stand.runner(latents(1, 2))["hyper"])
    stand.engine.broken = True
    for _ in range(2):
        with pytest.raises(EngineError, match="tensorrt cannot run h_s: call refused"):
            stand.runner(latents(1, 2))
    stand.engine.broken = False
    np.testing.assert_array_equal(stand.runner(latents(1, 2))["hyper"], right)


def test_no_memory_for_a_large_picture_leaves_small_ones_working(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = Stand(bundle, "h_s", [SMALL], monkeypatch, cuda=HostCuda(room=100_000))
    right = np.asarray(stand.runner(latents(1, 2))["hyper"])
    with pytest.raises(EngineError, match=r"cuda\w+: out of memory"):
        stand.runner(latents(2, 3))
    np.testing.assert_array_equal(stand.runner(latents(1, 2))["hyper"], right)


def test_the_profile_follows_the_shapes(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(bundle, "h_s", [SMALL, Profile.parse("256x256")], monkeypatch)
    for size in ((1, 2), (4, 4), (2, 3), (4, 4)):
        assert stand.runner(latents(*size))["hyper"].shape == (1, 192, 4 * size[0], 4 * size[1])
    with pytest.raises(EngineError, match=r"the engine serves z_hat .* or z_hat .*; found z_hat \(1, 96, 5, 5\)"):
        stand.runner(latents(5, 5))


@pytest.mark.parametrize(("graph", "strategy"), [("h_s", "NONE"), ("g_s", "EAGER")])
def test_kernels_do_not_change_behind_the_known_answer_test(
    bundle: Bundle, tensorrt_rtx: ModuleType, monkeypatch: pytest.MonkeyPatch, graph: str, strategy: str
) -> None:
    stand = Stand(bundle, graph, [SMALL], monkeypatch)
    assert stand.engine.config is None, "a library without such kernels is not asked"
    strategies = tensorrt_rtx.DynamicShapesKernelSpecializationStrategy
    module = module_of(stand.engine, DynamicShapesKernelSpecializationStrategy=strategies)
    library = dataclasses.replace(stand.library, module=module)
    TensorRTRunner(library, VerifiedEngine(identity=identity_of(graph), data=b""))
    assert vars(stand.engine.config) == {"dynamic_shapes_kernel_specialization_strategy": getattr(strategies, strategy)}
    assert hasattr(tensorrt_rtx.IRuntimeConfig, "dynamic_shapes_kernel_specialization_strategy")
    assert hasattr(tensorrt_rtx.ICudaEngine, "create_runtime_config")


def test_a_context_that_says_it_cannot_be_recorded_is_not(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Context, "is_stream_capturable", lambda self, stream: False, raising=False)
    stand = Stand(bundle, "h_s", [SMALL], monkeypatch)
    for _ in range(3):
        stand.runner(latents(1, 2))
    assert "cudaStreamBeginCapture" not in stand.cuda.calls


def test_timed_calls_are_recorded_as_others_are(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(bundle, "h_s", [SMALL], monkeypatch)
    stand.runner.watch()
    started = time.perf_counter()
    for _ in range(5):
        stand.runner(latents(1, 2))
    times = stand.runner.take_times()
    assert len(times) == 5
    assert 0 < sum(call.device for call in times) < time.perf_counter() - started
    assert stand.cuda.calls.count("cudaGraphLaunch") == 4
    stand.runner.close()
    assert stand.cuda.calls.count("cudaEventDestroy") == 2


def test_a_tensor_that_is_not_float32_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "get_tensor_dtype", lambda self, name: "half")
    with pytest.raises(EngineError, match="z_hat: expected float32, found half"):
        Stand(bundle, "h_s", [SMALL], monkeypatch)


# without a GPU, with the real libraries


@pytest.fixture
def built(bundle: Bundle, tensorrt_rtx: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """The bundle with a real engine of h_s, for a GPU that may not be here."""
    monkeypatch.setenv("S2C_STATE", str(tmp_path / "state"))
    library = load_library("tensorrt-rtx")
    list(build_bundle(bundle, library, compute_capabilities=["8.6"], graphs=["h_s"], profiles=[SMALL]))
    return bundle


@without_gpu
def test_a_real_engine_needs_a_gpu(built: Bundle, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="tensorrt-rtx cannot run h_s: the CUDA driver shows no GPU"):
        open_graph(built, "h_s", backend="tensorrt-rtx")
    require("cuda.bindings.runtime")
    library = load_library("tensorrt-rtx")
    store = EngineStore(built, versions={library.target: library.version})
    engine = store.load("h_s", target="tensorrt-rtx", precision="float32")
    with pytest.raises(EngineError, match="cudaStreamCreateWithFlags: "):
        TensorRTRunner(library, engine)


@without_gpu
def test_auto_does_not_choose_engines_that_cannot_run(built: Bundle) -> None:
    assert choose_for(built, "auto") == choose_backend("auto") != "tensorrt-rtx"
    Networks(built, "auto").close()


@without_gpu
@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx", "onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_a_backend_without_its_gpu_or_package(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"tensorrt": "tensorrt", "tensorrt-rtx": "rtx"}.get(name, "gpu")
    assert not backend_status(name).usable
    monkeypatch.setattr(backends.util, "find_spec", lambda module: None)
    with pytest.raises(DependencyError, match=rf"is not installed .*s2c-deploy\[{extra}\]"):
        choose_backend(name)
    monkeypatch.setattr(backends.util, "find_spec", lambda module: True)
    monkeypatch.setattr(backends, "installed_version", lambda distribution: "1")
    with pytest.raises(EngineError, match=f"backend {name} cannot run here .*NVIDIA GPU.*use onnxruntime or openvino"):
        choose_backend(name)


# with a GPU


@pytest.fixture(scope="module", params=["tensorrt", "tensorrt-rtx"])
def on_gpu(
    request: pytest.FixtureRequest, gpu: Host, bundle_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Bundle, str]]:
    """A bundle with engines of every graph for this GPU, and their target."""
    target = request.param
    if util.find_spec(target.replace("-", "_")) is None:
        pytest.skip(f"{target} is not installed")
    library = load_library(target)
    if library.compute_capabilities and gpu.compute_capability not in library.compute_capabilities:
        pytest.skip(f"{target} does not know {gpu.gpu}")
    folder = tmp_path_factory.mktemp("gpu")
    shutil.copytree(bundle_path, folder / "conv-tiny", copy_function=os.link)
    bundle = open_bundle(folder / "conv-tiny")
    profile = Profile.parse("64x64,192x128,768x512")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S2C_STATE", str(folder / "state"))
        for made in build_bundle(bundle, library, profiles=[profile]):
            assert "768x512" in made.checked or made.identity.precision == "float16"
        yield bundle, target


def test_gpu_symbols_are_the_cpus(on_gpu: tuple[Bundle, str], photograph: Pixels) -> None:
    bundle, target = on_gpu
    for agreement in cross_decode(bundle, [photograph], [1, 5], [target, "onnxruntime"]):
        assert agreement.agrees, agreement


def test_gpu_recordings_give_the_same_values(on_gpu: tuple[Bundle, str]) -> None:
    bundle, target = on_gpu
    with open_engine(bundle, "h_s", target=target, precision="float32") as runner:
        results = {size: runner(latents(*size))["hyper"] for size in ((1, 2), (2, 3))}
        for size in ((1, 2), (1, 2), (1, 2), (2, 3), (2, 3), (1, 2)):
            np.testing.assert_array_equal(runner(latents(*size))["hyper"], results[size])


def test_gpu_is_what_auto_chooses(on_gpu: tuple[Bundle, str], small_photograph: Pixels) -> None:
    bundle, target = on_gpu
    with Codec.open(bundle.path) as fast, Codec.open(bundle.path, "onnxruntime") as slow:
        assert fast.backend == target
        assert fast._networks["g_s"].precision == "float16"
        data = slow.compress(small_photograph, 5)
        difference = np.abs(fast.decompress(data).astype(int) - slow.decompress(data))
    assert difference.max() <= 4
