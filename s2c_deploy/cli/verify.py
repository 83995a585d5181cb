"""``verify``: exactness of a bundle, proven from its files and tried on every engine."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s2c_deploy.cli.files.reading import pictures_of
from s2c_deploy.cli.options import (
    BundleArgument,
    FollowLinksOption,
    ImagesOption,
    JsonOption,
    WideOption,
    check_levels,
    comma_list,
    parse_qualities,
    pictures_folder,
)
from s2c_deploy.cli.output import progress_bar, say, say_json, show_tables
from s2c_deploy.errors import DependencyError, EngineError
from s2c_deploy.formats.finding import bundle_to_write_with
from s2c_deploy.report.table import Table

if TYPE_CHECKING:
    from s2c_deploy.formats.bundle import Bundle


def verify(
    bundle: BundleArgument = None,
    backends: Annotated[str, typer.Option(help="Engines, with commas between.", show_default="all that run here")] = "",
    images: ImagesOption = None,
    quality: Annotated[str, typer.Option("--quality", "-q", help="As 1..8 or 1,3,5.5.")] = "1,3,5,8",
    follow_links: FollowLinksOption = False,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """Prove a bundle exact from its ONNX files, and decode every engine's streams on every other.

    s2c-deploy verify

    s2c-deploy verify engines/conv-small --backends torch,onnxruntime,openvino --images kodak/
    """
    if find_spec("onnx") is None:
        raise DependencyError("onnx", extra="cpu")
    levels = parse_qualities([quality])
    check_levels(levels)
    from s2c_deploy.formats.bundle import exact_graphs, open_bundle
    from s2c_deploy.image import read_image
    from s2c_deploy.verify.cross import cross_decode
    from s2c_deploy.verify.proof import EXACT_LIMIT, prove_graph

    folder = bundle_to_write_with(bundle)
    listed = pictures_of(pictures_folder(images), follow_links)
    opened = open_bundle(folder)
    chosen = _backends(backends, opened)
    proofs = {name: prove_graph(opened.read_graph(name)) for name in exact_graphs(opened.config)}
    pictures = [read_image(path).pixels for path in listed]
    with progress_bar("verifying") as advance:
        agreements = cross_decode(opened, pictures, levels, chosen, progress=advance)
    record: dict[str, Any] = {
        "bundle": str(folder),
        "fingerprint": opened.fingerprint.hex(),
        "pictures": len(pictures),
        "qualities": levels,
        "proof": {
            "limit": EXACT_LIMIT,
            "layers": sum(map(len, proofs.values())),
            "largest_sum": max(layer.bound for layers in proofs.values() for layer in layers),
        },
        "agreements": [vars(agreement) for agreement in agreements],
        "agrees": all(agreement.agrees for agreement in agreements),
    }
    if as_json:
        say_json(record)
    else:
        _report(record, wide)
    for agreement in agreements:
        if not agreement.agrees:
            raise EngineError(
                f"streams of {agreement.encoder} decoded with {agreement.decoder}: {agreement.differing_outputs} "
                f"outputs and {agreement.differing_symbols} symbols differ",
                hint="do not decode with this engine, and report its version",
            )


def _backends(text: str, bundle: Bundle) -> list[str]:
    from s2c_deploy.codec.networks import can_run
    from s2c_deploy.runtime import BACKENDS, choose_backend

    if text:
        return [choose_backend(name) for name in comma_list(text)]
    return [name for name in BACKENDS if can_run(bundle, name)]


def _report(record: dict[str, Any], wide: bool) -> None:
    proof = record["proof"]
    say(f"{record['bundle']}, fingerprint {record['fingerprint'][:16]}")
    say(
        f"proof from the ONNX files: {proof['layers']} sums, the largest reaches {proof['largest_sum']:.0f}, "
        f"below 2^24 = {proof['limit']}"
    )
    qualities = ", ".join(f"{q:g}" for q in record["qualities"])
    rows = []
    for a in record["agreements"]:
        differ = (f"{a['differing_outputs']:,}", f"{a['differing_symbols']:,}")
        counted = (f"{a['outputs']:,}", *differ) if wide else differ
        rows.append((f"{a['encoder']} -> {a['decoder']}", *counted, f"{a['failed']}/{a['streams']}"))
    columns = ("encoded -> decoded", *(("outputs",) * wide), "differ", "symbols differ", "failed")
    title = f"{record['pictures']} pictures at qualities {qualities}:"
    show_tables([Table(title=title, columns=columns, rows=tuple(rows))])
