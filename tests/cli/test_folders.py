"""Folders with everything that people's folders have: what fails stops no other file, and nothing is left unsaid."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import Run
from PIL import Image as Pil
from processes import COMMAND, environment, file_size_limit, process

from s2c_deploy import image
from s2c_deploy.arrays import Pixels
from s2c_deploy.cli import compress, decompress
from s2c_deploy.cli.files.folder_run import ahead_or_not
from s2c_deploy.codec.codec import Codec

ENGINE = ("--backend", "onnxruntime", "--threads", "1")


@pytest.fixture
def coder(run: Run, bundle_path: Path) -> Run:
    return lambda command, *arguments: run(command, *arguments, "--bundle", bundle_path, *ENGINE)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


def save(path: Path, side: int = 8, seed: int = 0, *, name: str | None = None) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    path.parent.mkdir(exist_ok=True, parents=True)
    Pil.fromarray(pixels).save(path, format=name)
    return path


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_bad_day(photos: Path, tmp_path: Path, bundle_path: Path) -> None:
    """A full disk, a broken picture, a name that is no UTF-8, one that moves cursors; an encoding that is strict."""
    for name in ("a.png", "d.png", "[red]\x1b[2J\n.png", os.fsdecode(b"caf\xe9.png")):
        save(photos / name)
    save(photos / "b-large.png", 192)
    (photos / "c-broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    options = ("--quality", 8, "--bundle", bundle_path, *ENGINE)
    strict = environment(PYTHONIOENCODING="utf-8:strict")
    done = process(tmp_path, "compress", "photos", "out", *options, preexec_fn=file_size_limit(1024), env=strict)
    told, errors = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == 3, errors
    whole = [os.fsdecode(b"caf\xe9.s2c"), "a.s2c", "d.s2c", "[red]\x1b[2J\n.s2c"]
    assert names(tmp_path / "out") == sorted(whole)
    assert len(told.splitlines()) == 4
    assert "photos/caf\\xe9.png -> out/caf\\xe9.s2c" in told
    assert "photos/[red]\\x1b[2J\\n.png" in told
    large, broken, last = errors.splitlines()
    assert large.startswith("error: photos/b-large.png: cannot write out/b-large.s2c: File too large")
    assert broken.startswith("error: photos/c-broken.png: ")
    assert last == "4 of 6 done, 2 failed: photos/b-large.png, photos/c-broken.png"
    # when there is room again
    (photos / "c-broken.png").unlink()
    again = process(tmp_path, "compress", "photos", "out", "--skip-existing", "--json", *options)
    assert again.returncode == 0
    assert again.stderr.decode() == "1 of 5 done, 4 skipped, which were there\n"
    records = json.loads(again.stdout.decode("utf-8"))
    assert [record["source"] for record in records if "skipped" not in record] == ["photos/b-large.png"]
    assert "photos/caf\\xe9.png" in {record["source"] for record in records}
    assert len(names(tmp_path / "out")) == 5


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_in_the_middle(photos: Path, tmp_path: Path, bundle_path: Path, number: int, code: int) -> None:
    """The pipe for its lines holds a few of them, so it cannot be done before the signal comes.

    There are as many lines as streams, so each line came when its file was done.
    """
    for k in range(40):
        save(photos / f"{k:02d}{'x' * 200}.png")
    command = [*COMMAND, "compress", "photos", "out", "--bundle", str(bundle_path), *ENGINE]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        fcntl.fcntl(running.stdout, fcntl.F_SETPIPE_SZ, 4096)
        os.read(running.stdout.fileno(), 1)  # the first line has come, while the run goes on
        running.send_signal(number)
        told, errors = running.communicate(timeout=120)
    assert running.returncode == code
    assert b"Traceback" not in errors
    count = len(told.splitlines())
    assert 0 < count < 40
    assert errors.decode() == f"{count} of 40 done, stopped; --skip-existing goes on\n"
    assert len(names(tmp_path / "out")) == count
    assert all(name.endswith("x.s2c") and not name.startswith(".") for name in names(tmp_path / "out"))
    if number == signal.SIGINT:
        rest = process(tmp_path, "compress", "photos", "out", "--skip-existing", "--bundle", bundle_path, *ENGINE)
        assert rest.returncode == 0
        assert len(rest.stdout.splitlines()) == 40 - count
        assert len(names(tmp_path / "out")) == 40


@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_stopped_with_json(
    coder: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """The list of what was done comes all the same; the file at hand is whole."""
    for k in range(12):
        save(photos / f"{k:02d}.png", seed=k)
    assert coder("compress", "photos", "streams").code == 0
    name = {"compress": "compress", "decompress": "synthesize"}[command]
    real, calls = getattr(Codec, name), iter(range(12))

    def third_is_interrupted(*arguments: object, **options: object) -> object:
        if next(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments, **options)

    monkeypatch.setattr(Codec, name, third_is_interrupted)
    result = coder(command, "photos" if command == "compress" else "streams", "out", "--json")
    assert result.code == 130
    records = json.loads(result.out)
    assert 0 < len(records) < 12
    assert result.err == f"{len(records)} of 12 done, stopped; --skip-existing goes on\n"
    assert sorted(Path(record["target"]).name for record in records) == names(tmp_path / "out")


def test_one_file_is_stopped_at_once(coder: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(photos / "a.png")
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):

        def interrupted(*_: object, number: int = number, **__: object) -> bytes:
            os.kill(os.getpid(), number)
            return b"never written"

        monkeypatch.setattr(Codec, "compress", interrupted)
        result = coder("compress", "photos/a.png", "out/")
        assert (result.code, result.out, result.err) == (code, "", "stopped\n")
        assert names(tmp_path / "out") == []


@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_huge_pictures_are_not_read_ahead(
    coder: Run, photos: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Memory may hold one of them, not two."""
    for k in range(4):
        save(photos / f"{k}.png", seed=k)
    assert coder("compress", "photos", "streams").code == 0
    steps: list[str] = []

    def noted(step: str, real: Callable[..., object]) -> Callable[..., object]:
        def note(*arguments: object, **options: object) -> object:
            steps.append(step)
            return real(*arguments, **options)

        return note

    first, second = ("read_image", "compress") if command == "compress" else ("read_latents", "synthesize")
    owner = image if command == "compress" else Codec
    monkeypatch.setattr(owner, first, noted("first", getattr(owner, first)))
    monkeypatch.setattr(Codec, second, noted("second", getattr(Codec, second)))
    for module in (compress, decompress):
        monkeypatch.setattr(module, "READ_AHEAD_PIXELS", 63)
    assert coder(command, "photos" if command == "compress" else "streams", "out").code == 0
    assert steps == ["first", "second"] * 4


def test_without_a_further_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    assert list(ahead_or_not(iter(range(5)))) == list(range(5))


def test_a_closed_pipe_stops_no_file(photos: Path, tmp_path: Path, bundle_path: Path) -> None:
    for k in range(5):
        save(photos / f"{k}.png")
    reading, writing = os.pipe()
    os.close(reading)
    done = process(
        tmp_path, "compress", "photos", "out", "--bundle", bundle_path, *ENGINE,
        capture_output=False, stdout=writing, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(names(tmp_path / "out")) == 5


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize(
    "arguments",
    [("doctor",), ("--version",), ("doctor", "--json"), ("--help",), ("compress", "--help"), ("engines", "trtexec")],
)
def test_a_full_disk_behind_stdout(tmp_path: Path, bundle_path: Path, arguments: tuple[str, ...]) -> None:
    more = {"env": environment(S2C_BUNDLE=str(bundle_path))}
    with open("/dev/full", "wb") as full:
        done = process(tmp_path, *arguments, capture_output=False, stdout=full, stderr=subprocess.PIPE, **more)
    assert done.returncode == 3
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("error: cannot write standard output: No space left on device")


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("--version",), ("doctor",), ("inspect", "BUNDLE"), ("engines", "trtexec", "BUNDLE")],
)
def test_a_reader_that_leaves(tmp_path: Path, bundle_path: Path, arguments: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    named = [str(bundle_path) if argument == "BUNDLE" else argument for argument in arguments]
    done = process(tmp_path, *named, capture_output=False, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (MemoryError(), 11, "not enough memory for compressing 8x8 pixels (--tile 512 codes it in parts)"),
        (KeyError("what"), 1, "unforeseen KeyError: 'what' (S2C_DEBUG=1 shows where; please report it)"),
        (OSError(28, "No space left on device", "x"), 3, "x: No space left on device (S2C_DEBUG=1 shows where)"),
    ],
)
def test_whatever_happens_to_one_file(
    coder: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, code: int, said: str
) -> None:
    for k in range(3):
        save(photos / f"{k}.png", seed=k)
    real, calls = Codec.compress, iter(range(3))

    def second_fails(self: Codec, image: Pixels, *arguments: object, **options: object) -> bytes:
        if next(calls) == 1:
            raise raised
        return real(self, image, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Codec, "compress", second_fails)
    result = coder("compress", "photos", "out", "--json")
    assert result.code == code
    assert names(tmp_path / "out") == ["0.s2c", "2.s2c"]
    assert result.err == f"error: photos/1.png: {said}\n2 of 3 done, 1 failed: photos/1.png\n"
    assert [record.get("exit_code") for record in json.loads(result.out)] == [None, code, None]
    calls = iter([1])
    alone = coder("compress", "photos/1.png", "alone.s2c")
    assert (alone.code, alone.out, alone.err) == (code, "", f"error: {said}\n")


def test_what_is_left_out_is_said(coder: Run, photos: Path, tmp_path: Path) -> None:
    save(photos / "a.jfif", name="JPEG")
    save(photos / "sub" / "b.png")
    save(tmp_path / "secret.png")
    (photos / "noext").write_bytes(b"")
    (photos / "._a.png").write_bytes(b"")
    (photos / "gone.png").symlink_to("nowhere")
    (photos / "out.png").symlink_to("../secret.png")
    result = coder("compress", "photos", "streams", "--json")
    assert result.code == 0
    assert names(tmp_path / "streams") == ["a.s2c"]
    for part in ("left out: 5 files", "sub", "noext", "gone.png", "--follow-links: out.png", "1 hidden"):
        assert part in result.err
    left_out = {record["source"]: record["left_out"] for record in json.loads(result.out) if "left_out" in record}
    assert left_out["photos/noext"] == "no picture's suffix"
    assert left_out["photos/gone.png"] == "a link to nothing"
    assert left_out["photos"] == "hidden"
    result = coder("compress", "photos", "all", "--recursive", "--follow-links")
    assert names(tmp_path / "all") == ["a.s2c", "out.s2c", "sub"]
    assert names(tmp_path / "all" / "sub") == ["b.s2c"]


def test_links_in_the_folder_of_targets(coder: Run, photos: Path, tmp_path: Path) -> None:
    """Whoever prepared it must not have our files written."""
    save(photos / "a.png")
    save(photos / "sub" / "b.png")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.s2c").write_bytes(b"mine")
    (tmp_path / "out").mkdir()
    for target in ("../mine/a.s2c", "../mine/new.s2c"):
        (tmp_path / "out" / "a.s2c").unlink(missing_ok=True)
        (tmp_path / "out" / "a.s2c").symlink_to(target)
        result = coder("compress", "photos", "out")
        assert result.code == 3
        assert "out/a.s2c exists" in result.err
        assert coder("compress", "photos", "out", "--force").code == 0
        assert not (tmp_path / "out" / "a.s2c").is_symlink()
        assert names(tmp_path / "mine") == ["a.s2c"]
        assert (tmp_path / "mine" / "a.s2c").read_bytes() == b"mine"
    (tmp_path / "out" / "sub").symlink_to("../mine")
    result = coder("compress", "photos", "out", "--force", "--recursive")
    assert result.code == 3
    assert "out/sub is a link out of out" in result.err
    assert "1 of 2 done" in result.err
    assert names(tmp_path / "mine") == ["a.s2c"]


def test_streams_of_any_case_and_of_other_systems(coder: Run, photos: Path, tmp_path: Path) -> None:
    save(photos / "a.png")
    assert coder("compress", "photos/a.png", "streams/").code == 0
    data = (tmp_path / "streams" / "a.s2c").read_bytes()
    (tmp_path / "streams" / "B.S2C").write_bytes(data)
    (tmp_path / "streams" / "._a.s2c").write_bytes(b"of another system")
    (tmp_path / "streams" / ".a.0123456789ab.part.s2c").write_bytes(data[:9])
    result = coder("decompress", "streams", "pictures/", "--suffix", "ppm")
    assert result.code == 0
    assert result.err == "left out: 2 files (2 hidden)\n"
    assert names(tmp_path / "pictures") == ["B.ppm", "a.ppm"]


def test_many_files_start_at_once(run: Run, tmp_path: Path) -> None:
    """No bundle is needed to see that thousands of files are no streams, in time that grows with their number."""
    (tmp_path / "streams").mkdir()
    for k in range(3000):
        (tmp_path / "streams" / f"{k:04d}.s2c").write_bytes(b"no stream")
    started = time.process_time()
    result = run("decompress", "streams", "out", *ENGINE)
    assert time.process_time() - started < 20
    assert result.code == 4
    assert result.err.splitlines()[-1].startswith("0 of 3000 done, 3000 failed: streams/0000.s2c, streams/0001.s2c")
    assert result.err.splitlines()[-1].endswith("and 2995 more")


@pytest.mark.parametrize("make", [lambda p: (p / "x.png").mkdir(), lambda p: None])
def test_nothing_to_do_is_an_error(coder: Run, photos: Path, make: Callable[[Path], None]) -> None:
    make(photos)
    result = coder("compress", "photos", "out")
    assert result.code == 3
    assert "no pictures in photos" in result.err
    assert not os.path.exists("out")
