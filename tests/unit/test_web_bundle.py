"""A web bundle: its graphs give what the bundle's give, and nothing of anybody's is overwritten."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from commands import Run
from onnx import TensorProto, helper, load_model_from_string, numpy_helper

from s2c_deploy.contract import EXACT_INPUTS
from s2c_deploy.errors import ExactnessError, InputError, ParityError
from s2c_deploy.formats.bundle import open_bundle
from s2c_deploy.web import bundle as web
from s2c_deploy.web.narrow import halve_floats, narrow_integers
from s2c_deploy.web.probes import probe_input


@pytest.fixture(scope="module")
def written(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> web.WebBundle:
    return web.write_web_bundle(open_bundle(bundle_path), tmp_path_factory.mktemp("web") / "bundle")


def model(weight: np.ndarray) -> bytes:
    """y = x + w."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", weight.size]) for name in ("x", "y")]
    weights = [numpy_helper.from_array(weight.reshape(1, -1).astype(np.float32), "w")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", values[:1], values[1:], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def weights_of(data: bytes, size: int) -> np.ndarray:
    """What the graph adds to 0."""
    (y,) = ort.InferenceSession(data).run(None, {"x": np.zeros((1, size), np.float32)})
    return np.asarray(y)[0]


@pytest.mark.parametrize("reach", [127, 128, 129, 1600, 127 * 256 + 127, 127 * 256 + 128, 2**23])
def test_integers_stay_what_they_are(reach: int) -> None:
    weight = np.linspace(-reach, reach, 1001).round().astype(np.float32)
    data = model(weight)
    found = narrow_integers(data)
    np.testing.assert_array_equal(weights_of(found, weight.size), weight)
    if reach <= 127 * 256 + 127:
        assert len(found) < len(data) - (1.5 if reach > 127 else 2.5) * weight.size
    else:
        assert len(found) == len(data)


def test_what_is_no_integer_stays_float32() -> None:
    weight = np.arange(1000, dtype=np.float32)
    weight[7] += 0.5
    assert len(narrow_integers(model(weight))) == len(model(weight))


def test_floats_become_the_nearest_halves() -> None:
    weight = np.random.default_rng(2).normal(size=1000).astype(np.float32)
    weight[:3] = 1 + 2**-11, 1 + 3 * 2**-11, 2.0**-24  # ties go to even, and the smallest half
    found = weights_of(halve_floats(model(weight)), weight.size)
    np.testing.assert_array_equal(found, weight.astype(np.float16).astype(np.float32))
    assert list(found[:3]) == [1, 1 + 2**-9, 2.0**-24]
    weight[0] = 70_000
    np.testing.assert_array_equal(weights_of(halve_floats(model(weight)), weight.size), weight)


def test_every_graph_gives_what_the_bundle_gives(bundle_path: Path, written: web.WebBundle) -> None:
    """To the last bit, the exact ones; on the known answers, and on integers of all magnitudes."""
    manifest = json.loads((written.path / "manifest.json").read_text())
    own = json.loads((bundle_path / "manifest.json").read_text())
    assert len(manifest["graphs"]) == 12
    for name, entry in manifest["graphs"].items():
        sessions = [ort.InferenceSession(str(folder / entry["file"])) for folder in (bundle_path, written.path)]
        random = np.random.default_rng(9)
        inputs = {}
        for tensor in own["graphs"][name]["inputs"]:
            side = 2 if tensor["name"] == "z_hat" else 1 if tensor["name"] == "inverse_gain" else 8
            shape = (1, tensor["shape"][1], side, side)
            low, high = EXACT_INPUTS.get(tensor["name"], (-100, 101))
            inputs[tensor["name"]] = random.integers(low, high, shape).astype(np.float32)
        expected, found = (session.run(None, inputs) for session in sessions)
        for one, other in zip(expected, found, strict=True):
            if entry["exact"]:
                np.testing.assert_array_equal(one, other)
            else:
                np.testing.assert_allclose(one, other, atol=1e-3 * np.abs(one).max())
    assert written.largest_difference < 1


def test_it_is_smaller_and_hashed(bundle_path: Path, written: web.WebBundle) -> None:
    manifest = json.loads((written.path / "manifest.json").read_text())
    assert {path.name for path in written.path.iterdir()} == {"manifest.json", *manifest["files"]}
    for name, entry in manifest["files"].items():
        data = (written.path / name).read_bytes()
        assert entry == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        assert written.files[name] == len(data)
    whole = json.loads((bundle_path / "manifest.json").read_text())["files"]
    of_decoder = sum(whole[name]["size"] for name in manifest["files"] if name.endswith(".onnx"))
    assert sum(written.files.values()) < 0.6 * of_decoder


def test_the_rule_of_probes() -> None:
    """As docs/browser.md has it, one value at a time."""

    def mix(x: int) -> int:
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            x = (x ^ x >> shift) * factor % 2**32
        return x ^ x >> 16

    found = probe_input(1, (4, 3, 2, 2), -7, 1000).reshape(-1)
    for t, value in enumerate(found):
        low, high = [(-7, 1000), (0, 125), (0, 15), (0, 1)][t // 12]
        assert value == low + mix((t + 2 * 0x9E3779B9) % 2**32) % (high - low + 1)


def changed(data: bytes) -> bytes:
    """A graph whose largest weights are a step larger each."""
    made = load_model_from_string(data)
    largest = max(made.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    largest.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(largest) + np.float32(1), largest.name))
    return bytes(made.SerializeToString())


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        ("narrow_integers", ExactnessError, "narrowed: h_s: hyper at "),
        ("halve_floats", ParityError, "g_s: float16 weights: expected pixels within 1, found"),
    ],
)
def test_graphs_that_differ_are_not_written(
    bundle_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.setattr(web, function, changed)
    with pytest.raises(error, match=message):
        web.write_web_bundle(open_bundle(bundle_path), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_only_web_bundles_are_replaced(run: Run, written: web.WebBundle, bundle_path: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("keep me")
    with pytest.raises(InputError, match="expected a web bundle, found something else"):
        web.check_web_place(mine, force=True)
    copy = tmp_path / "copy"
    shutil.copytree(written.path, copy)
    with pytest.raises(InputError, match="exists"):
        web.check_web_place(copy, force=False)
    assert web.check_web_place(copy, force=True) == copy
    (copy / "letter.txt").write_text("keep me")
    with pytest.raises(InputError, match=r"found 'letter\.txt' too"):
        web.check_web_place(copy, force=True)
    ordinary = tmp_path / "ordinary"
    shutil.copytree(bundle_path, ordinary)
    with pytest.raises(InputError, match="expected a web bundle"):
        web.check_web_place(ordinary, force=True)
    code, _, err = run("web", str(copy), "--bundle", str(bundle_path), "--force")
    assert code == 3
    assert "letter.txt" in err
    assert (copy / "letter.txt").read_text() == "keep me"


def test_the_command(run: Run, bundle_path: Path, tmp_path: Path) -> None:
    target = tmp_path / "site" / "bundle"
    code, out, _ = run("web", str(target), "--bundle", str(bundle_path), "--json")
    assert code == 0
    record = json.loads(out)
    assert record["name"] == "conv-tiny"
    assert record["bytes"] == sum(path.stat().st_size for path in target.iterdir())
    assert run("web", str(target), "--bundle", str(bundle_path))[0] == 3
    code, out, _ = run("web", str(target), "--bundle", str(bundle_path), "--force")
    assert code == 0
    assert "conv-tiny" in out
    code, _, err = run("web", str(tmp_path / "other"), "--bundle", str(bundle_path), "--synthesis", "quick")
    assert code == 3
    assert "synthesis: expected full" in err
    assert not (tmp_path / "other").exists()


def test_nothing_is_deleted_that_a_manifest_only_claims(written: web.WebBundle, tmp_path: Path) -> None:
    """With --force all that is listed goes: a stranger's manifest may list anything."""
    for listed in ("docs", "letter.txt", "link.onnx"):
        copy = tmp_path / listed / "copy"
        shutil.copytree(written.path, copy)
        manifest = json.loads((copy / "manifest.json").read_text())
        (copy / "manifest.json").write_text(json.dumps(manifest | {"files": [*manifest["files"], listed]}))
        if listed == "docs":
            (copy / listed / "deep").mkdir(parents=True)
        elif listed == "letter.txt":
            (copy / listed).write_text("keep me")
        else:
            (copy / listed).symlink_to(tmp_path)
        with pytest.raises(InputError, match=f"found '{listed}' too"):
            web.check_web_place(copy, force=True)


@pytest.mark.parametrize("hostile", ["pipe", "device", "deep"])
def test_a_manifest_that_never_ends(hostile: str, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    if hostile == "pipe":
        os.mkfifo(manifest)
    elif hostile == "device":
        manifest.symlink_to("/dev/zero")
    else:
        manifest.write_text(10**5 * "[")
    with pytest.raises(InputError, match="expected a web bundle, found something else"):
        web.check_web_place(tmp_path, force=True)
