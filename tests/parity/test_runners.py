"""The three engines on a bundle's graphs: the same integers from each, and errors that say what is wrong."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from forging import seal
from onnx import numpy_helper

from s2c_deploy.codec.codec import Codec
from s2c_deploy.codec.networks import Networks
from s2c_deploy.errors import DependencyError, EngineError, InputError
from s2c_deploy.formats.bundle import Bundle, exact_graphs, graph_names, load_arrays, npz_bytes, open_bundle
from s2c_deploy.formats.manifest import KNOWN_ANSWERS
from s2c_deploy.runtime import Runner, backend_status, backends, choose_backend, open_runner, probe
from s2c_deploy.runtime.probe import FULL_RANGE, TOLERANCE, compare, probe_arrays, probe_from_arrays

ENGINES = ("torch", "onnxruntime", "openvino")
Array = npt.NDArray[np.float32]
#: Changes the bytes of a file of a copied bundle, which still opens.
Sabotage = Callable[[str, Callable[[bytes], bytes]], Bundle]
#: The largest latent, in 1/16 steps, that a stream can hold: a symbol of 32767 on a mean of 2047.
LARGEST_LATENT = 16 * 32767 + 16 * 2047
#: Proven ranges of every input of the exact graphs.
RANGES = {
    "z_hat": (-127, 127),
    "hyper": (0, 255),
    "features": (-(2**15) + 1, 2**15 - 1),
    "y_prev": (-LARGEST_LATENT, LARGEST_LATENT),
    "y_cur": (-LARGEST_LATENT, LARGEST_LATENT),
}


@pytest.fixture(scope="module")
def bundle(bundle_path: Path) -> Bundle:
    return open_bundle(bundle_path)


@pytest.fixture(scope="module", params=ENGINES)
def runners(request: pytest.FixtureRequest, bundle: Bundle) -> Iterator[dict[str, Runner]]:
    """Every graph on one engine; the first test of each engine pays for the opening."""
    opened = {name: open_runner(bundle.graph(name), backend=request.param) for name in graph_names(bundle.config)}
    yield opened
    for runner in opened.values():
        runner.close()


def test_what_a_runner_says_of_itself(runners: dict[str, Runner], bundle: Bundle) -> None:
    for name, runner in runners.items():
        assert runner.backend in ENGINES
        assert runner.provider.split()[0] == runner.backend
        assert runner.provider.split()[-1] in ("CPU", "CPUExecutionProvider")
        assert runner.precision == "float32"
        for side in ("inputs", "outputs"):
            found = [(spec.name, spec.shape) for spec in getattr(runner, side)]
            listed = bundle.manifest["graphs"][name][side]
            shapes = [tuple(d if isinstance(d, int) else None for d in tensor["shape"]) for tensor in listed]
            assert found == [(tensor["name"], shape) for tensor, shape in zip(listed, shapes, strict=True)]


def test_known_answers(runners: dict[str, Runner], bundle: Bundle) -> None:
    answers = load_arrays(bundle.path / KNOWN_ANSWERS)
    for name, runner in runners.items():
        exact = name in exact_graphs(bundle.config)
        comparison = compare(name, runner, probe_from_arrays(name, answers), exact=exact)
        assert comparison.failure is None
        assert comparison.differing == 0 or not exact
        assert comparison.largest < TOLERANCE["float32"] / 10


def inputs_of(shapes: dict[str, tuple[int, ...]], kind: str, seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    inputs = {}
    for name, shape in shapes.items():
        low, high = RANGES[name]
        if kind == "ends":
            array = rng.choice([low, high], shape)
        elif kind == "equal":
            array = np.full(shape, high)
        else:
            array = rng.integers(low, high, shape, endpoint=True)
        inputs[name] = array.astype(np.float32)
    return inputs


@pytest.fixture(scope="module")
def questions(bundle: Bundle) -> list[tuple[str, dict[str, Array], dict[str, Array]]]:
    """Graph, random integer inputs over their proven ranges at two sizes, and PyTorch's answers to them."""
    asked = []
    for name in exact_graphs(bundle.config):
        with open_runner(bundle.graph(name), backend="torch") as reference:
            for i, (rows, columns) in enumerate(((4, 4), (8, 20))):
                for kind in ("random", "ends", "equal"):
                    sides = (rows // 4, columns // 4) if name == "h_s" else (rows, columns)
                    shapes = {spec.name: (1, int(spec.shape[1] or 0), *sides) for spec in reference.inputs}
                    inputs = inputs_of(shapes, kind, i)
                    asked.append((name, inputs, reference(inputs)))
    return asked


def test_exact_graphs_agree_over_their_whole_ranges(
    runners: dict[str, Runner], questions: list[tuple[str, dict[str, Array], dict[str, Array]]]
) -> None:
    for name, inputs, expected in questions:
        found = runners[name](inputs)
        assert found.keys() == expected.keys()
        for output, array in expected.items():
            assert array.dtype == found[output].dtype == np.float32
            assert (array == np.rint(array)).all()
            assert int((found[output] != array).sum()) == 0, (runners[name].provider, name, output)
        if "indexes" in expected:
            assert 0 <= expected["indexes"].min() <= expected["indexes"].max() <= 63
            assert np.abs(expected["means"]).max() <= 16 * 2047
    # Not all the same: the questions are worth asking.
    assert any(expected["indexes"].std() > 5 for _, _, expected in questions if "indexes" in expected)


@pytest.mark.parametrize("backend", ENGINES)
def test_threads_and_memory_layout_do_not_matter(bundle: Bundle, backend: str) -> None:
    answers = load_arrays(bundle.path / KNOWN_ANSWERS)
    for threads, last in ((1, False), (2, True)):
        for name in ("h_s", "context_4_anchor"):
            graph = bundle.graph(name)
            with open_runner(graph, backend=backend, threads=threads, channels_last=last) as runner:
                assert compare(name, runner, probe_from_arrays(name, answers), exact=True).differing == 0


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no such question outside Linux")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("backend", ENGINES)
def test_no_thread_is_bound_to_a_core(bundle: Bundle, backend: str, threads: int) -> None:
    """Two processes that each bind to the first core share it, however many cores there are."""
    usable, caller = os.sched_getaffinity(0), threading.get_native_id()
    if len(usable) < 2:
        pytest.skip("one core only")
    inputs = probe_from_arrays("g_s", load_arrays(bundle.path / KNOWN_ANSWERS)).inputs

    def watch() -> set[frozenset[int]]:
        seen = set()
        for _ in range(200):
            seen.add(frozenset(os.sched_getaffinity(caller)))
            time.sleep(0.001)
        return seen

    runner = open_runner(bundle.graph("g_s"), backend=backend, threads=threads)
    with ThreadPoolExecutor(1) as pool, runner:
        runner(inputs)
        watching = pool.submit(watch)
        while not watching.done():
            runner(inputs)
        assert watching.result() == {frozenset(usable)}


# wrong calls


def test_wrong_inputs_are_refused(runners: dict[str, Runner], bundle: Bundle) -> None:
    runner = runners["context_1_anchor"]
    good = dict(probe_from_arrays("context_1_anchor", load_arrays(bundle.path / KNOWN_ANSWERS)).inputs)
    hyper = good["hyper"]
    wrong: list[tuple[dict[str, Array], str]] = [
        ({"hyper": hyper}, r"expected \['hyper', 'y_prev'\], found \['hyper'\]"),
        ({**good, "more": hyper}, r"found \['hyper', 'more', 'y_prev'\]"),
        ({}, r"found \[\]"),
        ({**good, "hyper": hyper[:, :5]}, r"input hyper: expected float32 .*192.*, found float32 \(1, 5, 8, 12\)"),
        ({**good, "hyper": hyper[0]}, r"input hyper: .* found float32 \(192, 8, 12\)"),
        ({**good, "hyper": hyper.astype(np.float64)}, r"input hyper: .* found float64"),  # type: ignore[dict-item]
        ({**good, "y_prev": good["y_prev"].astype(np.int32)}, r"input y_prev: .* found int32"),  # type: ignore[dict-item]
    ]
    for inputs, message in wrong:
        with pytest.raises(EngineError, match=message):
            runner(inputs)
    # Each fits by itself, but they do not fit each other: the engine finds out.
    with pytest.raises(EngineError, match=runner.backend):
        runner({**good, "hyper": np.ascontiguousarray(hyper[:, :, :6])})
    assert runner(good).keys() == {"features", "indexes", "means"}


@pytest.mark.parametrize("backend", ENGINES)
def test_a_call_that_failed_spoils_no_later_one(bundle: Bundle, backend: str) -> None:
    """Whatever came before it, and whoever else is calling."""
    good = dict(probe_from_arrays("context_1_anchor", load_arrays(bundle.path / KNOWN_ANSWERS)).inputs)
    bad = {**good, "hyper": np.ascontiguousarray(good["hyper"][:, :, :6])}

    def attempt(inputs: dict[str, Array]) -> bool:
        try:
            found = runner(inputs)
        except EngineError:
            return inputs is bad
        return inputs is good and all((found[name] == right[name]).all() for name in right)

    with open_runner(bundle.graph("context_1_anchor"), backend=backend, threads=1) as runner:
        right = runner(good)
        assert all(attempt(inputs) for inputs in (good, bad, good, bad, bad, good))
        with ThreadPoolExecutor(4) as threads:
            assert all(threads.map(attempt, [good, bad, good, good] * 10))


@pytest.mark.parametrize("backend", ENGINES)
def test_unusable_files_are_refused(bundle: Bundle, tmp_path: Path, backend: str) -> None:
    good = bundle.graph("h_s").read_bytes()
    file = tmp_path / "h_s.onnx"
    for data in (b"", b"not an ONNX file at all" * 50, good[: len(good) // 2]):
        file.write_bytes(data)
        with pytest.raises(EngineError, match=r"h_s\.onnx"):
            open_runner(file, backend=backend)
    with pytest.raises(EngineError, match=r"nowhere\.onnx"):
        open_runner(tmp_path / "nowhere.onnx", backend=backend)
    model = onnx.load_from_string(good)
    model.graph.node[0].op_type = "Convolve"
    onnx.save(model, file)
    with pytest.raises(EngineError, match="Convolve"):
        open_runner(file, backend=backend)


# choosing


def test_choosing_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_backend("auto") == "openvino"
    for name in ENGINES:
        assert choose_backend(name) == name
        assert backend_status(name).version
    with pytest.raises(InputError, match=r"expected auto, openvino, .* found 'cuda'"):
        choose_backend("cuda")
    with pytest.raises(InputError, match="found 'cuda'"):
        open_runner(Path("h_s.onnx"), backend="cuda")

    find, missing = backends.util.find_spec, {"openvino"}
    monkeypatch.setattr(backends.util, "find_spec", lambda name: None if name in missing else find(name))
    with pytest.raises(DependencyError, match=r"openvino is not installed .*s2c-deploy\[openvino\]"):
        choose_backend("openvino")
    assert choose_backend("auto") == "onnxruntime"
    missing |= {"onnxruntime"}
    with pytest.raises(DependencyError, match=r"onnxruntime is not installed .*s2c-deploy\[cpu\]"):
        choose_backend("onnxruntime")
    assert choose_backend("auto") == "torch"
    missing |= {"torch"}
    with pytest.raises(DependencyError, match=r"no engine .*s2c-deploy\[cpu\]"):
        choose_backend("auto")
    status = backend_status("torch")
    assert (status.version, status.usable) == (None, False)
    assert "s2c-deploy[export]" in status.advice


def test_running_graphs_on_torch_needs_onnx_too(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    find = backends.util.find_spec
    monkeypatch.setattr(backends.util, "find_spec", lambda name: None if name == "onnx" else find(name))
    with pytest.raises(DependencyError, match=r"onnx is not installed .*s2c-deploy\[export\]"):
        open_runner(bundle.graph("h_s"), backend="torch")


# the known-answer test


@pytest.fixture
def sabotaged(bundle_path: Path, tmp_path: Path) -> Sabotage:
    """Changes a file of a copy of the bundle, and the manifest with it, so that it opens."""

    def change(file: str, edit: Callable[[bytes], bytes]) -> Bundle:
        copy = Path(shutil.copytree(bundle_path, tmp_path / "copy"))
        data = edit((copy / file).read_bytes())
        (copy / file).write_bytes(data)
        seal(copy)
        return open_bundle(copy)

    return change


def one_step_more(layer: str, channel: int) -> Callable[[bytes], bytes]:
    """Changes one bias of a graph by as much as one step of its output."""

    def edit(data: bytes) -> bytes:
        model = onnx.load_from_string(data)
        tensors = {t.name: t for t in model.graph.initializer}
        bias = numpy_helper.to_array(tensors[f"{layer}.bias"]).copy()
        bias[channel] += 1 / numpy_helper.to_array(tensors[f"{layer}.scale"])[0, channel, 0, 0]
        tensors[f"{layer}.bias"].CopyFrom(numpy_helper.from_array(bias, f"{layer}.bias"))
        return model.SerializeToString()

    return edit


@pytest.mark.parametrize("backend", ENGINES)
def test_a_sabotaged_graph_fails_its_known_answers(
    sabotaged: Sabotage,
    bundle: Bundle,
    small_photograph: npt.NDArray[np.uint8],
    backend: str,
) -> None:
    bad = sabotaged("context_2_anchor.onnx", one_step_more("context_2.mix", 7))
    assert bad.fingerprint != bundle.fingerprint
    networks = Networks(bad, backend)
    assert networks["context_1_anchor"].backend == backend
    place = r"context_2_anchor: features at \(0, 7, 0, 0\): "
    message = rf"{backend} fails the known-answer test: {place}.*, found .*, of {backend} "
    for _ in range(2):  # asking again does not help
        with pytest.raises(EngineError, match=message):
            networks["context_2_anchor"]
    networks.close()
    with Codec.open(bad.path, backend) as codec, pytest.raises(EngineError, match="context_2_anchor"):
        codec.compress(small_photograph)


def test_one_wrong_answer_is_enough(sabotaged: Sabotage, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "TOLERANCE", {"float32": 1.0})  # of float graphs alone
    answers = load_arrays(bundle.path / KNOWN_ANSWERS)

    def edit(_data: bytes) -> bytes:
        answers["h_s/out/hyper"][0, 100, 3, 4] += 1
        return npz_bytes(answers)

    networks = Networks(sabotaged(KNOWN_ANSWERS, edit), "onnxruntime")
    with pytest.raises(EngineError, match=r"h_s: hyper at \(0, 100, 3, 4\): expected \d+, found \d+; 1 values"):
        networks["h_s"]


def test_probes_survive_being_stored(bundle: Bundle) -> None:
    answers = load_arrays(bundle.path / KNOWN_ANSWERS)
    full = [name + FULL_RANGE for name in exact_graphs(bundle.config)]
    stored = {name: probe_from_arrays(name, answers) for name in [*graph_names(bundle.config), *full]}
    assert probe_arrays(stored).keys() == answers.keys()
    assert all(each.inputs and each.outputs for each in stored.values())
