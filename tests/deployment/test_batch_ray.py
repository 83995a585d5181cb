"""``s2c-deploy batch --ray`` on a real cluster of two nodes, one of which is killed in the middle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import missing
from PIL import Image as Pil
from pyarrow import parquet

from s2c_deploy.arrays import Pixels
from s2c_deploy.codec.codec import Codec
from s2c_deploy.image import read_image

#: Of which three are broken.  S2C_BATCH_PICTURES: fewer, where time is short.
PICTURES, BROKEN = int(os.environ.get("S2C_BATCH_PICTURES", "300")), 3
#: Seconds that anything may take on a slow machine.
PATIENCE = 400.0
CLUSTER = Path(__file__).with_name("ray_cluster.py")


def needs_ray() -> None:
    """Not by importing it, which changes the environment."""
    if find_spec("ray") is None:
        missing("ray is not installed", "ray")


class Cluster:
    """The program ``ray_cluster.py``."""

    def __init__(self, folder: str) -> None:
        options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with (Path(folder) / "errors.txt").open("w") as errors:
            command = [sys.executable, CLUSTER, folder]
            self._process = subprocess.Popen(command, text=True, stderr=errors, **options)
        self.address = self._line()
        if ":" not in self.address:
            self.close()
            pytest.fail((Path(folder) / "errors.txt").read_text())

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def kill_a_node(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("kill\n")
        self._process.stdin.flush()
        assert self._line() == "killed"

    def close(self) -> None:
        self._process.communicate(timeout=PATIENCE)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    needs_ray()
    # Not in pytest's own folder: names of Ray's sockets may not be long.
    with tempfile.TemporaryDirectory(prefix="s2c-ray-", ignore_cleanup_errors=True) as folder:
        started = Cluster(folder)
        try:
            yield started
        finally:
            started.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, photograph: Pixels) -> Path:
    folder = tmp_path_factory.mktemp("ray") / "in"
    (folder / "sub").mkdir(parents=True)
    for k in range(PICTURES - BROKEN):
        name = f"{'sub/' if k % 3 == 0 else ''}{k:03d}.png"
        Pil.fromarray(photograph[k : k + 64, k : k + 64]).save(folder / name, compress_level=1)
    for k in range(BROKEN - 1):
        (folder / f"broken {k}.png").write_bytes(b"no picture")
    (folder / os.fsdecode(b"broken \xe9.png")).write_bytes(b"no picture either")
    return folder


def start(pictures: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "s2c_deploy.cli.main", "batch", "compress", pictures, *map(str, arguments)]
    return subprocess.Popen(
        [*command, "--backend", "onnxruntime", "--json"],
        cwd=pictures.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="backslashreplace",
    )


def test_a_node_dies_and_every_picture_is_done_once(cluster: Cluster, pictures: Path, bundle_path: Path) -> None:
    out = pictures.parent / "out"
    options = (out, "--bundle", bundle_path, "-q", 3, "--ray", cluster.address)
    with start(pictures, *options) as process:
        deadline = time.monotonic() + PATIENCE
        while len(list(out.rglob("*.s2c"))) < PICTURES // 4:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        cluster.kill_a_node()
        done_then = len(list(out.rglob("*.s2c")))
        told, errors = process.communicate(timeout=PATIENCE)
    assert done_then < PICTURES - BROKEN
    assert process.returncode == 3, errors
    record = json.loads(told)
    assert (record["files"], record["done"], len(record["failed"])) == (PICTURES, PICTURES - BROKEN, BROKEN)

    rows = parquet.read_table(out / "batch.parquet").to_pylist()
    assert len({row["path"] for row in rows}) == len(rows) == PICTURES
    done = {row["output"]: row["bytes"] for row in rows if row["error"] is None}
    assert done == {str(path.relative_to(out)): path.stat().st_size for path in out.rglob("*.s2c")}
    assert len(done) == PICTURES - BROKEN
    assert sorted(row["path"] for row in rows if row["error"]) == ["broken 0.png", "broken 1.png", "broken \\xe9.png"]
    assert len({row["worker"] for row in rows}) >= 2
    with Codec.open(bundle_path, "onnxruntime", threads=1) as codec:
        for name in ("sub/000.png", "001.png"):
            expected = codec.compress(read_image(pictures / name).pixels, 3)
            assert (out / name).with_suffix(".s2c").read_bytes() == expected

    for path in pictures.glob("broken*"):
        path.unlink()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    with start(pictures, *options) as process:
        told, _ = process.communicate(timeout=PATIENCE)
    record = json.loads(told)
    assert (process.returncode, record["done"], record["done_before"]) == (0, 0, PICTURES - BROKEN)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_no_cluster_there(pictures: Path, bundle_path: Path, tmp_path: Path) -> None:
    needs_ray()
    with start(pictures, tmp_path / "out", "--bundle", bundle_path, "--ray", "nothing at all") as process:
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 3
    assert "error: no Ray cluster at nothing at all" in errors
    assert not (tmp_path / "out").exists()


def test_an_actor_that_cannot_begin_ends_the_run(
    cluster: Cluster, pictures: Path, bundle_path: Path, tmp_path: Path
) -> None:
    """As where a machine has another bundle, or another disk; the message is the actor's own."""
    code = """
import sys
from s2c_deploy.batch.cluster import connected, on_ray, pool_of
from s2c_deploy.batch.request import Request, Task
from s2c_deploy.errors import S2CError
from s2c_deploy.formats.bundle import open_bundle
from pathlib import Path
address, source, target, bundle = sys.argv[1:]
request = Request(operation="compress", source=source, target=target, bundle=bundle, backend="onnxruntime")
task = Task(source="001.png", target="001.s2c", size=1, modified=1)
with connected(address):
    pool = pool_of(request, 1, 1)
    for fingerprint in ("0" * 64, open_bundle(Path(bundle)).fingerprint.hex()):
        try:
            list(on_ray(request, fingerprint, [task], pool, lambda: False))
        except S2CError as error:
            print(error.exit_code, error, file=sys.__stdout__)
"""
    command = [sys.executable, "-c", code, cluster.address, pictures, tmp_path, bundle_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    bundle, place = done.stdout.splitlines()
    assert bundle.startswith("5 "), done.stderr
    assert "expected the bundle 0000000000000000" in bundle
    assert place.startswith(f"3 no batch.parquet in {tmp_path} on ")
