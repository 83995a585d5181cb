"""``web``: a bundle for decoders in browsers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s2c_deploy.cli.options import BundleOption, ForceOption, JsonOption
from s2c_deploy.cli.output import say, say_json
from s2c_deploy.formats.finding import bundle_to_write_with


def web(
    folder: Annotated[Path, typer.Argument(help="Web bundle to write; pages fetch it from there.")],
    bundle: BundleOption = None,
    synthesis: Annotated[
        str | None,
        typer.Option(
            help="Which g_s: full, fast, fastest (`inspect` lists them).", show_default="fast where the bundle has it"
        ),
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write what a browser needs of a bundle to decode, in fewer bytes.

    s2c-deploy web site/bundle --bundle engines/conv-small
    """
    from s2c_deploy.formats.bundle import open_bundle
    from s2c_deploy.web.bundle import check_web_place, write_web_bundle

    check_web_place(folder, force=force)
    opened = open_bundle(bundle_to_write_with(bundle))
    made = write_web_bundle(opened, folder, synthesis=synthesis, force=force)
    total = sum(made.files.values())
    if as_json:
        say_json(
            {
                "path": str(made.path),
                "name": opened.config.name,
                "fingerprint": opened.fingerprint.hex(),
                "synthesis": made.synthesis,
                "bytes": total,
                "files": dict(made.files),
                "largest_difference": made.largest_difference,
            }
        )
        return
    say(f"{made.path}: {opened.config.name}, fingerprint {opened.fingerprint.hex()[:16]}, {total / 1e6:.1f} MB")
    away = f"pixels within {made.largest_difference:.2f} of 255 of the bundle's own on its known answer"
    say(f"g_s {made.synthesis}: {away}")
