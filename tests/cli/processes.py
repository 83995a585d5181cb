"""``s2c-deploy`` as a process of its own, for what only a process has: signals, limits, pipes, a terminal."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, "-m", "s2c_deploy.cli.main")


def environment(**more: str) -> dict[str, str]:
    """As a user's, whatever the tests' own says of bundles and colours."""
    ours = ("S2C_BUNDLE", "S2C_DEBUG", "FORCE_COLOR", "COLUMNS", "PYTHONIOENCODING")
    return {name: value for name, value in os.environ.items() if name not in ours} | more


def process(folder: Path, *arguments: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Runs a command in a folder to its end; options: as ``subprocess.run`` takes them."""
    command = [*COMMAND, *map(str, arguments)]
    options = {"env": environment(), "capture_output": True, "timeout": 300} | options
    return subprocess.run(command, cwd=folder, check=False, **options)


def file_size_limit(size: int) -> Callable[[], None]:
    """For ``preexec_fn``: the process may write files of so many bytes, as on a disk that is nearly full."""
    return partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))


def memory_limit(size: int) -> Callable[[], None]:
    """For ``preexec_fn``: the process may map so many bytes."""
    return partial(resource.setrlimit, resource.RLIMIT_AS, (size, size))
