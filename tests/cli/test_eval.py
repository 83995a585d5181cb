"""``s2c-deploy eval``: what it prints, what it writes, how it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from commands import Run
from PIL import Image as Pil

from s2c_deploy.arrays import Pixels
from s2c_deploy.codec.codec import Codec


@pytest.fixture
def run(run: Run) -> Run:
    return partial(run, "eval")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, photograph: Pixels) -> Path:
    path = tmp_path_factory.mktemp("pictures")
    for number in range(2):
        Pil.fromarray(photograph[100 * number :][:64, 200:296]).save(path / f"part{number}.png")
    return path


@pytest.fixture
def common(pictures: Path, bundle_path: Path) -> tuple[object, ...]:
    return (pictures, "--bundle", bundle_path, "--backend", "onnxruntime", "--threads", "1")


def test_a_whole_evaluation(run: Run, common: tuple[object, ...], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    files = [tmp_path / name for name in ("e.json", "e.csv", "e.svg", "e.html")]
    outputs = [part for pair in zip(("--json", "--csv", "--plot", "--html"), files, strict=True) for part in pair]
    code, out, err = run(
        *common, "-q", "1..3", "--quality", "5,8", "--against", "jpeg,webp", "--dataset", "kodak",
        "--reference", "vtm-9.1,bpg-444", *outputs,
    )  # fmt: skip
    assert (code, err) == (0, "")
    record = json.loads(files[0].read_text())
    assert [point["setting"] for point in record["curves"][0]["points"]] == [1, 2, 3, 5, 8]
    assert {row["image"] for row in record["rows"]} == {"part0.png", "part1.png"}
    assert len(files[1].read_text().splitlines()) == 1 + len(record["rows"]) == 1 + 2 * (5 + 13 + 12)
    assert files[2].read_text().count("<svg") == 1
    assert "bpg_444_x265_ycbcr" in files[3].read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in files)
    for text in ("s2c conv-tiny", "0 of 10", "vtm-9.1", "against 2 measured here", "libwebp", f"written: {files[3]}"):
        assert text in out


def test_the_default_bundle_and_no_codec(
    run: Run, pictures: Path, bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S2C_BUNDLE", str(bundle_path))
    code, out, _ = run(pictures, "-q", "4", "--against", "none", "--backend", "onnxruntime")
    assert code == 0
    assert "conv-tiny" in out
    assert "jpeg" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-q", "good"), "expected 1..8 or numbers with commas between, found 'good'"),
        (("-q", "1..x"), "found '1..x'"),
        (("-q", "9"), "quality"),
        (("-q", "8..1"), "expected 1..8"),
        (("-q", "1..100000000000"), "found '1..100000000000'"),
        (("-q", f"1..1{'0' * 400}"), "expected 1..8"),
        (("--effort", 5000 * "1"), "--effort: expected 0 to 9"),
        (
            ("--against", "jpeg,gif"),
            "expected jpeg, webp, avif, avif-slow, avif-slowest, jpeg2000, jpegxl, jpegxl-slow, found 'gif'",
        ),
        (("--reference", "vtm-9.1"), "--dataset"),
        (("--reference", "vvc", "--dataset", "kodak"), "no curve of kodak called 'vvc'"),
        (("--reference", "x", "--reference-file", "none.json", "--dataset", "kodak"), "cannot read none.json"),
        (("--plot", "curves.pdf"), ".png or .svg"),
        (("--json", "there.json"), "there.json exists"),
        (("--json", "none/e.json"), "no folder none"),
        (("--json", "folder", "--force"), "folder is a folder"),
        (("--json", "e.txt", "--csv", "e.txt"), "two outputs into one file"),
    ],
)
def test_refused_before_anything_is_measured(
    run: Run, common: tuple[object, ...], arguments: tuple[str, ...], message: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "there.json").write_text("mine")
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(Codec, "compress", lambda *_: pytest.fail("measured"))
    code, out, err = run(*common, *arguments)
    assert (code, out) == (3, "")
    assert err.startswith("error: ")
    assert message in err
    assert (tmp_path / "there.json").read_text() == "mine"


def test_force_overwrites(run: Run, common: tuple[object, ...], tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text("old")
    code, _, _ = run(*common, "-q", "4", "--against", "none", "--json", "e.json", "--force")
    assert code == 0
    assert json.loads((tmp_path / "e.json").read_text())["unequal_reconstructions"] == 0


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n", b"hello"])
def test_an_unreadable_picture(run: Run, common: tuple[object, ...], tmp_path: Path, content: bytes) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "bad.png").write_bytes(content)
    Pil.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(mixed / "flat.png")
    code, _, err = run(mixed, *common[1:], "-q", "4", "--against", "none")
    assert code == 3
    assert "bad.png" in err
    assert "Traceback" not in err
    code, out, _ = run(mixed, *common[1:], "-q", "4", "--against", "none", "--skip-unreadable")
    assert code == 0
    assert "Left out: 1 (" in out


def test_an_empty_folder(run: Run, common: tuple[object, ...], tmp_path: Path) -> None:
    code, _, err = run(tmp_path, *common[1:])
    assert code == 3
    assert "no pictures in" in err


def test_wrong_pictures_end_in_an_error_after_the_report(
    run: Run, common: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Codec.reconstruct
    monkeypatch.setattr(Codec, "reconstruct", lambda self, image, quality: 255 - right(self, image, quality))
    code, out, err = run(*common, "-q", "4", "--against", "none", "--json", "e.json")
    assert code == 9
    assert "2 decoded pictures differ" in err
    assert "2 of 2" in out
    assert json.loads((tmp_path / "e.json").read_text())["unequal_reconstructions"] == 2


def test_help_is_light() -> None:
    heavy = "{'numpy', 'PIL', 'matplotlib', 's2c_deploy.evaluation'}"
    code = f"import sys; from s2c_deploy.cli import eval; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
