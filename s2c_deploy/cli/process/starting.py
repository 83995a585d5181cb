"""What a command needs before it can begin: numpy, whose OpenBLAS starts threads when it is imported."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from s2c_deploy.errors import OutOfMemoryError

_THREADS = "OPENBLAS_NUM_THREADS"


def with_numpy(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command, which begins with ``load_numpy``; it is not run, and numpy not loaded, for its help."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        load_numpy()
        return command(*arguments, **options)

    return run


def load_numpy() -> None:
    """Imports numpy.  OutOfMemoryError where the system does not give OpenBLAS its threads.

    OpenBLAS then sends this process a SIGINT, which must not be taken for the user's: the signal is held back until
    there is somebody to ask who sent it.
    """
    if "numpy" in sys.modules or not hasattr(signal, "sigtimedwait"):
        return
    _spare_memory()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    sent = None
    try:
        import numpy  # noqa: F401
    finally:
        sent = signal.sigtimedwait({signal.SIGINT}, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if sent is not None and sent.si_pid == os.getpid():
        raise OutOfMemoryError("numpy's threads", hint=f"{_THREADS}=1 needs less; or free some memory")
    if sent is not None:
        signal.raise_signal(signal.SIGINT)


def _spare_memory() -> None:
    """Where memory is limited, one thread of OpenBLAS: each takes some 30 MB, and where there are none OpenBLAS ends
    the process."""
    import resource

    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        os.environ.setdefault(_THREADS, "1")
