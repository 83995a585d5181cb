"""``s2c-deploy bench``: what it prints, what it writes, how it fails."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
from commands import Run
from PIL import Image as Pil

from s2c_deploy.arrays import Pixels
from s2c_deploy.cli.bench import weights_of
from s2c_deploy.formats.manifest import MANIFEST


@pytest.fixture
def run(run: Run) -> Run:
    return partial(run, "bench")


@pytest.fixture
def common(tmp_path: Path, bundle_path: Path, photograph: Pixels) -> tuple[object, ...]:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Pil.fromarray(photograph[100:164, 200:296]).save(folder / "part.png")
    quick = ("--min-seconds", 0, "--min-count", 2, "--rounds", 2)
    return ("--bundle", bundle_path, "--images", folder, "--backends", "onnxruntime", *quick)


def test_a_whole_run_and_its_comparison(run: Run, common: tuple[object, ...], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    outputs = ("--json", "a.json", "--html", "a.html")
    code, out, err = run(*common, "--threads", "1,2", "--sizes", "64x64,96x64", "-q", "2,4", *outputs)
    assert (code, err) == (0, "")
    for text in ("96x64, quality 4 (1 picture", "onnxruntime, 2 threads", "Deploy onnxruntime", "written: a.html"):
        assert text in out
    record = json.loads((tmp_path / "a.json").read_text())
    assert [case["name"] for case in record["cases"]] == [
        f"{size}, quality {q}" for size in ("64x64", "96x64") for q in (2, 4)
    ]
    assert {row["threads"] for row in record["rows"]} == {1, 2}
    assert all(len(series["seconds"]) == 2 for row in record["rows"] for series in row["series"])
    assert {"processor", "governor", "commit", "versions", "files", "load_before"} <= set(record["environment"])
    page = (tmp_path / "a.html").read_text()
    # bars and stages of four cases, one plot by size; nothing from elsewhere
    assert page.count("<svg") == 4 + 4 + 1
    assert "src=" not in page
    assert "@import" not in page
    code, out, err = run("compare", "a.json", "a.json", "--json")
    assert (code, err) == (0, "")
    compared = json.loads(out)
    assert compared["differences"] == []
    assert {row["second / first"] for row in compared["rows"]} == {"1.000"}
    code, out, _ = run("compare", "a.json", "a.json")
    assert code == 0
    assert "95 % interval" in out


def test_the_weights_beside_a_bundle_are_its_presets(
    tmp_path: Path, bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    manifest = json.loads((bundle_path / MANIFEST).read_text())
    for preset, expected in (("small", "export/conv"), ("tiny", "export/conv-tiny")):
        manifest["model"] |= {"variant": "conv", "preset": preset}
        (bundle / MANIFEST).write_text(json.dumps(manifest))
        Path(expected).mkdir(parents=True)
        (Path(expected) / "weights.safetensors").touch()
        assert weights_of(bundle) == Path(expected)
    shutil.rmtree("export")
    assert weights_of(bundle) is None


def test_a_named_row_that_cannot_run_says_why(run: Run, common: tuple[object, ...]) -> None:
    code, out, _ = run(*common, "--backends", "onnxruntime,torch-eager", "--encode")
    assert code == 0
    # the bundle's model folder is not under this folder
    assert "no times: no model folder" in out
    assert "encode, pixels to file bytes" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--batch", "4"), "one picture a call"),
        (("--batch", "1,4"), "one picture a call"),
        (("--threads", "0"), "--threads: expected auto or numbers from 1"),
        (("--threads", "many"), "found 'many'"),
        (("--sizes", "5k"), "--sizes: expected 720p"),
        (("--backends", "onnxruntime,cuda"), "found 'cuda'"),
        (("--backends", ""), "no row can be measured here"),
        (("-q", "9"), "quality"),
        (("-q", "good"), "found 'good'"),
        (("--images", "nowhere"), "nowhere"),
        (("--bundle", "nowhere"), "no bundle at nowhere"),
        (("--json", "there.json"), "there.json exists"),
        (("--json", "none/e.json"), "no folder none"),
        (("--json", "e", "--html", "e"), "two outputs into one file"),
    ],
)
def test_refused_before_anything_is_measured(
    run: Run, common: tuple[object, ...], arguments: tuple[str, ...], message: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "there.json").write_text("mine")
    monkeypatch.setattr("s2c_deploy.bench.worker.Worker.__init__", lambda *_: pytest.fail("measured"))
    code, out, err = run(*common, *arguments)
    assert (code, out) == (3, "")
    assert err.startswith("error: ")
    assert message in err
    assert (tmp_path / "there.json").read_text() == "mine"


def test_no_pictures_and_none_named(run: Run, bundle_path: Path) -> None:
    code, _, err = run("--bundle", bundle_path)
    assert code == 3
    assert "--images" in err


def test_every_row_lost_is_an_error(run: Run, common: tuple[object, ...]) -> None:
    code, out, err = run(*common, "--backends", "torch-eager", "--json", "e.json")
    assert code == 9
    assert "no times" in out
    assert "every row lost its times" in err


def test_comparing_what_is_no_run(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    code, _, err = run("compare", "a.json", "b.json")
    assert code == 3
    assert "a.json: schema: expected 1, found None" in err
