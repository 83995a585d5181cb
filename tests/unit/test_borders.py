"""Every border of the table in ``errors.py``: what others raise there becomes the package's error."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pil

from s2c_deploy import Codec
from s2c_deploy.entropy import coder as coder_module
from s2c_deploy.entropy.coder import Encoder, Tables
from s2c_deploy.entropy.tables import gaussian_tables
from s2c_deploy.errors import BundleError, EngineError, InputError, OutOfMemoryError, S2CError
from s2c_deploy.files import atomic_write, read_bytes
from s2c_deploy.formats.bundle import open_bundle
from s2c_deploy.image import read_image
from s2c_deploy.listing import list_images
from s2c_deploy.runtime import open_runner
from s2c_deploy.runtime.runner import Runner, lacks_memory
from s2c_deploy.tensorrt import EngineStore
from s2c_deploy.tensorrt.identity import Identity
from s2c_deploy.tensorrt.trust import Trust

SYSTEM = [OSError(code, os.strerror(code)) for code in (errno.EACCES, errno.EIO, errno.ENOSPC, errno.EMFILE)]
MEMORY = [MemoryError("no more")]
LIBRARY = [RuntimeError("it broke"), ValueError("odd"), TypeError("odder")]
NO_MEMORY = [RuntimeError(text) for text in ("std::bad_alloc", "DefaultCPUAllocator: can't allocate memory: you tried")]


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_args: object, **_options: object) -> Any:
        raise error

    return fail


def ids(error: BaseException) -> str:
    return f"{type(error).__name__} {error}"[:30]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Pil.new("RGB", (8, 8)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.mark.parametrize("error", SYSTEM + MEMORY + LIBRARY, ids=ids)
def test_a_picture(picture: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    monkeypatch.setattr("PIL.Image.open", raising(error))
    with pytest.raises(OutOfMemoryError if isinstance(error, MemoryError) else InputError):
        read_image(picture)


@pytest.mark.parametrize("error", SYSTEM, ids=ids)
def test_files_and_names(picture: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    target = picture.with_name("new")
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", raising(error))
        with pytest.raises(InputError, match="cannot write"), atomic_write(target):
            pytest.fail("it was opened")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", raising(error))
        with pytest.raises(InputError, match="cannot write"), atomic_write(target) as part:
            part.write_bytes(b"x")
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", raising(error))
        patch.setattr(Path, "open", raising(error))
        patch.setattr(Path, "read_bytes", raising(error))
        with pytest.raises(InputError, match="cannot read"):
            read_bytes(picture)
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", raising(error))
        patch.setattr(os, "listdir", raising(error))
        with pytest.raises(InputError, match="cannot list"):
            list_images(picture.parent)
    assert sorted(os.listdir(picture.parent)) == ["a.png"]


@pytest.mark.parametrize("error", SYSTEM, ids=ids)
def test_a_bundle(bundle_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    bundle = open_bundle(bundle_path)
    monkeypatch.setattr("s2c_deploy.inside.os.open", raising(error))
    with pytest.raises((InputError, BundleError)):
        open_bundle(bundle_path)
    for use in (lambda: bundle.read_graph("h_s"), bundle.known_answers):
        with pytest.raises(BundleError):
            use()


def test_a_bundle_that_memory_does_not_hold(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = open_bundle(bundle_path)
    with monkeypatch.context() as patch:
        patch.setattr("s2c_deploy.formats.manifest.read_file", raising(MemoryError()))
        with pytest.raises(OutOfMemoryError, match=r"h_s\.onnx"):
            bundle.read_graph("h_s")
    monkeypatch.setattr("s2c_deploy.formats.bundle.parse_npz", raising(MemoryError()))
    with pytest.raises(OutOfMemoryError, match=r"known_answers\.npz"):
        bundle.known_answers()


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "torch"])
@pytest.mark.parametrize("error", MEMORY + LIBRARY + NO_MEMORY, ids=ids)
def test_an_engines_library(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, error: BaseException
) -> None:
    wanted = OutOfMemoryError if lacks_memory(error) else EngineError
    graph = open_bundle(bundle_path).read_graph("h_s")
    with open_runner(graph, backend=backend) as runner:
        monkeypatch.setattr(runner, "_run", raising(error))
        with pytest.raises(wanted):
            runner({"z_hat": np.zeros((1, 96, 1, 1), np.float32)})
    load = {
        "openvino": "openvino.Core.read_model",
        "onnxruntime": "onnxruntime.InferenceSession",
        "torch": "onnx.load_model_from_string",
    }[backend]
    monkeypatch.setattr(load, raising(error))
    with pytest.raises(wanted, match=r"h_s\.onnx"):
        open_runner(graph, backend=backend)


def test_a_library_that_lacks_memory_says_so_in_its_own_words() -> None:
    assert all(map(lacks_memory, MEMORY + NO_MEMORY))
    assert not any(map(lacks_memory, LIBRARY))


@pytest.mark.parametrize("error", SYSTEM, ids=ids)
def test_a_built_engine(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    bundle = open_bundle(bundle_path)
    fields = dict.fromkeys(Identity.__annotations__, "x") | {"sha256": "0" * 64, "compute_capability": "8.6", "size": 0}
    identity = Identity(**(fields | {"profiles": ("p",), "flags": (), "graph": "h_a", "target": "tensorrt"}))
    store = EngineStore(bundle, trust=Trust(tmp_path / "state"))
    for name in ("write_file", "remove_file"):
        monkeypatch.setattr(f"s2c_deploy.tensorrt.store.{name}", raising(error))
    with pytest.raises(EngineError, match="cannot write"):
        store.write(identity, b"engine", tag="trt")
    with pytest.raises(EngineError, match="cannot delete"):
        store.remove(bundle.path / "tensorrt" / "h_a" / "x.engine")
    monkeypatch.setattr("s2c_deploy.tensorrt.trust.write_file", raising(error))
    with pytest.raises(EngineError, match="cannot write"):
        store.trust.record(identity)


@pytest.mark.parametrize(("status", "wanted"), [(2, OutOfMemoryError), (5, InputError), (99, EngineError)])
def test_the_c_coder(monkeypatch: pytest.MonkeyPatch, status: int, wanted: type[S2CError]) -> None:
    library = coder_module.library()

    class Failing:
        def __getattr__(self, name: str) -> Any:
            return (lambda *_: status) if name == "s2c_encode" else getattr(library, name)

    with Tables(gaussian_tables()) as tables:
        encoder = Encoder(tables)
        encoder.push(np.ones(4, np.int16), np.full(4, 40, np.uint8))
        monkeypatch.setattr(coder_module, "library", Failing)
        with pytest.raises(wanted):
            encoder.finish()
        monkeypatch.undo()


def test_numpy_in_the_codec(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    with Codec.open(bundle_path, "onnxruntime", threads=1) as codec:
        data = codec.compress(image)
        with monkeypatch.context() as patch:
            patch.setattr("s2c_deploy.codec.transforms.to_network", raising(MemoryError()))
            with pytest.raises(OutOfMemoryError, match=r"compressing 64x64 pixels .*--tile"):
                codec.compress(image)
        with monkeypatch.context() as patch:
            patch.setattr("s2c_deploy.codec.transforms.to_pixels", raising(MemoryError()))
            with pytest.raises(OutOfMemoryError, match="decompressing 64x64 pixels"):
                codec.decompress(data)
        with monkeypatch.context() as patch:
            patch.setattr(Runner, "__call__", raising(OutOfMemoryError("a graph")))
            with pytest.raises(OutOfMemoryError, match="decompressing 64x64 pixels"):
                codec.decompress(data)
        assert codec.compress(image) == data, "it goes on"
