"""What could make an engine derive other integers is caught before a pixel is written, whoever changed it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from forging import seal
from onnx import numpy_helper
from typer.testing import CliRunner

from s2c_deploy import Codec
from s2c_deploy.arrays import Pixels
from s2c_deploy.cli.main import app
from s2c_deploy.codec.networks import Networks
from s2c_deploy.errors import EngineError
from s2c_deploy.formats.bundle import exact_graphs, load_arrays, npz_bytes, open_bundle
from s2c_deploy.formats.manifest import KNOWN_ANSWERS, TABLES
from s2c_deploy.runtime import open_runner
from s2c_deploy.runtime.probe import compare, known_probes

Change = Callable[[Path], None]


def change_weight(bundle: Path) -> None:
    """The weights of h_s's first layer that read the channel with the largest one become zero."""
    graph = onnx.load(bundle / "h_s.onnx")
    kernel = next(w for w in graph.graph.initializer if len(w.dims) == 4)
    values = numpy_helper.to_array(kernel).copy()
    values[:, np.unravel_index(np.abs(values).argmax(), values.shape)[1]] = 0
    kernel.CopyFrom(numpy_helper.from_array(values, kernel.name))
    onnx.save(graph, bundle / "h_s.onnx")


def change_table(bundle: Path) -> None:
    """One slot of table 20 moves from one value to the next: still a valid table."""
    arrays = load_arrays(bundle / TABLES)
    start = int(arrays["sizes"][:20].astype(int).sum())
    arrays["freqs"] = arrays["freqs"].copy()
    arrays["freqs"][start : start + 2] += np.array([-1, 1]).astype(np.uint16)
    (bundle / TABLES).write_bytes(npz_bytes(arrays))


@pytest.fixture
def copy(bundle_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_path, tmp_path / "bundle"))


@pytest.fixture
def stream(bundle_path: Path, small_photograph: Pixels, tmp_path: Path) -> Path:
    with Codec.open(bundle_path, "onnxruntime") as codec:
        (tmp_path / "photo.s2c").write_bytes(codec.compress(small_photograph))
    return tmp_path / "photo.s2c"


def refused(stream: Path, bundle: Path, code: int) -> str:
    """Decompresses; the error's text, after checking that nothing was written."""
    out = stream.with_suffix(".png")
    arguments = ["decompress", str(stream), str(out), "--bundle", str(bundle), "--backend", "onnxruntime"]
    result = CliRunner().invoke(app, arguments)
    error = result.exception
    assert getattr(error, "exit_code", None) == code, (error, result.output)
    assert sorted(p.name for p in stream.parent.iterdir() if p.is_file()) == [stream.name]
    return str(error)


@pytest.mark.parametrize(("change", "file"), [(change_weight, "h_s.onnx"), (change_table, "tables.npz")])
def test_a_careless_change_is_a_damaged_bundle(copy: Path, stream: Path, change: Change, file: str) -> None:
    change(copy)
    assert file in refused(stream, copy, 5)


@pytest.mark.parametrize("change", [change_weight, change_table])
def test_a_careful_change_is_another_bundle(copy: Path, stream: Path, bundle_path: Path, change: Change) -> None:
    """Sealed anew: the stream names the bundle it needs."""
    change(copy)
    seal(copy)
    message = refused(stream, copy, 4)
    assert open_bundle(copy).fingerprint.hex()[:16] in message
    assert open_bundle(bundle_path).fingerprint.hex()[:16] in message


def test_a_changed_weight_fails_its_known_answers(copy: Path) -> None:
    """For a stream that was made to fit; a single unit may vanish in a rounding, but not from the fingerprint."""
    change_weight(copy)
    seal(copy)
    with pytest.raises(EngineError, match=r"known-answer test: h_s: hyper at .*expected .*found"):
        Networks(open_bundle(copy), "onnxruntime")["h_s"]


def test_every_exact_graph_in_reduced_precision_fails_its_known_answers(bundle_path: Path) -> None:
    """PyTorch really multiplies in bfloat16 here, as other engines would by default on other processors."""
    bundle = open_bundle(bundle_path)
    answers = load_arrays(bundle.path / KNOWN_ANSWERS)
    for name in exact_graphs(bundle.config):
        runner = open_runner(bundle.graph(name), backend="torch", precision="bfloat16")
        probes = known_probes(name, answers, exact=True)
        assert any(compare(name, runner, probe, exact=True).failure for probe in probes), name


def test_only_the_synthesis_may_lose_precision(bundle_path: Path, small_photograph: Pixels) -> None:
    with Codec.open(bundle_path, "torch") as whole, Codec.open(bundle_path, "torch", precision="bfloat16") as half:
        data = whole.compress(small_photograph, 5)
        assert half.compress(small_photograph, 5) == data
        a, b = whole.decompress(data), half.decompress(data)
    assert not np.array_equal(a, b)
    assert np.abs(a.astype(int) - b).max() <= 6
    assert all(half._networks[name].precision == "float32" for name in exact_graphs(whole.bundle.config))
    assert half._networks["g_s"].precision == "bfloat16"


def test_an_engine_without_the_precision_says_so(bundle_path: Path, stream: Path) -> None:
    arguments = ["decompress", str(stream), str(stream.with_suffix(".png")), "--bundle", str(bundle_path)]
    for options in (["--backend", "onnxruntime", "--precision", "bfloat16"], ["--precision", "int4"]):
        result = CliRunner().invoke(app, [*arguments, *options])
        assert getattr(result.exception, "exit_code", None) in (3, 9)
        assert not stream.with_suffix(".png").exists()
