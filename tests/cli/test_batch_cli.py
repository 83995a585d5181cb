"""``s2c-deploy batch`` on one machine: folders through real processes, against the commands for single files."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Run
from PIL import Image as Pil
from processes import COMMAND, environment
from pyarrow import parquet

from s2c_deploy.arrays import Pixels
from s2c_deploy.batch.processes import in_processes
from s2c_deploy.batch.request import Request, Task
from s2c_deploy.batch.table import NAME, difference
from s2c_deploy.codec.codec import Codec
from s2c_deploy.errors import EngineError
from s2c_deploy.formats.bitstream import parse
from s2c_deploy.formats.bundle import open_bundle
from s2c_deploy.image import read_image

BACKEND = ("--backend", "onnxruntime")
#: More than are done before a signal comes.
MANY = 40
#: Seconds that anything may take on a slow machine.
PATIENCE = 120.0


@pytest.fixture
def pictures(tmp_path: Path, small_photograph: Pixels) -> Path:
    """Three pictures with names that scripts stumble over, one of them in a subfolder; and what is none."""
    names = (b"-q.png", b"a b\n\xe9.png", "sub/\N{BLACK STAR}.JPG".encode())
    for k, name in enumerate(names):
        path = tmp_path / "in" / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Pil.fromarray(small_photograph[:48, 32 * k : 32 * k + 70]).save(path)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    return tmp_path / "in"


@pytest.fixture
def many(tmp_path: Path, small_photograph: Pixels) -> Path:
    folder = tmp_path / "many"
    folder.mkdir()
    for k in range(MANY):
        Pil.fromarray(small_photograph[k : k + 64, k : k + 96]).save(folder / f"{k:03d}.png", compress_level=0)
    return folder


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    found = parquet.read_table(folder / NAME).to_pylist()
    assert len({row["path"] for row in found}) == len(found)
    return {row["path"]: row for row in found}


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_there_and_back_and_to_another_quality(run: Run, bundle_path: Path, pictures: Path, tmp_path: Path) -> None:
    options = ("--bundle", bundle_path, *BACKEND, "--workers", 2)
    done = run("batch", "compress", pictures, "out", "-q", 6, *options, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["files"], told["done"], told["failed"], told["stopped"]) == (3, 3, [], False)
    assert [entry["reason"] for entry in told["left_out"]] == ["no picture's suffix"]
    with Codec.open(bundle_path, "onnxruntime", threads=1) as codec:
        for path in [*pictures.glob("*.png"), *pictures.glob("sub/*")]:
            name = path.relative_to(pictures).with_suffix(".s2c")
            image = read_image(path)
            stream = (tmp_path / "out" / name).read_bytes()
            assert stream == codec.compress(image.pixels, 6, icc=image.icc, exif=image.exif)
        found = rows(tmp_path / "out")
        assert found.keys() == {"-q.png", "a b\n\\xe9.png", "sub/\N{BLACK STAR}.JPG"}
        row = found["sub/\N{BLACK STAR}.JPG"]
        assert (row["width"], row["height"], row["bytes"], row["error"]) == (70, 48, len(stream), None)
        assert row["bpp"] == pytest.approx(8 * len(stream) / (70 * 48), abs=1e-5)
        assert row["seconds"] > 0
        assert len({row["worker"] for row in found.values()}) <= 2

        assert run("batch", "decompress", tmp_path / "out", "back", *options).code == 0
        decoded = read_image(tmp_path / "back" / "-q.png").pixels
        np.testing.assert_array_equal(decoded, codec.decompress((tmp_path / "out" / "-q.s2c").read_bytes()))
        assert rows(tmp_path / "back")["-q.s2c"]["bpp"] == found["-q.png"]["bpp"]

        assert run("batch", "transcode", tmp_path / "out", "low", "-q", 5, "--effort", 3, *options).code == 0
        low = (tmp_path / "low" / "-q.s2c").read_bytes()
        assert (parse(low).quality, low) == (5.0, codec.compress(decoded, 5, effort=3))
        assert low != codec.compress(decoded, 5)


def test_errors_are_rows_and_are_tried_again(run: Run, bundle_path: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / "broken.png").write_bytes((pictures / "-q.png").read_bytes()[:60])
    (pictures / "empty.png").write_bytes(b"")
    (pictures / "gone.png").write_bytes(b"")
    (tmp_path / "out" / "sub.s2c").mkdir(parents=True)  # a folder in a result's place
    Pil.new("RGB", (8, 8)).save(pictures / "sub.png")
    command = ("batch", "compress", pictures, "out", "--bundle", bundle_path, *BACKEND, "--workers", 1)
    assert run(*command).code == 3  # the folder is in the way
    (tmp_path / "out" / "sub.s2c").rmdir()
    done = run(*command)
    assert done.code == 3
    assert "3 of 7 done" not in done.out
    assert "4 of 7 done" in done.out
    assert len(done.err.splitlines()) == 4  # what is left out, and three errors
    assert sorted(path for path, row in rows(tmp_path / "out").items() if row["error"]) == [
        "broken.png",
        "empty.png",
        "gone.png",
    ]
    (pictures / "gone.png").unlink()
    Pil.new("RGB", (8, 8)).save(pictures / "broken.png")
    again = run(*command, "--json")
    told = json.loads(again.out)
    assert (again.code, told["done"], told["done_before"]) == (3, 1, 4)
    assert [row["path"] for row in told["failed"]] == ["empty.png"]


def test_a_second_run_does_nothing(run: Run, bundle_path: Path, pictures: Path, tmp_path: Path) -> None:
    command = ("batch", "compress", pictures, "out", "--bundle", bundle_path, *BACKEND)
    assert run(*command).code == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    done = run(*command)
    assert (done.code, done.out.partition(";")[0]) == (0, "0 of 3 done, 3 were done before")
    assert "effort: 0 before, 1 now" in run(*command, "--effort", 1).err
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before
    # A table of before there were efforts.
    assert difference({"tile": 0}, {"tile": 0, "effort": 0}) == ""


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("-q", 9), "quality 9.0 is not one of 1 to 8"),
        (("--tile", 65), "tile size 65 is not usable"),
        (("--backend", "none"), "backend: expected auto"),
        (("--background", "nocolour"), "unknown colour"),
        (("--bundle", "nowhere"), "nowhere"),
        (("--effort", "10"), "effort: expected 0 to 9, found 10"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(
    run: Run, bundle_path: Path, pictures: Path, tmp_path: Path, options: tuple[object, ...], told: str
) -> None:
    done = run("batch", "compress", pictures, "out", "--bundle", bundle_path, *options)
    assert done.code in (3, 5)
    assert told in done.err
    assert not (tmp_path / "out").exists()


def start(folder: Path, *arguments: object) -> subprocess.Popen[bytes]:
    """In a session of its own, as a terminal's job is: Ctrl-C goes to all of its processes."""
    command = [*COMMAND, "batch", *map(str, arguments)]
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
    return subprocess.Popen(command, cwd=folder, env=environment(), **options)


def children(process: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if int(entry.read_text().rpartition(")")[2].split()[1]) == process:
                found.append(int(entry.parent.name))
    return found


def running(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_ctrl_c_ends_it_with_whole_files_and_it_goes_on(bundle_path: Path, many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("compress", many, out, "--bundle", bundle_path, *BACKEND, "--workers", 2)
    with start(tmp_path, *command) as process:
        until(lambda: len(list(out.glob("*.s2c"))) >= 3)
        os.killpg(process.pid, signal.SIGINT)
        told, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (130, b"")
    assert b"stopped; the same command goes on" in told
    found = rows(out)
    done = {row["output"] for row in found.values() if row["bytes"]}
    assert len(found) == MANY
    assert 3 <= len(done) < MANY
    assert {path.name for path in out.iterdir()} == done | {NAME}
    with start(tmp_path, *command, "--json") as process:
        told, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, json.loads(told)["done_before"]) == (0, len(done))
    assert all(row["bytes"] for row in rows(out).values())


def test_a_killed_run_leaves_no_processes_and_goes_on(bundle_path: Path, many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("compress", many, out, "--bundle", bundle_path, *BACKEND, "--workers", 2)
    with start(tmp_path, *command) as process:
        until(lambda: len(list(out.glob("*.s2c"))) >= 3)
        workers = children(process.pid)
        process.kill()
        process.communicate()
    assert len(workers) >= 2
    until(lambda: not any(map(running, workers)))
    assert not [path for path in out.iterdir() if ".part" in path.name]
    with start(tmp_path, *command, "--json") as process:
        told, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert json.loads(told)["files"] == MANY
    assert all(row["bytes"] for row in rows(out).values())


def test_two_runs_into_one_folder(run: Run, bundle_path: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    other = os.open(tmp_path / "out", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    command = ("batch", "compress", pictures, "out", "--bundle", bundle_path, *BACKEND)
    done = run(*command)
    os.close(other)
    assert (done.code, "another batch writes into" in done.err) == (3, True)
    assert not list((tmp_path / "out").iterdir())


@pytest.fixture
def held(tmp_path: Path, small_photograph: Pixels, bundle_path: Path) -> Iterator[tuple[Request, str, list[Task]]]:
    """A picture that a process waits for, as it is a named pipe that nobody writes into, before a real one."""
    (tmp_path / "in").mkdir()
    os.mkfifo(tmp_path / "in" / "pipe.png")
    Pil.fromarray(small_photograph[:16, :16]).save(tmp_path / "in" / "real.png")
    request = Request(
        operation="compress",
        source=str(tmp_path / "in"),
        target=str(tmp_path),
        bundle=bundle_path,
        backend="onnxruntime",
    )
    tasks = [Task(source=f"{name}.png", target=f"{name}.s2c", size=0, modified=0) for name in ("pipe", "real")]
    yield request, open_bundle(bundle_path).fingerprint.hex(), tasks
    assert not multiprocessing.active_children()


def when_it_waits(pipe: Path, act: Callable[[int], object]) -> threading.Thread:
    """Acts as soon as a process waits for the pipe's other end, which is then closed."""

    def watch() -> None:
        writer = -1
        deadline = time.monotonic() + PATIENCE
        while writer < 0 and time.monotonic() < deadline:
            try:
                writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # nobody reads yet
                time.sleep(0.01)
        acted = act(writer)
        os.close(writer)
        if isinstance(acted, list):  # killed: they have the pipe until they are quite gone
            until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in acted))

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def workers_here() -> list[int]:
    """Processes that this one has started; asking ``multiprocessing`` would take their exit codes away."""
    return [pid for pid in children(os.getpid()) if b"spawn_main" in command_of(pid)]


def command_of(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def kill_all(_: int = -1) -> list[int]:
    found = workers_here()
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    return found


def test_a_dead_process_costs_its_file_a_try(held: tuple[Request, str, list[Task]], tmp_path: Path) -> None:
    pipe = tmp_path / "in" / "pipe.png"
    picture = (tmp_path / "in" / "real.png").read_bytes()
    killing = when_it_waits(pipe, kill_all)

    def write(writer: int) -> None:
        os.write(writer, picture)

    def then() -> None:
        killing.join()
        when_it_waits(pipe, write).join()

    second = threading.Thread(target=then)
    second.start()
    found = list(in_processes(*held, 1, lambda: False))
    second.join()
    assert [(row.path, row.done) for row in found] == [("pipe.png", True), ("real.png", True)]
    assert (tmp_path / "pipe.s2c").read_bytes() == (tmp_path / "real.s2c").read_bytes()


def test_a_file_that_kills_every_process_is_an_error_of_its_own(
    held: tuple[Request, str, list[Task]], tmp_path: Path
) -> None:
    pipe = tmp_path / "in" / "pipe.png"

    def twice() -> None:
        when_it_waits(pipe, kill_all).join()
        when_it_waits(pipe, kill_all).join()

    killing = threading.Thread(target=twice)
    killing.start()
    first, second = in_processes(*held, 1, lambda: False)
    killing.join()
    assert (first.path, second.path, second.done) == ("pipe.png", "real.png", True)
    assert first.error is not None
    assert "a worker process ended with exit code -9, killed: out of memory?, 2 times" in first.error


def test_closed_it_ends_the_processes_at_once(held: tuple[Request, str, list[Task]]) -> None:
    request, fingerprint, (pipe, real) = held
    made = in_processes(request, fingerprint, [real, pipe], 1, lambda: False)
    assert next(made).path == "real.png"
    made.close()  # one that waits for a pipe would never end by itself


def test_a_process_that_cannot_open_its_codec_ends_the_run(held: tuple[Request, str, list[Task]]) -> None:
    request, _, tasks = held
    with pytest.raises(Exception, match="expected the bundle 0000000000000000, found") as error:
        list(in_processes(request, "0" * 64, tasks, 1, lambda: False))
    assert getattr(error.value, "exit_code", None) == 5
    killing = threading.Thread(target=lambda: (until(workers_here), kill_all()))
    killing.start()
    with pytest.raises(EngineError, match="exit code -9"):
        list(in_processes(request, "0" * 64, tasks, 1, lambda: False))
    killing.join()
