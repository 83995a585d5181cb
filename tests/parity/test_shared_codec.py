"""One codec in many threads, in another process, after a fork, and over a long life: on every backend."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from s2c_deploy import Codec
from s2c_deploy.arrays import Pixels
from s2c_deploy.entropy.coder import Decoder, Encoder, Tables
from s2c_deploy.entropy.tables import gaussian_tables
from s2c_deploy.errors import BundleError, EngineError, InputError
from s2c_deploy.runtime import open_runner

BACKENDS = pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "torch"])
SIZES = [(h, w) for h in (64, 100, 128) for w in (65, 128, 150, 192)]


def pictures() -> list[Pixels]:
    """One of each of twelve sizes, none like another."""
    rng = np.random.default_rng(0)
    found = []
    for k, (height, width) in enumerate(SIZES):
        y, x = np.mgrid[0:height, 0:width]
        smooth = np.stack([x + 9 * k, y * (k + 1), (x + y) // (k + 1)], 2)
        found.append((smooth + rng.integers(0, 60, smooth.shape)).clip(0, 255).astype(np.uint8))
    return found


@pytest.fixture(params=["openvino", "onnxruntime", "torch"])
def codec(request: pytest.FixtureRequest, bundle_path: Path) -> Iterator[Codec]:
    with Codec.open(bundle_path, request.param, threads=1) as opened:
        yield opened


def test_eight_threads_get_what_one_gets(codec: Codec) -> None:
    images = pictures()
    streams = [codec.compress(image) for image in images]
    decoded = [codec.decompress(data) for data in streams]

    def work(number: int) -> bool:
        k = number % len(images)
        return codec.compress(images[k]) == streams[k] and bool((codec.decompress(streams[k]) == decoded[k]).all())

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(96)))


def test_eight_threads_may_be_the_first(bundle_path: Path) -> None:
    """Graphs are opened when first asked for: by whoever asks first, once."""
    (image,) = pictures()[:1]
    with Codec.open(bundle_path, "onnxruntime", threads=1) as serial:
        stream = serial.compress(image)
    with Codec.open(bundle_path, "onnxruntime", threads=1) as codec, ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda _: codec.compress(image), range(8))) == [stream] * 8


def test_closing_under_other_threads_ends_them_with_an_error_or_a_result(codec: Codec) -> None:
    image = pictures()[-1]
    stream = codec.compress(image)
    right = codec.decompress(stream)
    outcomes: list[object] = []

    def work() -> None:
        while True:
            try:
                outcomes.append(bool((codec.decompress(stream) == right).all()))
            except InputError as error:
                outcomes.append(str(error))
                return

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    codec.close()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert set(outcomes) <= {True, "this codec is closed (open another one)"}
    assert outcomes.count("this codec is closed (open another one)") == 4


def test_tables_close_under_a_decoder() -> None:
    frequencies = gaussian_tables()
    indexes = np.full(200_000, 40, np.uint8)
    with Tables(frequencies) as tables:
        encoder = Encoder(tables)
        encoder.push(np.ones(indexes.size, np.int16), indexes)
        payload = encoder.finish()
    for _ in range(20):
        tables = Tables(frequencies)
        outcomes: list[object] = []

        def work(tables: Tables = tables, outcomes: list[object] = outcomes) -> None:
            try:
                decoder = Decoder(tables, payload)
                for _ in range(50):
                    outcomes.append(bool((decoder.read(indexes) == 1).all()))
                    decoder = Decoder(tables, payload)
            except InputError as error:
                outcomes.append(str(error))

        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(0.002)
        tables.close()
        thread.join(60)
        assert not thread.is_alive()
        assert set(outcomes) <= {True, "this set of tables is closed (open another one)"}


def test_two_threads_in_one_decoder() -> None:
    """Whoever comes second gets an error, and the first one its symbols."""
    indexes = np.full(2_000_000, 40, np.uint8)
    with Tables(gaussian_tables()) as tables:
        encoder = Encoder(tables)
        encoder.push(np.ones(indexes.size, np.int16), indexes)
        decoder = Decoder(tables, encoder.finish())
        assert decoder._one.acquire()  # as a thread in C holds it
        with pytest.raises(InputError, match="in another thread"):
            decoder.read(indexes)
        decoder._one.release()
        assert (decoder.read(indexes) == 1).all()
        decoder.finish()


def _elsewhere(codec: Codec, stream: bytes) -> tuple[int, Pixels]:
    with codec:
        return os.getpid(), codec.decompress(stream)


def test_a_pickled_codec_opens_its_own(codec: Codec) -> None:
    image = pictures()[0]
    stream = codec.compress(image)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        process, pixels = pool.apply(_elsewhere, (codec, stream))
    assert process != os.getpid()
    np.testing.assert_array_equal(pixels, codec.decompress(stream))
    with copy.deepcopy(codec) as twin:
        assert twin.backend == codec.backend
        assert twin.compress(image) == stream
    assert codec.compress(image) == stream, "the copy's end is not the first one's"


def test_a_pickled_codec_is_not_another_bundles(bundle_path: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle_path, tmp_path / "b")
    with Codec.open(tmp_path / "b", "onnxruntime") as codec:
        pickled = pickle.dumps(codec)
    manifest = tmp_path / "b" / "manifest.json"
    manifest.write_text(manifest.read_text().replace(codec.bundle.fingerprint.hex(), "0" * 64))
    with pytest.raises(BundleError, match="fingerprint"):
        pickle.loads(pickled)


def test_what_holds_native_memory_is_not_copied(bundle_path: Path) -> None:
    with Tables(gaussian_tables()) as tables, open_runner(bundle_path / "h_s.onnx", backend="onnxruntime") as runner:
        decoder_input = Encoder(tables)
        decoder_input.push(np.zeros(4, np.int16), np.full(4, 9, np.uint8))
        for thing in (tables, runner, Encoder(tables), Decoder(tables, decoder_input.finish())):
            for use in (copy.copy, copy.deepcopy, pickle.dumps):
                with pytest.raises(TypeError, match="cannot be copied or pickled"):
                    use(thing)


FORKED = """
import os, signal, sys
import numpy as np
from s2c_deploy import Codec
from s2c_deploy.errors import EngineError
image = np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)
codec = Codec.open(sys.argv[1], sys.argv[2], threads=2)
stream = codec.compress(image)
right = codec.decompress(stream)
child = os.fork()
if child == 0:
    signal.alarm(100)
    try:
        codec.decompress(stream)
    except EngineError as error:
        print(error)
    codec.close()
    with Codec.open(sys.argv[1], sys.argv[2], threads=2) as own:
        print("own", own.compress(image) == stream, (own.decompress(stream) == right).all(), flush=True)
    sys.exit(0)
print("ended", os.waitpid(child, 0)[1])
"""


@BACKENDS
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_is_told_and_may_open_its_own(bundle_path: Path, backend: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKED, str(bundle_path), backend]
    out = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout
    assert "is a fork (open another one in each process" in out
    assert "own True True" in out
    assert out.endswith("ended 0\n")


INTERRUPTED = """
import os, signal, sys, threading
from s2c_deploy import Codec
def use():
    codecs = [Codec.open(sys.argv[1], sys.argv[2], threads=1) for _ in range(2)]
    for codec in codecs:
        codec.load()
    return codecs
def close(codecs):
    for codec in codecs:
        codec.close()
mine = use()
thread = threading.Thread(target=lambda: close(use()))
thread.start()
thread.join()
close(mine)
closing = threading.Thread(target=close, args=[use()])
closing.start()
closing.join()
try:
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()
except KeyboardInterrupt:
    print("interrupted")
"""


@BACKENDS
def test_closed_codecs_leave_signals_as_they_were(bundle_path: Path, backend: str) -> None:
    """Whichever thread closed them, in whatever order: an engine must not free what signals are handled on."""
    command = [sys.executable, "-W", "ignore", "-c", INTERRUPTED, str(bundle_path), backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


GROWTH = """
import ctypes, gc, sys
import numpy as np
from s2c_deploy import Codec
def memory():
    gc.collect()
    trim(0)  # what the allocator keeps for later is not what grows
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20
trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda kept: 0)
image = np.random.default_rng(0).integers(0, 256, (768, 768, 3), dtype=np.uint8)
blocks = sorted(((h, w) for h in range(1, 13) for w in range(1, 13) if 8 <= h * w <= 12), key=lambda s: -s[0] * s[1])
with Codec.open(sys.argv[1], sys.argv[2], threads=1) as codec:
    streams = [codec.compress(image[: 64 * h, : 64 * w]) for h, w in blocks]
with Codec.open(sys.argv[1], sys.argv[2], threads=1) as codec:
    for stream in 3 * streams[:8]:
        codec.decompress(stream)
    print(memory())
    for stream in 3 * streams:  # eleven sizes more, none larger
        codec.decompress(stream)
    print(memory())
"""


@BACKENDS
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc here")
def test_memory_does_not_grow_with_sizes(bundle_path: Path, backend: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", GROWTH, str(bundle_path), backend]
    out = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True).stdout
    early, late = map(float, out.split())
    assert late <= 1.1 * early, f"{early:.0f} MB after 8 sizes, {late:.0f} MB after 19"


SPY = """
import socket, sys
asked = []
def spy(host, *rest, **more):
    asked.append(host)
    raise OSError("no network here")
socket.getaddrinfo = socket.gethostbyname = spy
from s2c_deploy import Codec
import numpy as np
with Codec.open(sys.argv[1], sys.argv[2], threads=1) as codec:
    codec.decompress(codec.compress(np.zeros((64, 64, 3), np.uint8)))
print(asked, "openvino_telemetry" in sys.modules)
sys.exit(0)
"""


@BACKENDS
def test_nobody_is_called(bundle_path: Path, backend: str, tmp_path: Path) -> None:
    """Of a user who never answered OpenVINO's question whether it may send what it sends; nor is anything kept, as
    ONNX Runtime keeps an id of the machine and events."""
    asked = ("CI", "GITHUB_ACTIONS", "JENKINS_URL", "TF_BUILD", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    environment = {k: v for k, v in os.environ.items() if k not in asked}
    command = [sys.executable, "-W", "ignore", "-c", SPY, str(bundle_path), backend]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
        env=environment | {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
    )
    assert done.stdout == "[] False\n"
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_closed_codec_says_so(codec: Codec) -> None:
    stream = codec.compress(pictures()[0])
    codec.close()
    codec.close()
    for use in (lambda: codec.decompress(stream), lambda: codec.compress(pictures()[0]), codec.load):
        with pytest.raises(InputError, match="this codec is closed"):
            use()


def test_options_of_other_types(bundle_path: Path) -> None:
    given: list[dict[str, object]] = [{"threads": 1.0}, {"threads": -1}, {"max_pixels": 0}, {"max_pixels": "9"}]
    for options in [*given, {"backend": None}]:
        with pytest.raises((InputError, EngineError), match="expected") as caught:
            Codec.open(bundle_path, **options)  # type: ignore[arg-type]
        assert len(str(caught.value)) < 200
    with pytest.raises(InputError, match="bundle: expected the path"):
        Codec.open(3)  # type: ignore[arg-type]
