"""Ctrl-C where no Python code runs: while modules are imported, and during native calls that do not return."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import COMMAND, environment

#: Sends itself a signal when a module is looked for.
AT_IMPORT = """
import os, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == NAME:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), NUMBER)

sys.meta_path.insert(0, Interrupting())
from s2c_deploy.cli.main import main
main()
"""
#: A native call of hours, in the main thread or in another one that it waits for, while a file is half-written.
NATIVE = """
import hashlib, sys, threading
from s2c_deploy.cli.process.stopping import stops_after_this, stops_at_once
from s2c_deploy.files import atomic_write, temporary_folder

with stops_at_once(), temporary_folder("s2c-test-") as folder, atomic_write("whole.txt"):
    (folder / "file").touch()
    # From another thread, once this one is in the call.
    threading.Timer(1, print, ["ready"], {"flush": True}).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""
#: Python drops what is raised in a destructor.
DROPPED = """
import os, signal
from s2c_deploy.cli.process.stopping import Stopped, stops_at_once

class Careless:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass

try:
    with stops_at_once():
        Careless()
except Stopped as stopped:
    print("stopped by", stopped.number)
"""


STOPPING = "s2c_deploy.cli.process.stopping"


@pytest.mark.parametrize("name", [STOPPING, "s2c_deploy.cli.app", "typer", "s2c_deploy.runtime"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_modules_are_imported(tmp_path: Path, name: str, number: signal.Signals) -> None:
    if (name, number) == (STOPPING, signal.SIGTERM):
        pytest.skip("the system's own way to end a process")
    code = AT_IMPORT.replace("NAME", repr(name)).replace("NUMBER", str(int(number)))
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor"], cwd=tmp_path, env=environment(), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (128 + number, b"")
    assert done.stderr in (b"", b"stopped\n")


def test_a_native_call_that_does_not_return(tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    (tmp_path / "whole.txt").write_text("old")
    running = subprocess.Popen(
        [sys.executable, "-c", NATIVE],
        cwd=tmp_path, env=environment(TMPDIR=str(tmp_path / "temporary")),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert running.stdout is not None
    try:
        assert running.stdout.readline() == b"ready\n"
        started = time.monotonic()
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    finally:
        running.kill()
    assert time.monotonic() - started < 30
    assert (running.returncode, errors) == (130, b"stopped\n")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["temporary", "whole.txt"]
    assert (tmp_path / "whole.txt").read_text() == "old"


def test_a_run_of_many_files_survives_the_first_signal_only(tmp_path: Path) -> None:
    code = NATIVE.replace("with stops_at_once()", "with stops_at_once(), stops_after_this()")
    running = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert running.stdout is not None
    try:
        assert running.stdout.readline() == b"ready\n"
        running.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(6)
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 130
    assert list(tmp_path.iterdir()) == []


def test_a_signal_that_python_drops(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DROPPED], cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout == b"stopped by 2\n"


def test_a_library_whose_threads_cannot_be_started(tmp_path: Path) -> None:
    """OpenBLAS sends its own process SIGINT then, while numpy is imported."""
    (tmp_path / "numpy.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    done = subprocess.run(
        [*COMMAND, "doctor"], cwd=tmp_path, env=environment(PYTHONPATH=str(tmp_path)), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (11, b"")
    assert done.stderr.startswith(b"error: not enough memory for numpy's threads (OPENBLAS_NUM_THREADS=1 needs less")
