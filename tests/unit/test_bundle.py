"""Bundles: one test per malformed input, and writing that leaves a whole bundle or none."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forging import edit, forge, forge_tables

from s2c_deploy import replace
from s2c_deploy.codec.codec import Codec
from s2c_deploy.errors import BundleError, EngineError, InputError
from s2c_deploy.formats import manifest as module
from s2c_deploy.formats.bundle import Gains, exact_graphs, graph_names, npz_bytes, open_bundle, write_bundle
from s2c_deploy.formats.fingerprints import fingerprint
from s2c_deploy.formats.manifest import MANIFEST, read_manifest

Arrays = dict[str, np.ndarray[Any, Any]]


@pytest.fixture
def copy(bundle_path: Path, tmp_path: Path) -> Path:
    """A bundle of the test's own to damage; its graphs are stand-ins, which only an engine would mind."""
    names = {path.name for path in bundle_path.iterdir()} - {MANIFEST}
    kept = {name: (bundle_path / name).read_bytes() for name in ("tables.npz", "known_answers.npz")}
    files = {name: kept.get(name, f"graph {name}".encode()) for name in names}
    manifest = json.loads((bundle_path / MANIFEST).read_text())
    write_bundle(tmp_path / "copy", files, lambda entries: {**manifest, "files": entries})
    return tmp_path / "copy"


@pytest.fixture
def whole_copy(bundle_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_path, tmp_path / "whole"))


def refused(path: Path, error: type[Exception] = BundleError) -> str:
    with pytest.raises(error) as caught:
        open_bundle(path)
    return str(caught.value)


def with_value(value: float) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        array.flat[3] = value
        return array

    return change


# --- what is right


def test_what_is_opened(bundle_path: Path, whole_copy: Path) -> None:
    first, second = open_bundle(bundle_path), open_bundle(whole_copy)
    assert first.fingerprint == second.fingerprint
    assert first.config == second.config
    assert second.graph("g_s") == whole_copy / "g_s.onnx"
    assert [name for name in graph_names(first.config) if first.manifest["graphs"][name]["exact"]] == exact_graphs(
        first.config
    )


def test_unlisted_files_and_keys_are_ignored(copy: Path) -> None:
    (copy / "notes.txt").write_text("mine")
    edit(copy, lambda manifest: manifest.update(later="something"))
    open_bundle(copy)


# --- the manifest


def test_no_folder(tmp_path: Path) -> None:
    assert "s2c-deploy export" in refused(tmp_path / "nothing", InputError)


def test_no_manifest(tmp_path: Path) -> None:
    assert f"no bundle at {tmp_path}" in refused(tmp_path, InputError)


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"1" * 5000],
    ids=["empty", "half", "no text", "deep", "long number"],
)
def test_not_json(copy: Path, text: bytes) -> None:
    (copy / MANIFEST).write_bytes(text)
    assert "expected JSON" in refused(copy)


@pytest.mark.parametrize("text", ["[]", "null", '"bundle"', "1"])
def test_not_an_object(copy: Path, text: str) -> None:
    (copy / MANIFEST).write_text(text)
    assert "expected an object" in refused(copy)


def test_a_newer_schema_names_both_versions_and_says_upgrade(copy: Path) -> None:
    edit(copy, lambda manifest: manifest.update(schema_version=7))
    message = refused(copy)
    assert "at most 2, found 7" in message
    assert "upgrade" in message


def test_a_newer_schema_is_refused_before_anything_else_of_it_is_read(copy: Path) -> None:
    (copy / MANIFEST).write_text('{"schema_version": 3}')
    assert "upgrade" in refused(copy)


@pytest.mark.parametrize("version", [None, 0, -1, "1", 1.0])
def test_no_schema_version(copy: Path, version: object) -> None:
    edit(copy, lambda manifest: manifest.update(schema_version=version))
    assert "schema_version: expected 1..2" in refused(copy)


@pytest.mark.parametrize("value", [None, 1, []])
@pytest.mark.parametrize(
    "key", ["name", "model", "fingerprint", "weights_sha256", "files", "graphs", "exactness", "tools"]
)
def test_a_key_of_the_wrong_type(copy: Path, key: str, value: object) -> None:
    edit(copy, lambda manifest: manifest.update({key: value}))
    assert f"{key}: expected" in refused(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.update(float16=None),
        lambda manifest: manifest.update(float16={}),
        lambda manifest: manifest["float16"].update(graphs=[]),
        lambda manifest: manifest["float16"]["graphs"].update(g_s="g_s.float16.onnx"),
        lambda manifest: manifest["float16"]["graphs"]["g_s"].update(file="../g_s.onnx"),
        lambda manifest: manifest["float16"]["graphs"]["g_s"].update(file=[]),
        lambda manifest: manifest["float16"]["graphs"].update(h_s=manifest["float16"]["graphs"]["g_s"]),
        lambda manifest: manifest["float16"]["graphs"].update(other=manifest["float16"]["graphs"]["g_s"]),
    ],
)
def test_malformed_fp16_graphs(copy: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit(copy, change)
    assert "float16: " in refused(copy)


def test_a_bundle_may_do_without_fp16_graphs(copy: Path) -> None:
    edit(copy, lambda manifest: manifest.pop("float16"))
    bundle = open_bundle(copy)
    with pytest.raises(BundleError, match="--precision float16"):
        bundle.graph("g_s", "float16")


@pytest.mark.parametrize("key", ["name", "model", "fingerprint", "weights_sha256", "files", "graphs", "exactness"])
def test_a_missing_key(copy: Path, key: str) -> None:
    edit(copy, lambda manifest: manifest.pop(key))
    assert f"{key}: expected" in refused(copy)


@pytest.mark.parametrize(
    "change",
    [
        {"latent_channels": "128"},
        {"latent_channels": -8},
        {"latent_channels": 24},
        {"latent_channels": 128.0},
        {"hyper_channels": None},
        {"hyper_channels": True},
        {"widths": 3},
        {"widths": [1, 2, "3"]},
        {"variant": "unknown"},
        {"variant": {}},
        {"aggregation": ["glu"]},
        {"preset": 1},
        {"operand_bits": True},
        {"operand_bits": 16},
        {"lmbdas": 8},
        {"lmbdas": []},
        {"surprise": 1},
    ],
    ids=str,
)
def test_a_model_that_cannot_be(copy: Path, change: dict[str, object]) -> None:
    edit(copy, lambda manifest: manifest["model"].update(change))
    assert "model: " in refused(copy)


@pytest.mark.parametrize("field", ["variant", "latent_channels", "widths"])
def test_a_model_that_lacks_a_field(copy: Path, field: str) -> None:
    edit(copy, lambda manifest: manifest["model"].pop(field))
    assert field in refused(copy)


@pytest.mark.parametrize("entry", [None, 1, {}, {"size": 1}, {"size": -1, "sha256": ""}, {"size": 2**33, "sha256": ""}])
def test_a_file_entry_of_the_wrong_shape(copy: Path, entry: object) -> None:
    edit(copy, lambda manifest: manifest["files"].update({"g_s.onnx": entry}))
    assert "g_s.onnx: expected a size and a sha256" in refused(copy)


@pytest.mark.parametrize(
    "entry",
    [
        None,
        {},
        {"file": "other.onnx", "exact": True, "precision": "float32"},
        {"file": [], "exact": True, "precision": "float32"},
        {"file": "h_s.onnx", "precision": "float32"},
        {"file": "h_s.onnx", "exact": "no", "precision": "float32"},
        {"file": "h_s.onnx", "exact": True},
    ],
    ids=str,
)
def test_a_graph_entry_of_the_wrong_shape(copy: Path, entry: object) -> None:
    edit(copy, lambda manifest: manifest["graphs"].update(h_s=entry))
    assert "graphs: h_s: expected" in refused(copy)


@pytest.mark.parametrize("graph", ["g_s", "h_s", "context_0_anchor"])
def test_a_missing_graph(copy: Path, graph: str) -> None:
    edit(copy, lambda manifest: manifest["graphs"].pop(graph))
    assert f"graphs: expected {graph} too" in refused(copy)


@pytest.mark.parametrize("file", ["tables.npz", "known_answers.npz"])
def test_arrays_that_are_not_listed(copy: Path, file: str) -> None:
    edit(copy, lambda manifest: manifest["files"].pop(file))
    assert f"files: expected {file}" in refused(copy)


@pytest.mark.parametrize("layers", [None, {}, {"a": 1}, {"a": {"bound": "1"}}, {"a": {"bound": 2**24}}], ids=str)
def test_layers_that_are_not_proven_exact(copy: Path, layers: object) -> None:
    edit(copy, lambda manifest: manifest["exactness"].update(layers=layers))
    assert "exactness: expected bounds below 2^24" in refused(copy)


def test_an_oversized_manifest_is_not_read(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (copy / MANIFEST).open("r+b") as file:
        file.truncate(module.MAX_MANIFEST_BYTES + 1)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("it was read"))
    assert f"at most {module.MAX_MANIFEST_BYTES} bytes" in refused(copy)


@pytest.mark.parametrize(
    "name", ["../outside.onnx", "/outside.onnx", "a/b.onnx", "a\\b.onnx", "a/", "", ".", "..", "manifest.json"]
)
def test_a_file_name_that_leaves_the_folder(copy: Path, name: str) -> None:
    data = b"outside"
    for place in ("outside.onnx", "copy/b.onnx"):
        (copy.parent / place).write_bytes(data)
    entry = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit(copy, lambda manifest: manifest["files"].update({name: entry}))
    assert "expected plain file names" in refused(copy)


def test_a_wrong_fingerprint(copy: Path) -> None:
    right = open_bundle(copy).fingerprint.hex()
    edit(copy, lambda manifest: manifest.update(fingerprint="0" * 64))
    message = refused(copy)
    assert right in message
    assert "0" * 64 in message


@pytest.mark.parametrize("pair", [("context_0_nonanchor", "context_1_nonanchor"), ("h_s", "g_s")])
def test_graphs_do_not_change_their_files(copy: Path, pair: tuple[str, str]) -> None:
    """Exchanged, they would pass for the same bundle, and decode otherwise."""
    before = fingerprint(read_manifest(copy))

    def exchange(manifest: dict[str, Any]) -> None:
        one, other = (manifest["graphs"][name] for name in pair)
        one["file"], other["file"] = other["file"], one["file"]

    edit(copy, exchange)
    if pair[0] != "h_s":
        assert fingerprint(read_manifest(copy)) == before
    assert f"{pair[0]}: expected the file {pair[0]}.onnx" in refused(copy)


def test_a_float_graph_that_claims_to_be_exact(copy: Path) -> None:
    edit(copy, lambda manifest: manifest["graphs"]["g_s"].update(exact=True))
    assert "no others, to be exact, not so g_s" in refused(copy)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((1, 1, 1, 2**19), np.float32),
        np.zeros((2**19, 1, 1, 1), np.float32),
        np.zeros((192, 8, 12), np.float32),
        np.zeros((1, 192, 0, 12), np.float32),
    ],
    ids=lambda array: str(array.shape),
)
def test_known_answers_of_impossible_kinds(copy: Path, array: np.ndarray[Any, Any]) -> None:
    with np.load(copy / "known_answers.npz") as arrays:
        answers = {name: arrays[name] for name in arrays.files}
    forge(copy, "known_answers.npz", npz_bytes(answers | {"h_s/in/z_hat": array}))
    with pytest.raises(BundleError, match=r"'h_s/in/z_hat': expected batch x channels x height x width"):
        open_bundle(copy).known_answers()


Change = Callable[[dict[str, Any]], object]
SHA = "0" * 64


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(schema_version=True),
        lambda m: m.update(weights_sha256="x" * 64),
        lambda m: m.update(weights_sha256="\ud800"),
        lambda m: m.update(weights_sha256=SHA.upper().replace("0", "A")),
        lambda m: m.update(weights_sha256=f"{SHA}\n"),
        lambda m: m.update(fingerprint="0"),
        lambda m: m.update(name="red \x1b[31m alert"),
        lambda m: m.update(name="\ud800"),
        lambda m: m.update(name=""),
        lambda m: m["tools"].update(torch=2),
        lambda m: m["tools"].update({"a\nb": "1"}),
        lambda m: m["files"].update({"a" * 300: {"size": 1, "sha256": SHA}}),
        lambda m: m["files"].update({".hidden": {"size": 1, "sha256": SHA}}),
        lambda m: m["files"].update({"a b\n": {"size": 1, "sha256": SHA}}),
        lambda m: m["files"]["g_s.onnx"].update(size=True),
        lambda m: m["files"]["g_s.onnx"].update(size=1e3),
        lambda m: m["files"]["g_s.onnx"].update(sha256="0"),
        lambda m: m["files"]["tables.npz"].update(size=2**30),
        lambda m: m["graphs"]["g_s"].update(precision="float64"),
        lambda m: m["graphs"]["g_s"].update(inputs=[]),
        lambda m: m["graphs"]["g_s"].update(inputs={}),
        lambda m: m["graphs"]["g_s"]["inputs"][0].update(name=3),
        lambda m: m["graphs"]["g_s"]["inputs"][0].update(shape=[0]),
        lambda m: m["graphs"]["g_s"]["inputs"][0].update(shape=[True]),
        lambda m: m["graphs"]["g_s"]["outputs"][0].update(dtype="float64"),
        lambda m: m["graphs"].update({"a\nb": m["graphs"]["g_s"]}),
        lambda m: m["model"].update(latent_channels=10**400),
        lambda m: m["model"].update(latent_channels=2**17),
        lambda m: m["model"].update(widths=[1, 2]),
        lambda m: m["model"].update(depths=[1] * 1000),
        lambda m: m["model"].update(lmbdas=["a"] * 8),
        lambda m: m["model"].update(lmbdas=[0.1, True]),
        lambda m: m["model"].update(lmbdas=[0.0]),
        lambda m: m["model"].update(lmbdas=[0.1] * 1000),
        lambda m: m["model"].update(spatial_norm="no"),
        lambda m: m["model"].update(preset="unknown"),
        lambda m: m["exactness"].update(limit=2**25),
        lambda m: m["exactness"].update(layers={"a": {"bound": True}}),
        lambda m: m["float16"]["gate"].update(loss_db={"1": {"g_a": "x"}}),
        lambda m: m["float16"]["gate"].update(loss_db={}),
        lambda m: m["float16"]["graphs"]["g_s"].update(float32_nodes={"a": 1}),
    ],
)
def test_a_manifest_of_impossible_values(copy: Path, change: Change) -> None:
    edit(copy, change)
    message = refused(copy)
    assert len(message) < 600
    assert message.isprintable()


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda text: text.encode("utf-16"),
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("latin-1").replace(b"conv-tiny", b"conv-t\xefny", 1),
        lambda text: text.rstrip()[:-1].encode() + b',"name":"other"}',
        lambda text: text.encode().replace(b'"bound": ', b'"bound": NaN, "b": ', 1),
        lambda text: text.encode().replace(b'"bound": ', b'"bound": 1e999, "b": ', 1),
        lambda text: text.rstrip()[:-1].encode() + b',"later":Infinity}',
    ],
    ids=["utf-16", "mark", "latin-1", "twice", "nan", "1e999", "infinity"],
)
def test_a_manifest_that_readers_would_read_differently(copy: Path, rewrite: Callable[[str], bytes]) -> None:
    (copy / MANIFEST).write_bytes(rewrite((copy / MANIFEST).read_text()))
    assert "expected JSON in UTF-8" in refused(copy)


# --- the files


def test_a_missing_file(copy: Path) -> None:
    (copy / "g_s.onnx").unlink()
    assert "g_s.onnx: expected a file of" in refused(copy)


def test_a_folder_in_place_of_a_file(copy: Path) -> None:
    (copy / "g_s.onnx").unlink()
    (copy / "g_s.onnx").mkdir()
    assert "g_s.onnx: expected a file of" in refused(copy)


def test_a_symlinked_file(copy: Path) -> None:
    (copy / "g_s.onnx").rename(copy.parent / "elsewhere.onnx")
    (copy / "g_s.onnx").symlink_to(copy.parent / "elsewhere.onnx")
    assert "g_s.onnx: expected a file of" in refused(copy)


def test_a_truncated_file(copy: Path) -> None:
    size = (copy / "h_s.onnx").stat().st_size
    os.truncate(copy / "h_s.onnx", size - 1)
    assert f"h_s.onnx: expected {size} bytes, found {size - 1}" in refused(copy)


def test_one_flipped_bit_in_each_file(copy: Path) -> None:
    names = sorted(set(os.listdir(copy)) - {MANIFEST})
    assert len(names) == 19
    for name in names:
        with (copy / name).open("r+b") as file:
            for at in (0, (copy / name).stat().st_size // 2):
                file.seek(at)
                (right,) = file.read(1)
                for byte in (right ^ 1, right):
                    file.seek(at)
                    file.write(bytes([byte]))
                    file.flush()
                    if byte != right:
                        assert f"{name}: expected SHA-256" in refused(copy)
    open_bundle(copy)


# --- tables.npz and known_answers.npz, agreeing with a forged manifest


@pytest.mark.parametrize("name", ["gain", "inverse_gain", "hyper_gain"])
@pytest.mark.parametrize(
    "change",
    [
        lambda a: a[:-1],
        lambda a: a[:, :-1],
        lambda a: a[0],
        lambda a: a.astype(np.float64),
        with_value(0),
        with_value(-1),
        with_value(np.nan),
        with_value(np.inf),
    ],
    ids=["level", "channel", "flat", "float64", "zero", "negative", "nan", "inf"],
)
def test_gains(copy: Path, name: str, change: object) -> None:
    forge_tables(copy, **{name: change})
    assert f"tables.npz: {name}: expected" in refused(copy)


@pytest.mark.parametrize(
    "change",
    [lambda a: a[:-1], lambda a: a[:, :-1], lambda a: a.astype(np.int64), with_value(64)],
    ids=["level", "channel", "int64", "no such table"],
)
def test_z_indexes(copy: Path, change: object) -> None:
    forge_tables(copy, z_indexes=change)
    assert "tables.npz: z_indexes: expected" in refused(copy)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("freqs", lambda a: a.astype(np.int32)),
        ("freqs", lambda a: a[:-1]),
        ("freqs", with_value(0)),
        ("sizes", with_value(1)),
        ("centers", with_value(40000)),
        ("shifts", with_value(16)),
        ("scales", lambda a: a[:-1]),
        ("skip_below", np.array([1])),
        ("skip_below", np.array(65)),
    ],
)
def test_frequency_tables(copy: Path, name: str, change: object) -> None:
    forge_tables(copy, **{name: change})
    assert f"bad tables: {name}" in refused(copy)


def test_too_few_tables_for_the_indexes_of_the_contexts(copy: Path) -> None:
    with np.load(copy / "tables.npz") as arrays:
        freqs = arrays["freqs"][: int(arrays["sizes"][:63].sum())]
    cut = {name: lambda a: a[:63] for name in ("sizes", "centers", "shifts", "scales")}
    forge_tables(copy, **cut, freqs=freqs, z_indexes=lambda a: np.minimum(a, 62))
    assert "expected 64 tables or more, found 63" in refused(copy)


@pytest.mark.parametrize("name", ["gain", "z_indexes", "freqs", "skip_below"])
def test_a_missing_array(copy: Path, name: str) -> None:
    forge_tables(copy, **{name: None})
    assert name in refused(copy)


class Harmful:
    """Its unpickling makes a folder named pickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("pickled",)


def test_pickled_objects_are_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy.parent)
    out = io.BytesIO()
    np.savez(out, gain=np.array([Harmful()], dtype=object))
    forge(copy, "tables.npz", out.getvalue())
    assert "plain arrays" in refused(copy)
    assert not Path("pickled").exists()


def npy(array: np.ndarray[Any, Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def archive(member: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("gain.npy", member)
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [b"", b"PK\x03\x04", npy(np.zeros(3)), archive(b"text"), archive(npy(np.zeros(3))[:-1])],
    ids=["empty", "cut zip", "npy", "text in zip", "cut array"],
)
@pytest.mark.parametrize("file", ["tables.npz", "known_answers.npz"])
def test_not_an_npz(copy: Path, file: str, data: bytes) -> None:
    forge(copy, file, data)
    with pytest.raises(BundleError, match=file):
        Codec.open(copy, "onnxruntime")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda answers: answers.clear(), "expected known answers"),
        (lambda answers: answers.pop("h_s/out/hyper"), "expected known answers"),
        (lambda answers: answers.pop("h_s@range/out/hyper"), "expected known answers"),
        (lambda answers: answers.pop("h_s/in/z_hat"), "inputs: expected"),
        (lambda answers: answers.update({"h_s/out/other": answers["h_s/out/hyper"]}), "expected outputs"),
        (lambda answers: answers.update({"h_s/out/hyper": answers["h_s/out/hyper"][:, 1:]}), "expected shape"),
        (lambda answers: with_value(7.0)(answers["h_s/out/hyper"]), "1 values are wrong"),
        (lambda answers: answers.update({"h_s/in/z_hat": answers["h_s/in/z_hat"].astype(np.float64)}), "float64"),
    ],
    ids=["none", "no output", "no full range", "no input", "another output", "shape", "one value", "dtype"],
)
def test_an_engine_without_its_known_answers_is_refused(
    whole_copy: Path, change: Callable[[Arrays], object], found: str
) -> None:
    with np.load(whole_copy / "known_answers.npz") as arrays:
        answers = {name: arrays[name] for name in arrays.files}
    change(answers)
    forge(whole_copy, "known_answers.npz", npz_bytes(answers))
    with Codec.open(whole_copy, "onnxruntime", threads=1) as codec, pytest.raises(EngineError, match=found):
        codec.compress(np.zeros((1, 1, 3), np.uint8))


# --- gains between levels


def gains() -> Gains:
    table = np.array([[1.0, 2.0], [4.0, 2.0], [16.0, 32.0]], np.float32)
    z = np.array([[10], [20], [30]], np.uint8)
    return Gains(gain=table, inverse_gain=1 / table, hyper_gain=table[:, :1].copy(), z_indexes=z)


@pytest.mark.parametrize(
    ("quality", "gain", "z"),
    [
        (1.0, [1, 2], 10),
        (1.5, [2, 2], 20),
        (1.46875, [4**0.46875, 2], 10),
        (2.0, [4, 2], 20),
        (2.25, [4 * 4**0.25, 2 * 16**0.25], 20),
        (3.0, [16, 32], 30),
        (8.0, [16, 32], 30),
    ],
)
def test_gains_between_levels(quality: float, gain: list[float], z: int) -> None:
    found, hyper, inverse, z_indexes = gains().at(quality)
    assert found.dtype == hyper.dtype == inverse.dtype == np.float32
    assert found.shape == inverse.shape == (1, 2, 1, 1)
    np.testing.assert_allclose(found.ravel(), gain, rtol=1e-6)
    np.testing.assert_allclose((found * inverse).ravel(), 1, rtol=1e-6)
    np.testing.assert_allclose(hyper.ravel(), gain[:1], rtol=1e-6)
    assert z_indexes.tolist() == [z]


@pytest.mark.parametrize("quality", [1.0, 4.5, 8.0])
def test_gains_of_one_level(quality: float) -> None:
    every = gains()
    one = Gains(
        gain=every.gain[1:2],
        inverse_gain=every.inverse_gain[1:2],
        hyper_gain=every.hyper_gain[1:2],
        z_indexes=every.z_indexes[1:2],
    )
    gain, _, _, z_indexes = one.at(quality)
    assert gain.ravel().tolist() == [4, 2]
    assert z_indexes.tolist() == [20]


# --- writing


FILES = {"a.onnx": b"a" * 10, "tables.npz": b"t", "known_answers.npz": b"k"}


def describe(entries: dict[str, dict[str, object]]) -> dict[str, Any]:
    tensor = {"name": "x", "dtype": "float32", "shape": ["batch", 3]}
    a = {"file": "a.onnx", "exact": True, "precision": "float32", "inputs": [tensor], "outputs": [tensor]}
    graphs = {"a": a}
    exactness = {"limit": 2**24, "layers": {"a": {"bound": 1}}}
    return {
        "schema_version": 1,
        "name": "x",
        "model": {},
        "weights_sha256": "5" * 64,
        "files": entries,
        "graphs": graphs,
        "exactness": exactness,
        "tools": {},
    }


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_write_and_replace(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x"
    write_bundle(path, FILES, describe)
    manifest = read_manifest(path)
    module.check_files(path, manifest)
    assert manifest["fingerprint"] == fingerprint(manifest).hex()
    write_bundle(path, {**FILES, "b.onnx": b"b"}, describe)
    assert content(path).keys() == {*FILES, "b.onnx", MANIFEST}
    write_bundle(path, FILES, describe)
    assert content(path).keys() == {*FILES, MANIFEST}
    assert os.listdir(path.parent) == ["x"]


def _failing_once(rename: Callable[[Path, Path], None], failing_call: int) -> Callable[[Path, Path], None]:
    calls = 0

    def replaced(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == failing_call:
            raise OSError(28, "No space left on device")
        rename(source, target)

    return replaced


def test_a_failed_write_leaves_the_old_bundle_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    write_bundle(path, FILES, describe)
    before = content(path)

    def fail(*_args: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    for owner, name, replacement in (
        (Path, "mkdir", fail),
        (Path, "write_bytes", fail),
        (Path, "write_text", fail),
        (os, "rename", _failing_once(os.rename, 1)),
        (os, "rename", _failing_once(os.rename, 2)),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, replacement)
            # As on a file system that cannot exchange two folders (tests/unit/test_replace.py has both ways).
            patch.setattr(replace, "_exchanged", lambda *_: False)
            with pytest.raises(InputError, match="No space left"):
                write_bundle(path, {**FILES, "a.onnx": b"new"}, describe)
        assert os.listdir(tmp_path) == ["x"], name
        assert content(path) == before


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(tmp_path / "x", FILES, describe)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_is_no_bundle_is_not_replaced(tmp_path: Path, what: str) -> None:
    path = tmp_path / "mine"
    if what == "folder":
        path.mkdir()
        (path / "holiday.jpg").write_bytes(b"dear")
    else:
        path.write_bytes(b"dear")
    with pytest.raises(InputError, match="is not a bundle"):
        write_bundle(path, FILES, describe)
    assert (path / "holiday.jpg" if what == "folder" else path).read_bytes() == b"dear"


@pytest.mark.parametrize("stray", ["index.html", ".git", "weights", "a.onnx.bak"])
def test_a_bundle_with_something_else_in_it_is_not_replaced(tmp_path: Path, stray: str) -> None:
    path = tmp_path / "x"
    write_bundle(path, FILES, describe)
    (path / "tensorrt-rtx").mkdir()
    write_bundle(path, FILES, describe)  # engines are built again
    (path / stray).mkdir()
    with pytest.raises(InputError, match=rf"more in it than a bundle: '{stray}'"):
        write_bundle(path, FILES, describe)
    assert (path / stray).is_dir()


@pytest.mark.parametrize("text", ['{"name": "my web app", "icons": []}', "no JSON", "{}"])
def test_a_folder_with_a_manifest_of_another_kind_is_not_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / MANIFEST).write_text(text)
    (tmp_path / "app" / "index.html").write_text("dear")
    with pytest.raises(InputError, match="exists and is not a bundle"):
        write_bundle(tmp_path / "app", FILES, describe)
    assert (tmp_path / "app" / "index.html").read_text() == "dear"


@pytest.mark.parametrize("name", ["y" * 240, "a\0b"])
def test_a_name_that_cannot_be_is_said_before_any_work(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"at most 232 bytes|is no path"):
        write_bundle(tmp_path / name, FILES, lambda entries: pytest.fail("it was described"))


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot write"):
        write_bundle(tmp_path / "file" / "x", FILES, describe)


def test_the_same_arrays_are_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays: Arrays = {"b": np.arange(3, dtype=np.int16), "a": np.zeros((2, 2), np.float32)}
    first = npz_bytes(arrays)
    monkeypatch.setattr("time.time", lambda: 1e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2001, 9, 9, 1, 46, 40, 6, 252, 0))
    assert npz_bytes(dict(reversed(arrays.items()))) == first
    with np.load(io.BytesIO(first)) as back:
        assert back.files == ["a", "b"]
        np.testing.assert_array_equal(back["b"], arrays["b"])
