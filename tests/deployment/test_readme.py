"""The README: its commands run, its Python runs, its figures are those of the results, its links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from s2c_deploy import __version__
from s2c_deploy.arrays import Pixels
from s2c_deploy.image import Image, read_image, write_image

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "benchmarks" / "results" / __version__
#: Commands that no test here runs, and the file whose lines run them.
ELSEWHERE = {
    "make demo": ".github/workflows/tests.yml",
    "make test": ".ci/run",
    "make wheel": ".github/workflows/wheels.yml",
    "make docs": ".github/workflows/lint.yml",
    'pip install "$(ls dist/*.whl)[cpu]"': ".github/workflows/wheels.yml",
}
PROGRAMS = ("make", "pip", "python", "s2c-deploy", "source")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", README, re.M | re.S)


def commands() -> list[str]:
    """Every line of a shell block, and what stands in the text as a command, without comments."""
    lines = [line.partition(" #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    code = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", README, flags=re.M | re.S))
    return [line for line in lines if line] + [text for text in code if text.split()[0] in PROGRAMS and " " in text]


def of_program(*programs: str) -> list[str]:
    return [command for command in commands() if command.split()[0] in programs]


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture
def folder(bundle_path: Path, small_photograph: Pixels, tmp_path: Path) -> Path:
    """A picture, and a bundle where the README has one."""
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines" / "conv-small").symlink_to(bundle_path)
    write_image(tmp_path / "photo.png", Image(pixels=np.ascontiguousarray(small_photograph[:64, :64])))
    return tmp_path


def test_every_command_is_run_by_a_test() -> None:
    found = commands()
    assert len(of_program("s2c-deploy")) >= 4
    for command in found:
        program = command.split()[0]
        known = program == "s2c-deploy" or command.startswith(("python -m benchmarks.", "make reproduce-cards "))
        assert known or command in ELSEWHERE, f"no test runs: {command}"
    for command, place in ELSEWHERE.items():
        assert command in found, f"the README has it no longer: {command}"
        assert command in (ROOT / place).read_text(encoding="utf-8")


def test_the_commands_run(folder: Path) -> None:
    for command in of_program("s2c-deploy"):
        done = run(["bash", "-euo", "pipefail", "-c", command], folder)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert read_image(folder / "out.png").pixels.shape == (64, 64, 3)


def test_the_python_runs(folder: Path) -> None:
    (text,) = blocks("python")
    done = run([sys.executable, "-W", "ignore", "-c", f"{text}\nprint(pixels.shape, len(data))"], folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(64, 64, 3) ")


@pytest.mark.parametrize("command", of_program("python"))
def test_benchmarks_have_the_options_that_are_named(command: str) -> None:
    """Each takes hours: here, that there is such a command with such options."""
    words = command.split()
    module = words[words.index("-m") + 1]
    suites = [word for word in words[3:] if re.fullmatch("[a-z]+", word)][:1]
    done = run([sys.executable, "-m", module, *suites, "--help"], ROOT)
    assert done.returncode == 0, done.stderr
    for option in re.findall(r"--[a-z-]+", command):
        assert option in done.stdout


def test_make_has_the_targets_that_are_named() -> None:
    for command in of_program("make"):
        target, variables = command.split()[1], re.findall(r"\b([A-Z]+)=", command)
        done = run(["make", "--dry-run", "--no-print-directory", target, *(f"{v}=given-{v}" for v in variables)], ROOT)
        assert done.returncode == 0, done.stderr
        assert all(f"given-{v}" in done.stdout for v in variables)


def test_bits_at_equal_psnr_are_those_of_the_results() -> None:
    text = (RESULTS / "rate_distortion_conv-small_kodak.json").read_text(encoding="utf-8")
    found = {c["anchor"]: c["pchip"] for c in json.loads(text)["comparisons"] if c["metric"] == "psnr"}
    (row,) = re.findall(r"^\| Bits at equal PSNR.*$", README, re.M)
    names = {
        "JPEG": "jpeg",
        "WebP": "webp",
        "JPEG 2000": "jpeg2000",
        "AVIF": "avif-slow",
        "VTM 9.1": "vtm-9.1 (published)",
    }
    names |= {"BPG 4:4:4": "bpg_444_x265_ycbcr (published)", "JPEG XL": "jpegxl"}
    told = re.findall(r"([−+][\d.]+) % against ([^,|]+\w)", row)
    assert {name: float(figure.replace("−", "-")) for figure, name in told} == {
        name: round(found[key], 1) for name, key in names.items()
    }


def test_streams_that_fail_are_those_of_the_results() -> None:
    (row,) = re.findall(r"^\| Streams that another engine.*$", README, re.M)
    for name, failed, streams in (("verify_conv-small_six", 0, 648), ("cross_engine_float", 212, 576)):
        agreements = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["agreements"]
        assert sum(a["failed"] for a in agreements) == failed
        assert sum(a["streams"] for a in agreements) == streams
    assert "| 0 of 648; with float entropy networks of the same weights 212 of 576 |" in row


def test_times_are_those_of_stable_rows() -> None:
    (told,) = re.findall(r"^\| Decoding 768×512.*$", README, re.M)
    page = (ROOT / "docs" / "performance.md").read_text(
        encoding="utf-8"
    )  # held against the results by a test of its own
    table = page.partition("<!-- latency decode_conv-small -->")[2].partition("<!-- /latency")[0]
    stable = dict(re.findall(r"^\| ([\w-]+) \| ([\d.]+) \|.*\| stable \|$", table, re.M))
    rows = re.findall(r"^\| ([\w-]+) \| [\d.]+ \| [\d.]+ \| [\d.]+ \| ([\d.]+) \| ([\d.]+) \|", table, re.M)
    ratios = {name: (float(reference), float(pytorch)) for name, reference, pytorch in rows}
    assert told.split("|")[2].strip() == (
        f"{float(stable['openvino-bf16']):.0f} ms on OpenVINO with g_s in bfloat16, "
        f"{ratios['openvino-bf16'][1]:.1f} times as fast as the best of PyTorch "
        f"and {ratios['openvino-bf16'][0]:.1f} times as fast as [the reference pipeline](docs/benchmarking.md); "
        f"{ratios['openvino-fast-int8-bf16'][0]:.1f} times with `--synthesis fast-int8`"
    )


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)", README)
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_citation_is_of_this_version() -> None:
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
