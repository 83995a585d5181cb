"""The codecs that a process opens by itself: in the workers of a DataLoader, after a fork, in one call."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import s2c_deploy
from s2c_deploy.arrays import Pixels
from s2c_deploy.codec.codec import Codec
from s2c_deploy.errors import BitstreamError, InputError, S2CError
from s2c_deploy.formats.bitstream import parse

BACKENDS = pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "torch"])

DATALOADER = """
import os, sys
import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from s2c_deploy import register_s2c_opener

register_s2c_opener(backend=sys.argv[1], threads=1)  # a spawned worker imports this file again

class Streams(Dataset):
    def __init__(self, names):
        self.names = names
    def __len__(self):
        return len(self.names)
    def __getitem__(self, index):
        with Image.open(self.names[index]) as picture:
            return np.array(picture), os.getpid()

def main():
    names = sys.argv[2:]
    right = [np.array(Image.open(name)) for name in names]  # the parent has a codec open
    for method in ("fork", "spawn", "fork"):
        loader = DataLoader(Streams(names), batch_size=None, num_workers=2, multiprocessing_context=method, timeout=200)
        found = list(loader)
        same = all((pixels.numpy() == expected).all() for (pixels, _), expected in zip(found, right, strict=True))
        print(method, same, len({process for _, process in found} - {os.getpid()}), flush=True)
    print("parent", all((np.array(Image.open(name)) == expected).all() for name, expected in zip(names, right)))

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def streams(bundle_path: Path, small_photograph: Pixels, tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{k}.s2c" for k in range(6)]
    with Codec.open(bundle_path, threads=1) as codec:
        for k, path in enumerate(paths):
            path.write_bytes(codec.compress(np.ascontiguousarray(small_photograph[: 40 + 9 * k, : 90 - 7 * k])))
    return paths


def run(script: str, folder: Path, bundle: Path, *arguments: object) -> str:
    (folder / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "script.py", *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"S2C_BUNDLE": str(bundle), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@BACKENDS
def test_a_dataloader(backend: str, bundle_path: Path, streams: list[Path], tmp_path: Path) -> None:
    out = run(DATALOADER, tmp_path, bundle_path, backend, *streams)
    assert out == "fork True 2\nspawn True 2\nfork True 2\nparent True\n"


FORKED = """
import os, signal, sys, threading, time
import numpy as np
import s2c_deploy
data = open(sys.argv[2], "rb").read()
right = s2c_deploy.decode(data, backend=sys.argv[1], threads=1)
for count in range(2, 6):  # another number of threads is another codec: each is opened while there is a fork
    opening = threading.Thread(target=s2c_deploy.decode, args=[data], kwargs={"backend": sys.argv[1], "threads": count})
    opening.start()
    time.sleep(0.02 * (count - 2))
    if (child := os.fork()) == 0:
        signal.alarm(60)  # rather than wait for ever for a lock
        same = (s2c_deploy.decode(data, backend=sys.argv[1], threads=count) == right).all()
        if (grandchild := os.fork()) == 0:
            signal.alarm(60)
            os._exit(0 if (s2c_deploy.decode(data, backend=sys.argv[1], threads=1) == right).all() else 3)
        os._exit(0 if same and os.waitpid(grandchild, 0)[1] == 0 else 4)
    opening.join()
    print(os.waitpid(child, 0)[1], (s2c_deploy.decode(data, backend=sys.argv[1], threads=count) == right).all())
"""


@BACKENDS
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forks_while_a_thread_opens_a_codec(
    backend: str, bundle_path: Path, streams: list[Path], tmp_path: Path
) -> None:
    assert run(FORKED, tmp_path, bundle_path, backend, streams[0]) == "0 True\n" * 4


SHORT_OF_MEMORY = """
import resource, sys
from PIL import Image
from s2c_deploy import register_s2c_opener
register_s2c_opener(backend="onnxruntime", threads=1)
Image.open("0.s2c").load()  # the networks are open
large = Image.open("large.s2c")
before = resource.getrlimit(resource.RLIMIT_AS)
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**25, before[1]))
try:
    large.load()
except MemoryError as error:
    print("MemoryError", "1536x1024" in str(error))
resource.setrlimit(resource.RLIMIT_AS, before)
print(large.getpixel((3, 3)))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc here")
def test_memory_that_does_not_suffice(
    bundle_path: Path, streams: list[Path], photograph: Pixels, tmp_path: Path
) -> None:
    """As Pillow says it; and the picture can be loaded when there is memory again."""
    with Codec.open(bundle_path, "onnxruntime", threads=1) as codec:
        data = codec.compress(np.tile(photograph, (2, 2, 1)), 1)
        right = tuple(map(int, codec.decompress(data)[3, 3]))
    (tmp_path / "large.s2c").write_bytes(data)
    assert run(SHORT_OF_MEMORY, tmp_path, bundle_path) == f"MemoryError True\n{right}\n"


def test_in_one_call(bundle_path: Path, small_photograph: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2C_BUNDLE", str(bundle_path))
    with Codec.open(bundle_path, "onnxruntime", threads=1) as codec:
        picture = small_photograph[:50:2, 60::-1]  # neither in one piece nor forwards
        data = s2c_deploy.encode(picture, 5, tile=64, icc=b"profile", backend="onnxruntime", threads=1)
        assert data == codec.compress(np.ascontiguousarray(picture), 5, tile=64, icc=b"profile")
        right = codec.decompress(data)
    for given in (data, bytearray(data), memoryview(data), np.frombuffer(data, np.uint8)):
        np.testing.assert_array_equal(s2c_deploy.decode(given, backend="onnxruntime", threads=1), right)  # type: ignore[arg-type]
    assert parse(data).icc == b"profile"


def test_what_cannot_be_coded(
    bundle_path: Path, small_photograph: Pixels, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("S2C_BUNDLE", str(bundle_path))
    data = s2c_deploy.encode(small_photograph, backend="onnxruntime", threads=1)
    wrong: list[tuple[type[S2CError], str, dict[str, object]]] = [
        (InputError, "uint8 of height x width x 3", {"image": small_photograph[:, :, 0]}),
        (InputError, "uint8 of height x width x 3", {"image": small_photograph.astype(float)}),
        (InputError, "quality", {"quality": 9}),
        (InputError, "bundle", {"bundle": 3}),
        (InputError, "no bundle at", {"bundle": tmp_path / "none"}),
    ]
    for kind, why, given in wrong:
        with pytest.raises(kind, match=why):
            s2c_deploy.encode(**({"image": small_photograph, "backend": "onnxruntime", "threads": 1} | given))  # type: ignore[arg-type]
    with pytest.raises(BitstreamError, match="cut short"):
        s2c_deploy.decode(data[:-1])
    with pytest.raises(BitstreamError, match="dimensions"):
        s2c_deploy.decode(data, max_pixels=100)
    with pytest.raises(InputError, match="expected its bytes"):
        s2c_deploy.decode("a.s2c")  # type: ignore[arg-type]
    monkeypatch.setenv("S2C_BUNDLE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no bundle at"):
        s2c_deploy.decode(data)


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys, s2c_deploy; s2c_deploy.__all__;"
        "print([name for name in ('numpy', 'PIL', 'zarr', 'numcodecs', 's2c_deploy.pillow') if name in sys.modules]);"
        "[getattr(s2c_deploy, name) for name in s2c_deploy.__all__];"
        "print([name for name in ('torch', 'zarr', 'numcodecs', 'onnxruntime', 'openvino') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100).stdout
    assert out == "[]\n[]\n"
