"""``s2c-deploy``: the commands, and the one place where errors become a line and an exit code.

Nothing heavy is imported here or by the command modules at import: ``--help`` must answer at once.
"""

from __future__ import annotations

import os
import sys

import typer

from s2c_deploy.cli import benching, building, coding, deploying, evaluating, exporting, inspecting, training, verifying
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
app.command("compress")(coding.compress)
app.command("decompress")(coding.decompress)
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
    """Runs the command line; an S2CError becomes a line on stderr and its exit code (S2C_DEBUG=1: a traceback)."""
    try:
        app()
    except S2CError as error:
        if os.environ.get("S2C_DEBUG") == "1":
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of a pipe left (`| head`): not an error; stdout is replaced so that Python's exit stays quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
