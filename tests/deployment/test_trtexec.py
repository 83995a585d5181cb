"""trtexec's command lines against what the graphs themselves say, and against an engine that runs them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from s2c_deploy.cli import main as cli
from s2c_deploy.errors import InputError
from s2c_deploy.formats.bundle import Bundle, graph_names, open_bundle
from s2c_deploy.runtime.profiles import Profile
from s2c_deploy.tensorrt.trtexec import TOOLS, Command, commands

PROFILE = Profile.parse("64x64,192x128,256x320")


@pytest.fixture(scope="module")
def bundle(bundle_path: Path) -> Bundle:
    return open_bundle(bundle_path)


def option(arguments: tuple[str, ...], name: str) -> str:
    values = [text.removeprefix(f"--{name}=") for text in arguments if text.startswith(f"--{name}=")]
    assert len(values) == 1, (name, arguments)
    return values[0]


def shapes(text: str) -> dict[str, tuple[int, ...]]:
    """As trtexec reads them: NAME:AxBxC,NAME:AxBxC."""
    pairs = [part.rsplit(":", 1) for part in text.split(",")]
    return {name: tuple(map(int, sides.split("x"))) for name, sides in pairs}


def declared(path: str) -> dict[str, list[int | str]]:
    """Inputs of an .onnx file: sizes, or names of free dimensions."""
    graph = onnx.load(path).graph
    dimensions = {tensor.name: tensor.type.tensor_type.shape.dim for tensor in graph.input}
    return {name: [d.dim_param or d.dim_value for d in sides] for name, sides in dimensions.items()}


@pytest.mark.parametrize("version", TOOLS)
@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_shapes_fit_the_inputs_of_the_graphs(bundle: Bundle, version: str, precision: str) -> None:
    made = commands(bundle, Path("out"), version=version, precision=precision, profile=PROFILE)
    assert [command.graph for command in made] == graph_names(bundle.config)
    for command in made:
        inputs = declared(option(command.build, "onnx"))
        free = {name for name, sides in inputs.items() if any(isinstance(side, str) for side in sides)}
        given = [shapes(option(command.build, f"{kind}Shapes")) for kind in ("min", "opt", "max")]
        for found in given:
            assert set(found) == free
            for name, sides in found.items():
                fixed = [(a, b) for a, b in zip(inputs[name], sides, strict=True) if isinstance(a, int)]
                assert all(a == b for a, b in fixed)
        for name in free:
            low, typical, high = (np.array(found[name]) for found in given)
            assert (low <= typical).all()
            assert (typical <= high).all()
        assert shapes(option(command.time, "shapes")) == given[1]
        assert option(command.time, "loadEngine") == option(command.build, "saveEngine")
    assert len({option(command.build, "saveEngine") for command in made}) == len(made)


def test_graphs_run_at_the_shapes(bundle: Bundle) -> None:
    """All inputs of a graph belong to one picture: the graph runs, and a 192 x 128 picture comes out of g_s."""
    for command in commands(bundle, Path("out"), precision="float32", profile=PROFILE):
        session = ort.InferenceSession(option(command.build, "onnx"), providers=["CPUExecutionProvider"])
        given = shapes(option(command.build, "optShapes"))
        feed = {node.name: np.ones(given.get(node.name, node.shape), np.float32) for node in session.get_inputs()}
        outputs = session.run(None, feed)
        if command.graph == "g_s":
            assert outputs[0].shape == (1, 3, 128, 192)


def flags(command: Command) -> set[str]:
    return {text for text in command.build if "Shapes=" not in text and not text.startswith(("--onnx", "--saveEngine"))}


def test_precision_comes_from_the_graph_where_the_library_takes_it_from_there(bundle: Bundle) -> None:
    expected = {"10": {"trtexec", "--stronglyTyped"}, "11": {"trtexec"}, "rtx": {"tensorrt_rtx"}}
    for version, more in expected.items():
        for command in commands(bundle, Path("out"), version=version):
            assert flags(command) == {"--skipInference", *more}
            assert ("float16" in option(command.build, "onnx")) == (command.graph in ("g_a", "h_a", "g_s"))


def test_8_6_gets_fp16_by_flag_and_keeps_the_exact_graphs_in_float32(bundle: Bundle) -> None:
    for command in commands(bundle, Path("out"), version="8.6"):
        half = command.graph in ("g_a", "h_a", "g_s")
        assert (command.precision == "float16") == half == ("--fp16" in command.build)
        if half:
            nodes = {node.name for node in onnx.load(option(command.build, "onnx")).graph.node}
            pinned = dict(part.rsplit(":", 1) for part in option(command.build, "layerPrecisions").split(","))
            assert set(pinned.values()) == {"fp32"}
            assert set(pinned) <= nodes
            assert set(pinned) == set(bundle.manifest["float16"]["graphs"][command.graph]["float32_nodes"])


def test_the_text_is_what_a_shell_reads(bundle: Bundle, tmp_path: Path) -> None:
    (command,) = commands(bundle, tmp_path / "two words", graphs=["g_s"])
    assert [tuple(shlex.split(line)) for line in command.text().splitlines()] == [command.build, command.time]


@pytest.mark.parametrize("wrong", [{"version": "9"}, {"precision": "int8"}, {"graphs": ["g_x"]}])
def test_what_cannot_be_is_refused(bundle: Bundle, wrong: dict[str, str]) -> None:
    with pytest.raises(InputError, match="expected"):
        commands(bundle, Path("out"), **wrong)  # type: ignore[arg-type]


def test_the_command_prints_them(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["engines", "trtexec", str(bundle_path), "--graphs", "h_s,g_s", "--profile", "64x64,192x128,256x320"]
    for extra in ([], ["--json"]):
        monkeypatch.setattr("sys.argv", ["s2c-deploy", *arguments, *extra])
        with pytest.raises(SystemExit, match="0"):
            cli.main()
    text, _, records = capsys.readouterr().out.partition("[\n")
    made = commands(open_bundle(bundle_path), Path("trtexec"), graphs=["h_s", "g_s"], profile=PROFILE)
    assert text.splitlines()[0] == "mkdir -p trtexec"
    assert [line for line in text.splitlines() if line.startswith("trtexec ")] == [
        line for command in made for line in command.text().splitlines()
    ]
    assert [record["build"] for record in json.loads("[" + records)] == [list(c.build) for c in made]
