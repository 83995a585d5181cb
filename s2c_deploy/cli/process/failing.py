"""What an error that ends a command was about, and its traceback."""

from __future__ import annotations

import errno
import traceback
from typing import TypeGuard

from s2c_deploy.cli.output import warn
from s2c_deploy.failure import debugging


def nobody_reads(left: SystemExit) -> bool:
    """Whether click ends the process, with its code 1, because the reader of a pipe left."""
    seen: BaseException | None = left
    while seen is not None and left.code == 1:
        if isinstance(seen, OSError) and seen.errno == errno.EPIPE:
            return True
        seen = seen.__context__
    return False


def of_printing(error: Exception) -> TypeGuard[OSError]:
    """Whether it is what the system says of help that is printed to stdout: no command was running."""
    if not isinstance(error, OSError) or error.filename is not None or error.errno is None:
        return False
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    # Run as a program, the outermost module is called __main__.
    return not any(name.startswith("s2c_deploy.") and name != "s2c_deploy.cli.main" for name in modules)


def show_traceback(error: BaseException) -> None:
    """To stderr, where S2C_DEBUG=1 asks for it."""
    if debugging():
        for part in traceback.format_exception(error):
            for line in part.splitlines():
                warn(line)
