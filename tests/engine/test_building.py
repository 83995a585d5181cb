"""Engines built for real with TensorRT-RTX, on a machine that needs no GPU; and what is said where that fails."""

from __future__ import annotations

import json
import os
import shutil
from importlib import util
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import onnx
import pytest
from commands import Run
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pil
from safetensors.torch import save_file
from untrained import checkpoint_of

from s2c_deploy.arrays import Pixels
from s2c_deploy.errors import EngineError, InputError
from s2c_deploy.formats.bundle import Bundle, graph_names, open_bundle
from s2c_deploy.models.checkpoint import CALIBRATION
from s2c_deploy.presets import model_config
from s2c_deploy.runtime.profiles import Profile
from s2c_deploy.tensorrt import BuildOptions, load_library
from s2c_deploy.tensorrt import compile as builder
from s2c_deploy.tensorrt.build import Made, Step, build_bundle
from s2c_deploy.tensorrt.compile import Graph, build_engine
from s2c_deploy.tensorrt.library import Library, features_of
from s2c_deploy.tensorrt.trust import Trust

SMALL = Profile(min=(64, 64), opt=(128, 64), max=(192, 128))


@pytest.fixture(scope="module")
def library(tensorrt_rtx: ModuleType) -> Library:
    return load_library("tensorrt-rtx")


@pytest.fixture
def bundle(bundle_path: Path, tmp_path: Path) -> Bundle:
    shutil.copytree(bundle_path, tmp_path / "conv-tiny", copy_function=os.link)
    return open_bundle(tmp_path / "conv-tiny")


# profiles


def test_profiles_as_people_write_them() -> None:
    assert Profile.parse("64x64,768x512,2048x2048") == Profile(min=(64, 64), opt=(768, 512), max=(2048, 2048))
    assert Profile.parse("1920x1080") == Profile(min=(1920, 1088), opt=(1920, 1088), max=(1920, 1088))
    assert str(Profile.parse("1920x1080")) == "1920x1088"
    assert Profile.parse("500x512@4") == Profile(min=(512, 512), opt=(512, 512), max=(512, 512), batch=4)
    batches = ("64x64@", "64x64@0", "64x64@65", "64x64@-1", "64x64@4,64x64,64x64")
    sizes = ("", "64", "64x64,128x128", "0x64", "128x64,64x64,256x256", "64x64x64", "-64x64", "999999x999999")
    for wrong in (*sizes, *batches):
        with pytest.raises(InputError, match="profile"):
            Profile.parse(wrong)


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=3, max_size=3), st.integers(1, 64))
def test_a_profile_is_read_back_from_its_name(sizes: list[tuple[int, int]], batch: int) -> None:
    widths, heights = (sorted(64 * size[i] for size in sizes) for i in (0, 1))
    low, typical, high = zip(widths, heights, strict=True)
    profile = Profile(min=low, opt=typical, max=high, batch=batch)
    assert Profile.parse(str(profile).replace("_", ",")) == profile


def test_shapes_are_those_of_the_known_answers(bundle: Bundle) -> None:
    """Of a picture of 192 x 128, every graph's inputs as the exporter recorded them."""
    from s2c_deploy.formats.bundle import load_arrays
    from s2c_deploy.runtime.probe import probe_from_arrays

    answers = load_arrays(bundle.path / "known_answers.npz")
    profile = Profile.parse("192x128")
    for name in graph_names(bundle.config):
        shapes = profile.shapes(bundle.manifest["graphs"][name]["inputs"])
        inputs = probe_from_arrays(name, answers).inputs
        dynamic = {key: array.shape for key, array in inputs.items() if not key.endswith("gain")}
        assert {key: shape[0] for key, shape in shapes.items()} == dynamic
        fours = Profile.parse("192x128@4").shapes(bundle.manifest["graphs"][name]["inputs"])
        batches = [[shape[0] for shape in corners] for corners in fours.values()]
        assert batches == [[1, 4, 4]] * len(dynamic)
        assert {key: (1, *high[1:]) for key, (_, _, high) in fours.items()} == dynamic
        assert all(shape[0] == shape[1] == shape[2] for shape in shapes.values())


# features


def members(*names: str) -> SimpleNamespace:
    return SimpleNamespace(__members__=dict.fromkeys(names), **dict.fromkeys(names))


def test_features_of_tensorrt_8_6() -> None:
    """Its names, as listed from the real module."""
    module = SimpleNamespace(
        __version__="8.6.0",
        NetworkDefinitionCreationFlag=members("EXPLICIT_BATCH", "EXPLICIT_PRECISION"),
        HardwareCompatibilityLevel=members("NONE", "AMPERE_PLUS"),
        IBuilderConfig=SimpleNamespace(create_timing_cache=None, hardware_compatibility_level=None),
    )
    found = features_of(module, target="tensorrt", tag="trt")
    assert not found.strongly_typed
    assert not found.progress
    assert found.timing_cache
    assert found.compute_capabilities == ()
    assert found.hardware_compatibility == ("ampere_plus",)


def test_features_of_tensorrt_rtx(library: Library) -> None:
    assert library.strongly_typed
    assert library.progress
    assert not library.timing_cache
    assert {"7.5", "8.6", "8.9", "12.0"} <= set(library.compute_capabilities)
    assert library.version == library.module.__version__


# building


def build(bundle: Bundle, library: Library, tmp_path: Path, **options: Any) -> list[Made]:
    return list(build_bundle(bundle, library, profiles=[SMALL], trust=Trust(tmp_path / "state"), **options))


def test_every_graph_for_three_gpus(bundle: Bundle, library: Library, tmp_path: Path) -> None:
    steps: list[Step] = []
    made = build(bundle, library, tmp_path, compute_capabilities=["8.6", "8.9", "12.0"], progress=steps.append)
    names = graph_names(bundle.config)
    assert [(m.identity.graph, m.identity.compute_capability) for m in made] == [
        (name, capability) for capability in ("8.6", "8.9", "12.0") for name in names
    ]
    for m in made:
        half = m.identity.graph in ("g_a", "h_a", "g_s")
        assert m.identity.precision == ("float16" if half else "float32")
        assert m.seconds > 0
    assert len({m.identity.sha256 for m in made}) == len(made)
    assert {(step.number, step.total) for step in steps} == {(i, 42) for i in range(1, 43)}
    assert any(step.phase and step.seconds > 0 for step in steps), "phases are reported while an engine is built"
    # Again: nothing is built; with another profile everything would be.
    again = build(bundle, library, tmp_path, compute_capabilities=["8.6"])
    assert [m.identity for m in again] == [m.identity for m in made[:14]]
    assert not any(m.seconds for m in again)
    forced = build(bundle, library, tmp_path, compute_capabilities=["8.6"], graphs=["h_a"], force=True)
    assert forced[0].seconds > 0
    assert forced[0].path == made[1].path


def test_fp16_engines_hold_half_the_bytes_of_weights(bundle: Bundle, library: Library, tmp_path: Path) -> None:
    sizes = {
        precision: build(bundle, library, tmp_path, compute_capabilities=["8.6"], graphs=["g_s"], precision=precision)[
            0
        ].identity.size
        for precision in ("float32", "float16")
    }
    weights = bundle.graph("g_s").stat().st_size
    assert sizes["float32"] - sizes["float16"] == pytest.approx(weights / 2, rel=0.05)


def test_indexes_come_as_bytes(bundle: Bundle, library: Library) -> None:
    log = builder._logger(library.module, 0)
    maker = library.module.Builder(log)
    for name, casts in (("context_0_anchor", {"indexes"}), ("h_s", set())):
        graph = Graph(name=name, data=bundle.graph(name).read_bytes(), profiles=[], uint8_outputs=("indexes",))
        network = builder._parsed(library, maker, graph, log)
        outputs = [network.get_output(i) for i in range(network.num_outputs)]
        kinds = {True: library.module.DataType.UINT8, False: library.module.DataType.FLOAT}
        named = {spec["name"] for spec in bundle.manifest["graphs"][name]["outputs"]}
        assert {output.name for output in outputs} == named
        assert {output.name: output.dtype for output in outputs} == {n: kinds[n in casts] for n in named}


def test_several_profiles_in_one_engine(bundle: Bundle, library: Library, tmp_path: Path) -> None:
    sizes = [SMALL, Profile.parse("256x256")]
    (made,) = build_bundle(
        bundle,
        library,
        compute_capabilities=["8.6"],
        graphs=["h_s"],
        profiles=sizes,
        options=BuildOptions(memory_limit=1 << 28),
        trust=Trust(tmp_path / "state"),
    )
    assert made.identity.profiles == ("64x64_128x64_192x128", "256x256")
    assert made.path.name.endswith("float32-64x64_128x64_192x128+256x256.engine")
    assert f"WORKSPACE={1 << 28}" in made.identity.flags


def test_a_changed_graph_is_built_again(bundle: Bundle, library: Library, tmp_path: Path) -> None:
    options: dict[str, Any] = {"compute_capabilities": ["8.6"], "graphs": ["h_a"]}
    (made,) = build(bundle, library, tmp_path, **options)
    data = bytearray(made.path.read_bytes())
    data[-1] ^= 1
    made.path.write_bytes(data)
    (again,) = build(bundle, library, tmp_path, **options)
    assert again.seconds > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compute_capabilities": ["9.9"]}, "compute capability: expected 7.5, .*found 9.9"),
        ({"graphs": ["g_x"]}, "graphs: expected some of g_a, .*found g_x"),
        ({"precision": "int8"}, "precision: expected float32, float16, found 'int8'"),
        (
            {"options": BuildOptions(hardware_compatibility="ampere_plus")},
            "hardware compatibility: expected none of tensorrt-rtx",
        ),
    ],
)
def test_what_the_library_cannot_do(
    bundle: Bundle, library: Library, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build(bundle, library, tmp_path, **options)
    assert not (bundle.path / "tensorrt-rtx").exists()


def test_what_the_library_says_is_in_the_error(bundle: Bundle, library: Library) -> None:
    options = BuildOptions(compute_capability="8.6")
    with pytest.raises(EngineError, match=r"tensorrt-rtx \S+ cannot build noise: the graph cannot be read: \w+"):
        build_engine(library, Graph(name="noise", data=b"noise", profiles=[]), options)
    model = onnx.load(bundle.graph("h_a"))
    model.graph.node[0].op_type = "Twist"
    with pytest.raises(EngineError, match=r"/transform/transform\.0/Conv"):
        build_engine(library, Graph(name="h_a", data=model.SerializeToString(), profiles=[]), options)
    inputs = bundle.manifest["graphs"]["h_a"]["inputs"]
    shapes = {name: tuple((1, 7, h, w) for _, _, h, w in sizes) for name, sizes in SMALL.shapes(inputs).items()}
    graph: Any = Graph(name="h_a", data=bundle.graph("h_a").read_bytes(), profiles=[shapes])
    with pytest.raises(EngineError, match=r"cannot build h_a: no engine; it said: .*ERROR"):
        build_engine(library, graph, options)


def test_the_log_of_a_failure_is_kept(bundle: Bundle, library: Library, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"compute_capabilities": ["8.6"], "graphs": ["h_a"]}
    log = bundle.path / "tensorrt-rtx" / "failed-h_a.log"
    with pytest.raises(EngineError, match="cannot build h_a: no engine") as caught:
        build(bundle, library, tmp_path, options=BuildOptions(memory_limit=1), **arguments)
    assert str(log) in str(caught.value)
    assert "[ERROR]" in log.read_text()
    assert not list(bundle.path.rglob("*.engine"))
    build(bundle, library, tmp_path, **arguments)
    assert not log.exists(), "an engine that is built at last takes the log of its failure away"


def test_a_build_can_be_stopped(bundle: Bundle, library: Library) -> None:
    """An exception of the progress callback, as Ctrl-C in it, ends the build and comes out."""
    shapes = SMALL.shapes(bundle.manifest["graphs"]["g_s"]["inputs"])
    graph = Graph(name="g_s", data=bundle.graph("g_s").read_bytes(), profiles=[shapes])

    def stop(phase: str, seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_engine(library, graph, BuildOptions(compute_capability="8.6"), on_phase=stop)


# the command line


def test_build_list_verify_prune(run: Run, bundle: Bundle, library: Library) -> None:
    arguments = ("build", bundle.path, "--targets", "tensorrt-rtx", "--compute-capability", "8.6", "--profile", "64x64")
    code, out, _ = run(*arguments, "--graphs", "h_a,g_s", "--json")
    assert code == 0
    records = json.loads(out)
    assert [(r["graph"], r["precision"], r["built"]) for r in records] == [
        ("h_a", "float16", True),
        ("g_s", "float16", True),
    ]
    assert "2 engines, 2 in FP16" in run(*arguments, "--graphs", "h_a,g_s")[1]
    assert "2 were there" in run(*arguments, "--graphs", "h_a,g_s")[1]
    code, out, _ = run("engines", "list", bundle.path, "--json")
    assert [record["state"] for record in json.loads(out)] == ["ok", "ok"]
    assert run("engines", "verify", bundle.path)[0] == 0
    damaged = Path(records[0]["path"])
    damaged.write_bytes(damaged.read_bytes()[:-1])
    code, out, error = run("engines", "verify", bundle.path)
    assert code == 9
    assert "truncated" in out
    assert "1 of 2 engines cannot be used" in error
    code, out, _ = run("engines", "prune", bundle.path, "--json")
    assert [record["path"] for record in json.loads(out)] == [str(damaged)]
    assert run("engines", "verify", bundle.path)[0] == 0
    assert not damaged.exists()
    open_bundle(bundle.path)


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory, small_photograph: Pixels) -> Path:
    """A model folder of S2C-Hybrid with seeded random weights, and a photograph."""
    folder = tmp_path_factory.mktemp("hybrid")
    fields = model_config("hybrid", "tiny").to_dict()
    checkpoint = checkpoint_of(**fields)  # type: ignore[arg-type]
    tensors = {name: tensor.half() for name, tensor in checkpoint.model.state_dict().items()}
    tensors |= {CALIBRATION + name: tensor.float().clone() for name, tensor in checkpoint.ranges.items()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "weights.safetensors")
    (folder / "recipe.toml").write_text('[model]\nvariant = "hybrid"\npreset = "tiny"\n')
    (folder / "photographs").mkdir()
    Pil.fromarray(small_photograph).save(folder / "photographs" / "small.png")
    return folder


def test_export_leaves_engines_behind(run: Run, hybrid: Path, library: Library, tmp_path: Path) -> None:
    """The whole way, attention included: weights, FP16 graphs through the gate, engines of all graphs, three GPUs."""
    code, out, error = run(
        *("export", "--weights", hybrid, "--out", "hybrid", "--images", hybrid / "photographs"),
        *("--targets", "onnx,tensorrt-rtx", "--compute-capability", "8.6,8.9,12.0"),
        *("--profile", "64x64,192x128,256x256", "--json"),
    )
    assert code == 0, error
    record = json.loads(out)
    assert record["float16"]["worst_loss_db"] <= 0.01
    engines = record["engines"]
    assert len(engines) == 3 * 14
    assert {(e["graph"], e["precision"]) for e in engines if e["precision"] == "float16"} == {
        ("g_a", "float16"),
        ("h_a", "float16"),
        ("g_s", "float16"),
    }
    assert {e["compute_capability"] for e in engines} == {"8.6", "8.9", "12.0"}
    code, out, _ = run("engines", "verify", "hybrid", "--json")
    assert code == 0
    assert len(json.loads(out)) == 42


def test_a_missing_library_is_said_before_anything_is_exported(run: Run, tmp_path: Path) -> None:
    if util.find_spec("tensorrt") is not None:
        pytest.skip("tensorrt is installed here")
    code, _, error = run("export", "--targets", "onnx,tensorrt", "--weights", "nowhere")
    assert code == 10
    assert "tensorrt is not installed (pip install 's2c-deploy[tensorrt]')" in error
    assert "--targets: expected onnx among them" in run("export", "--targets", "tensorrt-rtx")[2]
    assert list(tmp_path.iterdir()) == []


def test_build_says_what_is_missing(run: Run, bundle: Bundle) -> None:
    code, _, error = run("build", bundle.path, "--targets", "tensor")
    assert code == 3
    assert "--targets: expected tensorrt, tensorrt-rtx, found tensor" in error
    if util.find_spec("tensorrt") is None:
        code, _, error = run("build", bundle.path, "--targets", "tensorrt")
        assert code == 10
        assert "s2c-deploy[tensorrt]" in error
