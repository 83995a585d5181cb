"""The figures of the model cards, from the shipped weights: export, evaluate on Kodak, rewrite.

    python -m benchmarks.reproduce_cards --images KODAK_DIR [VARIANT ...]

Every folder of export/ that has weights (or those named) is exported to a temporary bundle and measured as ``s2c-deploy
eval`` does.  What stands between ``<!-- figures -->`` and ``<!-- /figures -->`` of its card is replaced, and the
measurements go to benchmarks/results/<version>/.  The other codecs' are taken from there where they were made by the
same versions, with the same options and the same SSIMULACRA2 (left out by --no-ssimulacra2).  JPEG XL needs a plugin
of Pillow (pip install pillow-jxl-plugin); without it the figures say that it was not measured.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from rich.progress import Progress

from s2c_deploy import __version__
from s2c_deploy.evaluation import Evaluation, Request, evaluate_folder
from s2c_deploy.evaluation.measure import Measurement
from s2c_deploy.evaluation.pillow_codecs import pillow_codec
from s2c_deploy.evaluation.reference import known_dataset
from s2c_deploy.evaluation.report import read_rows, write_json
from s2c_deploy.evaluation.tables import bd_rate_table, notes, points_table, size_table
from s2c_deploy.export.exporter import export_bundle
from s2c_deploy.files import atomic_write
from s2c_deploy.listing import list_images
from s2c_deploy.models.checkpoint import load_checkpoint
from s2c_deploy.report.table import markdown

WEIGHTS, RESULTS = Path("export"), Path("benchmarks/results") / __version__
BEGIN, END = "<!-- figures -->", "<!-- /figures -->"
CODECS, REFERENCES = ("jpeg", "webp", "avif", "avif-slow", "jpeg2000", "jpegxl"), ("bpg-444", "vtm-9.1")


def released(variants: Sequence[str], root: Path = WEIGHTS) -> list[Path]:
    """The folders with weights, or the named ones; SystemExit if one lacks weights or a card with both markers."""
    folders = [root / name for name in variants] or sorted(p.parent for p in root.glob("*/weights.safetensors"))
    for folder in folders:
        if not (folder / "weights.safetensors").is_file():
            raise SystemExit(f"{folder} has no weights.safetensors")
        split_card((folder / "README.md").read_text(encoding="utf-8"), folder / "README.md")
    if not folders:
        raise SystemExit(f"no weights under {root}/")
    return folders


def split_card(text: str, card: Path) -> tuple[str, str]:
    """What stands before and behind the figures, markers included."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise SystemExit(f"{card}: expected {BEGIN} and then {END}, once each")
    return text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]


def figures(evaluation: Evaluation) -> str:
    """The figures of one bundle as Markdown: conditions, a line per quality, BD-rates."""
    bundle = evaluation.curves[0]
    untimed = tuple(replace(point, encode_seconds=None, decode_seconds=None) for point in bundle.points)
    points = points_table(replace(bundle, points=untimed))
    sizes = size_table(evaluation, bundle.name)
    points, sizes = (replace(table, columns=("quality", *table.columns[1:])) for table in (points, sizes))
    methods = [f"- {curve.name}: {curve.description}" for curve in evaluation.curves]
    parts = [
        " ".join(notes(evaluation)),
        markdown(points),
        "Bits against theirs at the same PSNR, quality by quality (negative is better; empty outside their range):",
        markdown(sizes),
        "BD-rate, in bits at equal quality over the range that both curves cover (negative is better):",
        markdown(bd_rate_table(evaluation, bundle.name)),
        "\n".join(methods),
    ]
    return "\n\n".join(parts)


def measured_before(results: Path, perceptual: bool = True) -> tuple[Measurement, ...]:
    """What this machine's codecs would measure again, from the committed results: of the same description, which has
    library, version and options, and with the same SSIMULACRA2 if that is wanted."""
    here = {name: codec.description for name in CODECS if (codec := pillow_codec(name)).advice is None}
    rows: dict[tuple[str, str, float], Measurement] = {}
    for file in sorted(results.glob("rate_distortion_*_kodak.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        if perceptual and record["environment"].get("ssimulacra2") != version("ssimulacra2"):
            continue
        same = [curve["name"] for curve in record["curves"] if here.get(curve["name"]) == curve["description"]]
        rows |= {(row.image, row.method, row.setting): row for name in same for row in read_rows(record, name)}
    return tuple(row if perceptual else replace(row, ssimulacra2=None) for row in rows.values())


def update_card(card: Path, text: str) -> None:
    """Replaces what stands between the markers of a model card."""
    before, behind = split_card(card.read_text(encoding="utf-8"), card)
    with atomic_write(card) as temporary:
        temporary.write_text(f"{before}\n{text}\n{behind}", encoding="utf-8")


def reproduce(folder: Path, request: Request, progress: Progress) -> Evaluation:
    """Exports one folder's weights and measures the bundle."""
    with tempfile.TemporaryDirectory() as scratch:
        bundle = Path(scratch) / "bundle"
        task = progress.add_task(f"exporting {folder.name}", total=None)
        export_bundle(load_checkpoint(folder), bundle, images=WEIGHTS / "photographs")

        def advance(done: int, total: int | None, step: str) -> None:
            progress.update(task, description=f"{folder.name}: {step}", completed=done, total=total)

        return evaluate_folder(replace(request, bundles=(bundle,)), advance)


def main() -> None:
    parser = argparse.ArgumentParser(description="Recomputes the model cards' figures from the shipped weights.")
    parser.add_argument("variants", nargs="*", help="folders of export/; all that have weights if none is named")
    parser.add_argument("--images", type=Path, required=True, help="folder of the 24 Kodak images")
    parser.add_argument("--qualities", type=float, nargs="+", default=list(range(1, 9)))
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--ssimulacra2", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--print", action="store_true", help="print the figures; leave cards and results as they are")
    arguments = parser.parse_args()
    request = Request(
        images=arguments.images,
        bundles=(),
        qualities=tuple(arguments.qualities),
        against=CODECS,
        references=REFERENCES,
        dataset="kodak",
        backend=arguments.backend,
        ssimulacra2=arguments.ssimulacra2,
    )
    kodak = known_dataset([path.stem for path in list_images(arguments.images)]) == "kodak"
    if not arguments.print and not kodak:
        raise SystemExit(f"{arguments.images} is not the 24 Kodak images; --print shows figures of any folder")
    for folder in released(arguments.variants):
        known = measured_before(arguments.results, arguments.ssimulacra2) if kodak else ()
        with Progress(transient=True) as progress:
            evaluation = reproduce(folder, replace(request, measured=known), progress)
        text = figures(evaluation)
        print(f"{folder}\n\n{text}\n")
        if evaluation.unequal:
            raise SystemExit(f"{folder}: {len(evaluation.unequal)} decoded pictures are wrong; its card is kept")
        if not arguments.print:
            arguments.results.mkdir(parents=True, exist_ok=True)
            name = evaluation.curves[0].name.removeprefix("s2c ")
            write_json(evaluation, arguments.results / f"rate_distortion_{name}_kodak.json")
            update_card(folder / "README.md", text)


if __name__ == "__main__":
    main()
