"""The commands by their names.

Nothing heavy is imported here or by the command modules at import: ``--help`` must answer at once.
"""

from __future__ import annotations

import typer

from s2c_deploy.cli import (
    batch,
    bench,
    build,
    compress,
    decompress,
    doctor,
    engines,
    eval,
    export,
    info,
    inspect,
    train,
    triton,
    verify,
    web,
)
from s2c_deploy.cli.output import say
from s2c_deploy.cli.process.starting import with_numpy

app = typer.Typer(
    name="s2c-deploy",
    help="Deploy S2CFormer learned image compression: bundles, bit-exact .s2c streams, engines.",
    epilog="Start here:  s2c-deploy export --variant conv   then   s2c-deploy compress photo.png photo.s2c",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("export")(export.export)
app.command("build")(build.build)
app.add_typer(engines.engines, name="engines")
app.command("triton")(triton.triton)
app.command("web")(web.web)
app.command("compress")(compress.compress)
app.command("decompress")(decompress.decompress)
app.add_typer(batch.batch, name="batch")
app.command("inspect")(inspect.inspect)
app.command("verify")(verify.verify)
app.command("eval")(eval.evaluate)
app.add_typer(bench.bench, name="bench")
app.command("train")(train.train)
app.command("info")(info.info)
app.command("doctor")(doctor.doctor)


def _version(value: bool) -> None:
    if value:
        from s2c_deploy import __version__

        say(f"s2c-deploy {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Options of every command."""


for _group in (app, *(entry.typer_instance for entry in app.registered_groups)):
    for _command in _group.registered_commands if _group is not None else ():
        if _command.callback is not None:
            _command.callback = with_numpy(_command.callback)
