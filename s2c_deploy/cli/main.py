"""``s2c-deploy``: the one place where errors become a line and an exit code.

Next to nothing is imported at import, so that there is somebody to catch Ctrl-C while the commands are.
"""

from __future__ import annotations

import sys
from typing import Any


def __getattr__(name: str) -> Any:
    """``app``, the commands, when it is asked for."""
    if name == "app":
        from s2c_deploy.cli.app import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main() -> None:
    """Runs the command line; whatever goes wrong becomes a line on stderr and an exit code (S2C_DEBUG=1: a traceback).

    An S2CError has its own code, an unforeseen error 1; a signal 128 and its number.
    """
    try:
        from s2c_deploy.cli.process.stopping import Stopped, stops_at_once

        try:
            with stops_at_once():
                _run()
        except Stopped as stopped:
            from s2c_deploy.cli.output import warn

            warn("stopped")
            sys.exit(stopped.code)
    except KeyboardInterrupt:  # before there was a handler, or after it
        sys.exit(130)


def _run() -> None:
    from s2c_deploy.cli.output import discard_stdout, flush_stdout, unwritable, warn
    from s2c_deploy.cli.process.failing import nobody_reads, of_printing
    from s2c_deploy.errors import S2CError
    from s2c_deploy.failure import as_failure, debugging

    _print_anything()
    try:
        try:
            from s2c_deploy.cli.app import app

            app()
        finally:
            flush_stdout()
    except BrokenPipeError:
        discard_stdout()  # the reader of a pipe left (`| head`): not an error
    except SystemExit as left:
        if not nobody_reads(left):
            raise
        discard_stdout()
    except Exception as error:
        if debugging():
            raise
        failure = unwritable(error) if of_printing(error) else as_failure(error, "this")
        warn(f"error: {failure}")
        try:
            flush_stdout()
        except (S2CError, OSError):
            discard_stdout()
        sys.exit(failure.exit_code)


def _print_anything() -> None:
    """No name of a file may be one that cannot be printed, whatever the terminal's encoding."""
    from contextlib import suppress

    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # not all streams have it


if __name__ == "__main__":
    main()
