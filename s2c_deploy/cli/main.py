"""``s2c-deploy``: the commands, and the one place where errors become a line and an exit code.

Nothing heavy is imported here or by the command modules at import: ``--help`` must answer at once.
"""

from __future__ import annotations

import sys
from contextlib import suppress

import typer

from s2c_deploy.cli import (
    benching,
    building,
    compress,
    decompress,
    deploying,
    evaluating,
    exporting,
    inspecting,
    training,
    verifying,
)
from s2c_deploy.cli.failing import as_failure, debugging
from s2c_deploy.cli.output import discard_stdout, flush_stdout, warn
from s2c_deploy.cli.stopping import Stopped, stops_at_once
from s2c_deploy.errors import S2CError

app = typer.Typer(
    name="s2c-deploy",
    help="Deploy S2CFormer learned image compression: bundles, bit-exact .s2c streams, engines.",
    epilog="Start here:  s2c-deploy export --variant conv   then   s2c-deploy compress photo.png photo.s2c",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("export")(exporting.export)
app.command("build")(building.build)
app.add_typer(building.engines, name="engines")
building.engines.command("trtexec")(deploying.trtexec)
app.command("triton")(deploying.triton)
app.command("compress")(compress.compress)
app.command("decompress")(decompress.decompress)
app.command("inspect")(inspecting.inspect)
app.command("verify")(verifying.verify)
app.command("eval")(evaluating.evaluate)
app.add_typer(benching.bench, name="bench")
app.command("train")(training.train)
app.command("info")(inspecting.info)
app.command("doctor")(inspecting.doctor)


def _version(value: bool) -> None:
    if value:
        from s2c_deploy import __version__

        typer.echo(f"s2c-deploy {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Options of every command."""


def main() -> None:
    """Runs the command line; whatever goes wrong becomes a line on stderr and an exit code (S2C_DEBUG=1: a traceback).

    An S2CError has its own code, an unforeseen error 1; a signal 128 and its number.
    """
    _print_anything()
    try:
        with stops_at_once():
            try:
                app()
            finally:
                flush_stdout()
    except Stopped as stopped:
        warn("stopped")
        sys.exit(stopped.code)
    except BrokenPipeError:
        # The reader of a pipe left (`| head`): not an error.
        discard_stdout()
    except Exception as error:
        if debugging():
            raise
        failure = as_failure(error, "this")
        warn(f"error: {failure}")
        try:
            flush_stdout()
        except (S2CError, OSError):
            discard_stdout()
        sys.exit(failure.exit_code)


def _print_anything() -> None:
    """No name of a file may be one that cannot be printed, whatever the terminal's encoding."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # not all streams have it


if __name__ == "__main__":
    main()
