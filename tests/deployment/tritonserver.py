"""A real tritonserver on this machine: the one that the wheel nvidia-pytriton ships, with its Python backend.

It lies in a folder of its own (``make test`` fills it), not among this Python's packages: its backend needs a numpy
before 2, and reads no PYTHONPATH, so it gets a virtual environment in which that folder comes first.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import missing

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def folder() -> Path:
    """Of the wheel and its numpy: $S2C_TRITON, else triton/ in this Python's environment; skips where there is none."""
    found = Path(os.environ.get("S2C_TRITON", Path(sys.prefix) / "triton"))
    wanted = (
        found / "pytriton/tritonserver/bin/tritonserver",
        found / f"pytriton/tritonserver/python_backend_stubs/{PYTHON}/triton_python_backend_stub",
        found / "numpy",
        Path(sysconfig.get_config_var("LIBDIR")) / str(sysconfig.get_config_var("LDLIBRARY")),
    )
    if absent := [str(path) for path in wanted if not path.exists()] or not wanted[-1].suffix.startswith(".so"):
        missing(f"no tritonserver for this Python: expected {absent or 'a shared libpython'}", "triton")
    return found


@contextmanager
def serving(repository: Path, work: Path) -> Iterator[str]:
    """A server of all models in a repository, started, ready and, in the end, stopped; its URL."""
    root = folder()
    port = _free_port()
    command = [root / "pytriton/tritonserver/bin/tritonserver", "--model-repository", repository]
    command += ["--backend-directory", _backends(root, work), "--http-address", "127.0.0.1", "--http-port", port]
    command += ["--allow-grpc", "false", "--allow-metrics", "false", "--exit-timeout-secs", "5"]
    command += ["--model-control-mode", "explicit", "--load-model", "*"]
    log = work / "tritonserver.log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            list(map(str, command)), stdout=out, stderr=out, env=_environment(root, work), start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, server, log)
        yield url
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(timeout=15)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _backends(root: Path, work: Path) -> Path:
    source = root / "pytriton/tritonserver"
    target = work / "backends"
    shutil.copytree(source / "backends", target)
    shutil.copy(source / f"python_backend_stubs/{PYTHON}/triton_python_backend_stub", target / "python")
    return target


def _environment(root: Path, work: Path) -> dict[str, str]:
    venv.create(work / "venv", with_pip=False)
    site = work / "venv" / "lib" / f"python{PYTHON}" / "site-packages"
    own = [path for path in sys.path if path.endswith("site-packages")]
    lines = [str(root), *(f"import site; site.addsitedir({path!r})" for path in own)]
    (site / "tests.pth").write_text("\n".join(lines) + "\n")
    return {
        **os.environ,
        "PATH": f"{work / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "LD_LIBRARY_PATH": f"{sysconfig.get_config_var('LIBDIR')}:{root / 'nvidia_pytriton.libs'}",
        "OMP_NUM_THREADS": "1",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(url: str, server: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text(errors="replace")[-3000:]
        try:
            with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(log.read_text(errors="replace")[-3000:])
