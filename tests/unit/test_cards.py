"""The model cards' figures: what is replaced, and what stops it."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from s2c_deploy import __version__
from s2c_deploy.evaluation import Evaluation
from s2c_deploy.evaluation.curves import Curve, Kind, Point, compare
from s2c_deploy.evaluation.pillow_codecs import pillow_codec
from s2c_deploy.models.checkpoint import load_checkpoint

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / __version__


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.syspath_prepend(str(ROOT))
    pytest.importorskip("safetensors")
    from benchmarks import reproduce_cards

    return reproduce_cards


def curve(name: str, kind: Kind, factor: float) -> Curve:
    points = [(0.1, 26.0), (0.2, 28.0), (0.4, 30.5), (0.8, 33.0)]
    return Curve(
        name=name,
        kind=kind,
        description=f"{name}, somehow",
        points=tuple(
            Point(setting=i + 1, bpp=b * factor, psnr=p, ms_ssim=0.9 + i / 50, ideal_bpp=b * factor / 1.01)
            for i, (b, p) in enumerate(points)
        ),
        pictures=24,
        ms_ssim_pictures=24,
    )


def test_figures_of_a_card(cards) -> None:  # type: ignore[no-untyped-def]
    bundle, jpeg = curve("s2c conv-tiny", "bundle", 0.65), curve("jpeg", "codec", 1.0)
    vtm = curve("vtm-9.1", "reference", 0.5)
    found = [compare(anchor, bundle, metric) for anchor in (jpeg, vtm) for metric in ("psnr", "ms_ssim")]
    evaluation = Evaluation(
        pictures=tuple(f"kodim{i:02d}.png" for i in range(1, 25)),
        skipped=(),
        dataset="kodak",
        curves=(bundle, jpeg, vtm),
        comparisons=tuple(c for c in found if c is not None),
        rows=(),
        environment={},
    )
    text = cards.figures(evaluation)
    assert "| 2 | 0.1300 | 28.00 | 0.9200 | +1.00 % |" in text
    assert "| quality | jpeg | vtm-9.1 |" in text
    assert "| 2 | -35.0 % | +30.0 % |" in text
    assert "| jpeg | -35.0 % | -35.0 % | 26.00 to 33.00 dB | -35.0 % |" in text
    assert "| vtm-9.1 | +30.0 % | +30.0 % | 26.00 to 33.00 dB | +30.0 % |" in text
    assert "24 pictures of the kodak set" in text
    assert "- jpeg: jpeg, somehow" in text


def test_only_the_figures_are_replaced(cards, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    card = tmp_path / "README.md"
    card.write_text("# Card\n<!-- figures -->\nold\n<!-- /figures -->\nend\n")
    cards.update_card(card, "| new |")
    cards.update_card(card, "| newer |")
    assert card.read_text() == "# Card\n<!-- figures -->\n| newer |\n<!-- /figures -->\nend\n"


@pytest.mark.parametrize(
    "text",
    ["", "<!-- figures -->", "<!-- /figures --> <!-- figures -->", "<!-- figures --><!-- figures --><!-- /figures -->"],
)
def test_a_card_without_its_markers_is_refused(cards, tmp_path: Path, text: str) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "conv"
    folder.mkdir()
    (folder / "README.md").write_text(text)
    with pytest.raises(SystemExit, match=r"no weights\.safetensors"):
        cards.released(["conv"], tmp_path)
    (folder / "weights.safetensors").write_bytes(b"")
    for names in (["conv"], []):
        with pytest.raises(SystemExit, match="once each"):
            cards.released(names, tmp_path)
    assert (folder / "README.md").read_text() == text


def test_every_released_card_has_its_markers(cards) -> None:  # type: ignore[no-untyped-def]
    assert ROOT / "export" / "conv" in cards.released([], ROOT / "export")


def test_export_takes_the_best_released_preset_by_default() -> None:
    names = {path.parent: load_checkpoint(path.parent).config.name for path in (ROOT / "export").glob("*/recipe.toml")}

    def bd_rate(folder: Path) -> float:
        text = (RESULTS / f"rate_distortion_{names[folder]}_kodak.json").read_text(encoding="utf-8")
        found = [c for c in json.loads(text)["comparisons"] if (c["anchor"], c["metric"]) == ("jpeg", "psnr")]
        return float(found[0]["pchip"])

    others = [folder for folder in names if "-" in folder.name]
    assert ROOT / "export" / "conv-tiny" in others
    for folder in others:
        default = folder.with_name(folder.name.partition("-")[0])
        assert bd_rate(default) < bd_rate(folder)


def test_cards_of_other_pictures_stay(cards, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(sys, "argv", ["reproduce_cards", "--images", str(ROOT / "export" / "photographs")])
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit, match="not the 24 Kodak images"):
        cards.main()


@pytest.mark.parametrize("changed", [None, "version", "ssimulacra2"])
def test_only_what_the_same_codecs_measured_is_taken(cards, tmp_path: Path, changed: str | None) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("ssimulacra2")
    jpeg = pillow_codec("jpeg")
    description = jpeg.description.replace(jpeg.version, "libjpeg 6b") if changed == "version" else jpeg.description
    curves = [{"name": "s2c conv-tiny", "description": "..."}, {"name": "jpeg", "description": description}]
    row = {"image": "kodim01.png", "setting": 5, "width": 8, "height": 8, "bytes": 99, "bpp": 1, "psnr": 30.0}
    row |= {"ms_ssim": None, "encode_seconds": 1.0, "decode_seconds": 1.0, "ideal_bpp": None, "equal": None}
    record = {
        "environment": {"ssimulacra2": "0" if changed == "ssimulacra2" else version("ssimulacra2")},
        "curves": curves,
        "rows": [row | {"method": curve["name"], "ssimulacra2": 50.0} for curve in curves],
    }
    (tmp_path / "rate_distortion_conv-tiny_kodak.json").write_text(json.dumps(record))
    found = [(row.method, row.size, row.ssimulacra2) for row in cards.measured_before(tmp_path)]
    assert found == ([] if changed else [("jpeg", 99, 50.0)])
    found = [(row.method, row.size, row.ssimulacra2) for row in cards.measured_before(tmp_path, perceptual=False)]
    assert found == ([] if changed == "version" else [("jpeg", 99, None)])
