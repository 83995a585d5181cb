"""``s2c-deploy batch`` between folders and object storage: a real HTTP server that speaks as S3 does."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import require
from PIL import Image as Pil

from s2c_deploy.arrays import Pixels
from s2c_deploy.codec.codec import Codec

PATIENCE = 300.0
NAMES = ("a.png", "sub/b c.png", "sub/-d%20?e#.png")


@dataclass(frozen=True, kw_only=True)
class Storage:
    """A server, what a user's environment says of it, and its bucket ``pictures``."""

    variables: dict[str, str]
    #: A pyarrow file system.
    files: Any

    def read(self, name: str) -> bytes:
        with self.files.open_input_stream(f"pictures/{name}") as file:
            return bytes(file.read())

    def write(self, name: str, data: bytes) -> None:
        with self.files.open_output_stream(f"pictures/{name}") as file:
            file.write(data)

    def names(self, prefix: str) -> set[str]:
        from pyarrow import fs

        found = self.files.get_file_info(fs.FileSelector(f"pictures/{prefix}", recursive=True))
        return {info.path.removeprefix("pictures/") for info in found if info.type == fs.FileType.File}


@pytest.fixture(scope="module")
def storage() -> Iterator[Storage]:
    require("moto")
    from pyarrow import fs

    variables = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    environment = os.environ | variables
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
        try:
            assert server.stderr is not None
            url = next(found[0] for line in server.stderr if (found := re.findall(r"http://127\.0\.0\.1:\d+", line)))
            files = fs.S3FileSystem(
                access_key="key",
                secret_key="secret",
                region="us-east-1",
                endpoint_override=url,
                allow_bucket_creation=True,
            )
            files.create_dir("pictures")
            yield Storage(variables=variables | {"AWS_ENDPOINT_URL": url}, files=files)
        finally:
            server.terminate()


def batch(storage: Storage, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "s2c_deploy.cli.main", "batch", *map(str, arguments), "--json"]
    command += ["--backend", "onnxruntime", "--workers", "1"]
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": PATIENCE}
    return subprocess.run(command, cwd=folder, env=os.environ | storage.variables, check=False, **options)


def png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Pil.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_there_and_back(storage: Storage, bundle_path: Path, small_photograph: Pixels, tmp_path: Path) -> None:
    from pyarrow import parquet

    pictures = {name: small_photograph[32 * k : 32 * k + 64, :80] for k, name in enumerate(NAMES)}
    for name, pixels in pictures.items():
        storage.write(f"in/{name}", png(pixels))
    storage.write("in/broken.png", b"no picture")
    storage.write("in/.hidden.png", b"")
    storage.write("in/notes.txt", b"no picture")
    storage.write("in2/other.png", b"of another prefix")
    bundle = ("--bundle", bundle_path)
    command = ("compress", "s3://pictures/in/", "s3://pictures/out", *bundle, "-q", 5)
    done = batch(storage, tmp_path, *command)
    told = json.loads(done.stdout)
    assert (done.returncode, told["done"]) == (3, 3), done.stderr
    assert [row["path"] for row in told["failed"]] == ["broken.png"]
    assert {entry["reason"] for entry in told["left_out"]} == {"no picture's suffix", "hidden"}
    streams = {name: name.replace(".png", ".s2c") for name in NAMES}
    assert storage.names("out") == {f"out/{name}" for name in (*streams.values(), "batch.parquet")}
    with Codec.open(bundle_path, "onnxruntime", threads=1) as codec:
        for name, pixels in pictures.items():
            assert storage.read(f"out/{streams[name]}") == codec.compress(np.ascontiguousarray(pixels), 5)
        rows = parquet.read_table("pictures/out/batch.parquet", filesystem=storage.files).to_pylist()
        assert {row["path"]: row["error"] is None for row in rows} == {
            **dict.fromkeys(NAMES, True),
            "broken.png": False,
        }

        storage.files.delete_file("pictures/in/broken.png")
        again = json.loads(batch(storage, tmp_path, *command).stdout)
        assert (again["done"], again["done_before"]) == (0, 3)

        here = batch(storage, tmp_path, "decompress", "s3://pictures/out", "back", *bundle)
        assert here.returncode == 0, here.stderr
        for name in NAMES:
            expected = codec.decompress(storage.read(f"out/{streams[name]}"))
            np.testing.assert_array_equal(np.asarray(Pil.open(tmp_path / "back" / name)), expected)


@pytest.mark.parametrize(
    ("source", "target", "told"),
    [
        ("s3://nosuchbucket/in", "out", "cannot list s3://nosuchbucket/in"),
        ("in", "s3://nosuchbucket/out", "cannot write s3://nosuchbucket/out/batch.parquet"),
        ("s3://pictures/nothing-here", "out", "cannot list s3://pictures/nothing-here"),
        ("s3://pictures/in", "s3://pictures/in/out", "lie in each other"),
    ],
)
def test_what_is_not_there_is_said_before_any_work(
    storage: Storage, bundle_path: Path, small_photograph: Pixels, tmp_path: Path, source: str, target: str, told: str
) -> None:
    (tmp_path / "in").mkdir()
    Pil.fromarray(small_photograph[:16, :16]).save(tmp_path / "in" / "a.png")
    done = batch(storage, tmp_path, "compress", source, target, "--bundle", bundle_path)
    assert done.returncode == 3
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_somebody_elses_object_is_not_replaced(
    storage: Storage, bundle_path: Path, small_photograph: Pixels, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    Pil.fromarray(small_photograph[:16, :16]).save(tmp_path / "in" / "a.png")
    storage.write("taken/a.s2c", b"somebody else's")
    done = batch(storage, tmp_path, "compress", "in", "s3://pictures/taken", "--bundle", bundle_path)
    assert (done.returncode, storage.read("taken/a.s2c")) == (3, b"somebody else's")
    assert "s3://pictures/taken/a.s2c exists" in done.stderr
    done = batch(storage, tmp_path, "compress", "in", "s3://pictures/taken", "--bundle", bundle_path, "--force")
    assert (done.returncode, storage.read("taken/a.s2c")[1:4]) == (0, b"S2C")
