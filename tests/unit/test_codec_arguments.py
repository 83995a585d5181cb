"""What callers hand to the codec that it cannot take, and what a hostile bundle's graphs hand to it: one line each."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2c_deploy import Codec
from s2c_deploy.arrays import FloatArray, Pixels
from s2c_deploy.codec.networks import Networks
from s2c_deploy.entropy.coder import Decoder, Encoder, Tables
from s2c_deploy.entropy.tables import gaussian_tables
from s2c_deploy.errors import BundleError, EngineError, InputError
from s2c_deploy.formats.bitstream import parse
from s2c_deploy.formats.bundle import Gains, open_bundle
from s2c_deploy.runtime import Runner, open_runner

IMAGE = np.random.default_rng(0).integers(0, 256, (70, 130, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def codec(bundle_path: Path) -> Iterator[Codec]:
    with Codec.open(bundle_path, "onnxruntime", threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def stream(codec: Codec) -> bytes:
    return codec.compress(IMAGE)


@pytest.mark.parametrize(
    "call",
    [
        lambda codec: codec.compress(IMAGE, 10**400),
        lambda codec: codec.compress(IMAGE, True),
        lambda codec: codec.compress(IMAGE, "4"),
        lambda codec: codec.compress(IMAGE, float("nan")),
        lambda codec: codec.compress(IMAGE, tile=64.0),
        lambda codec: codec.compress(IMAGE, icc="profile"),
        lambda codec: codec.compress(IMAGE, exif=bytearray(b"II")),
        lambda codec: codec.compress(IMAGE[:, :, 0]),
        lambda codec: codec.compress(IMAGE.tolist()),
        lambda codec: codec.compress(np.ma.masked_array(IMAGE, IMAGE > 3)),
        lambda codec: codec.decompress("photo.s2c"),
        lambda codec: codec.decompress(Path("photo.s2c")),
        lambda codec: codec.decompress(None),
        lambda codec: list(codec.decompress_all(None)),
        lambda codec: list(codec.decompress_all(5)),
        lambda codec: codec.decompress_stream(b"S2C"),
        lambda codec: list(codec.read_latents(None)),
        lambda codec: codec.synthesize(b"S2C", []),
        lambda codec: codec.check_stream(None),
    ],
)
def test_arguments_of_other_kinds(codec: Codec, call: Callable[[Any], object]) -> None:
    with pytest.raises(InputError) as caught:
        call(codec)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


def test_arguments_that_are_as_good(codec: Codec, stream: bytes) -> None:
    frozen = IMAGE.copy()
    frozen.flags.writeable = False
    for image in (frozen, np.asfortranarray(IMAGE), np.flip(np.flip(IMAGE, 1).copy(), 1)):
        assert codec.compress(image, np.float32(4), tile=0) == stream
    assert codec.compress(IMAGE, 4, tile=np.int64(64)) == codec.compress(IMAGE, tile=64)  # type: ignore[arg-type]
    right = codec.decompress(stream)
    for data in (bytearray(stream), memoryview(stream), np.frombuffer(stream, np.uint8)):
        np.testing.assert_array_equal(codec.decompress(data), right)  # type: ignore[arg-type]


def test_latents_of_another_shape(codec: Codec, stream: bytes) -> None:
    parsed = parse(stream)
    (latents,) = codec.read_latents(parsed)
    wrong: list[Any] = [[], [None], [latents[:, :-1]], [latents[:, :, :-1]], [latents.astype(np.float64)], [[latents]]]
    for given in wrong:
        with pytest.raises(InputError, match="latents: expected float32"):
            codec.synthesize(parsed, given)
    with pytest.raises(EngineError, match="no numbers"):
        codec.synthesize(parsed, [latents * np.float32(np.nan)])


@pytest.mark.parametrize(
    "options",
    [
        {"threads": 2**31},
        {"threads": True},
        {"synthesis": "x"},
        {"synthesis": None},
        {"precision": "x"},
        {"precision": None},
        {"backend": "nothing"},
    ],
)
def test_options_that_cannot_be(bundle_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="expected"):
        Codec.open(bundle_path, **options)


@pytest.mark.parametrize("leave", ["break", "interrupt"])
def test_streams_that_come_from_a_queue(codec: Codec, stream: bytes, leave: str) -> None:
    """The next one may never come: whoever leaves the loop does not wait for it."""
    coming: queue.Queue[bytes] = queue.Queue()
    coming.put(stream)

    def work() -> None:
        for pixels in codec.decompress_all(iter(coming.get, b"")):
            assert pixels.shape == IMAGE.shape
            if leave == "break":
                break
            raise KeyboardInterrupt

    done = threading.Thread(target=lambda: _quietly(work))
    done.start()
    done.join(60)
    assert not done.is_alive()
    coming.put(b"")


def _quietly(work: Callable[[], None]) -> None:
    try:
        work()
    except KeyboardInterrupt:
        return


# what a bundle's graphs may return


class Changed(Runner):
    """A runner whose outputs are changed, as a hostile graph's would be."""

    def __init__(self, runner: Runner, change: Callable[[dict[str, FloatArray]], None]) -> None:
        self.backend, self.provider, self.precision = runner.backend, runner.provider, runner.precision
        self.inputs, self.outputs, self._runner, self._change = runner.inputs, runner.outputs, runner, change

    def _run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        outputs = dict(self._runner(inputs))
        self._change(outputs)
        return outputs


def _set(name: str, change: Callable[[FloatArray], FloatArray]) -> Callable[[dict[str, FloatArray]], None]:
    return lambda outputs: outputs.update({name: change(outputs[name])})


@pytest.mark.parametrize(
    ("graph", "change"),
    [
        ("context_4_nonanchor", _set("indexes", lambda v: v + np.float32(200))),
        ("context_4_nonanchor", _set("indexes", lambda v: v - np.float32(65))),
        ("context_4_nonanchor", _set("indexes", lambda v: v + np.float32(np.inf))),
        ("context_0_anchor", _set("indexes", lambda v: v * np.float32(np.nan))),
        ("context_0_anchor", _set("indexes", lambda v: v[:, :, :-1])),
        ("context_2_anchor", _set("means", lambda v: v + np.float32(1e6))),
        ("context_2_anchor", _set("means", lambda v: v * np.float32(np.nan))),
        ("context_2_anchor", _set("means", lambda v: v[:, :-1])),
        ("g_a", _set("y", lambda v: v * np.float32(np.nan))),
        ("h_a", _set("z", lambda v: v * np.float32(np.nan))),
    ],
)
def test_graphs_that_return_what_they_did_not_promise(
    bundle_path: Path, graph: str, change: Callable[[dict[str, FloatArray]], None]
) -> None:
    bundle = open_bundle(bundle_path)
    networks = Networks(bundle, "onnxruntime", threads=1)
    networks._runners[graph] = Changed(networks[graph], change)
    with Codec(bundle, networks) as codec, pytest.raises(EngineError, match=r"expected|no numbers"):
        codec.compress(IMAGE)


@pytest.mark.parametrize("value", [3e38, 1e-45, 0.0, -1.0, np.inf, np.nan])
def test_gains_that_no_model_has(bundle_path: Path, value: float) -> None:
    bundle = open_bundle(bundle_path)
    for name in ("gain", "inverse_gain", "hyper_gain"):
        arrays = {field: getattr(bundle.gains, field).copy() for field in Gains.__annotations__}
        arrays[name].flat[5] = value
        with pytest.raises(BundleError, match=rf"{name}: expected values between"):
            Gains(**arrays).validate(bundle.config, bundle.tables.count)


# the coder


def test_a_decoder_writes_into_no_memory_that_is_not_to_be_written(small_photograph: Pixels) -> None:
    indexes = np.full(1000, 40, np.uint8)
    with Tables(gaussian_tables()) as tables:
        encoder = Encoder(tables)
        encoder.push(np.ones(1000, np.int16), indexes)
        payload = encoder.finish()
        constant = b"\1" * 2000
        with pytest.raises(InputError, match="out must be writable"):
            Decoder(tables, payload).read(indexes, np.frombuffer(constant, np.int16))
        assert constant == b"\1" * 2000


def test_a_decoder_in_another_thread_and_after_its_tables() -> None:
    indexes = np.full(1000, 40, np.uint8)
    tables = Tables(gaussian_tables())
    encoder = Encoder(tables)
    encoder.push(np.ones(1000, np.int16), indexes)
    decoder = Decoder(tables, encoder.finish())
    with decoder._alone():
        for use in (decoder.finish, decoder.info, lambda: decoder.read(indexes)):
            with pytest.raises(InputError, match="in another thread"):
                use()
    assert (decoder.read(indexes) == 1).all()
    tables.close()
    for use in (decoder.finish, decoder.info):
        with pytest.raises(InputError, match="closed"):
            use()


def test_coders_of_other_kinds() -> None:
    odd: Any
    with Tables(gaussian_tables()) as tables:
        for odd in ("a", -1, 2**40, 1.5):
            with pytest.raises(InputError, match="threads must be"):
                Encoder(tables).finish(threads=odd)
            with pytest.raises(InputError, match="threads must be"):
                Decoder(tables, b"", threads=odd)
        odd = 2.5
        with pytest.raises(InputError, match="lanes_log2"):
            Encoder(tables).finish(odd)
        odd = None
        with pytest.raises(InputError, match="tables must be"):
            Decoder(odd, b"")
    with pytest.raises(InputError, match="tables must be"):
        Tables(odd)


def test_a_runner_of_no_arrays(bundle_path: Path) -> None:
    odd: Any
    with open_runner(bundle_path / "h_s.onnx", backend="onnxruntime") as runner:
        for odd in (None, [1], {"z_hat": [1.0]}):
            with pytest.raises(EngineError, match="expected arrays by name"):
                runner(odd)
