"""Published curves: what is read, what is refused and why, and how they are chosen."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2c_deploy.errors import InputError
from s2c_deploy.evaluation.reference import (
    DATASETS,
    choose_references,
    known_dataset,
    read_references,
    shipped_references,
)

GOOD: dict[str, Any] = {
    "method": "vtm-9.1",
    "dataset": "kodak",
    "bpp": [0.1, 0.2, 0.4, 0.8],
    "psnr_rgb": [28, 30.5, 33, 36],
    "ms_ssim_rgb": [0.9, 0.95, 0.97, 0.98],
    "source": "somebody/somewhere results.json",
}
Write = Callable[[Any], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def call(value: Any) -> Path:
        path = tmp_path / "curves.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return path

    return call


def changed(**values: Any) -> dict[str, Any]:
    return copy.deepcopy(GOOD) | values


def without(field: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != field}


def test_a_curve_is_read(write: Write) -> None:
    curve = read_references(write([GOOD]))["vtm-9.1", "kodak"]
    assert [(p.bpp, p.psnr, p.ms_ssim) for p in curve.points][1] == (0.2, 30.5, 0.95)
    assert (curve.kind, curve.pictures, curve.ms_ssim_pictures) == ("reference", 24, 24)
    assert "somebody/somewhere" in curve.description
    assert "kodak" in curve.description


def test_ms_ssim_may_be_missing(write: Write) -> None:
    curve = read_references(write([without("ms_ssim_rgb")]))["vtm-9.1", "kodak"]
    assert curve.quality("ms_ssim") is None
    assert curve.quality("psnr") == [28, 30.5, 33, 36]


def test_a_curve_of_an_unknown_set_has_no_number_of_pictures(write: Write) -> None:
    assert read_references(write([changed(dataset="mine")]))["vtm-9.1", "mine"].pictures is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[{]", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("\x00", "is not JSON"),
        ({}, "expected a list of curves, found dict"),
        ([GOOD, 3], "curve 1: expected an object, found int"),
        ([without("method")], "curve 0: method: expected a text, found None"),
        ([changed(dataset=3)], "dataset: expected a text, found 3"),
        ([changed(source=" ")], "source: expected a text"),
        ([changed(method="VTM")], "names no version of VTM"),
        ([changed(method="vtm-intra")], "names no version of VTM"),
        ([without("bpp")], "bpp: expected a list of numbers, found NoneType"),
        ([changed(psnr_rgb=[])], "psnr_rgb: expected a list of numbers"),
        ([changed(psnr_rgb=[28, 30, 33, "36"])], "psnr_rgb: expected finite numbers, found '36'"),
        ([changed(bpp=[0.1, 0.2, True, 0.8])], "bpp: expected finite numbers, found True"),
        ('[{"method":"a","dataset":"b","source":"c","bpp":[NaN],"psnr_rgb":[1]}]', "found nan"),
        ([changed(psnr_rgb=[28, 30, 33])], "psnr_rgb: expected 4 numbers as in bpp, found 3"),
        ([changed(ms_ssim_rgb=[0.9])], "ms_ssim_rgb: expected 4 numbers as in bpp, found 1"),
        ([changed(ms_ssim_rgb=[0.9, 0.95, 0.97, 1.0])], r"MS-SSIM in \[0, 1\)"),
        ([changed(bpp=[0, 0.2, 0.4, 0.8])], "bpp above 0"),
        ([changed(bpp=[0.1, 0.4, 0.4, 0.8])], "to rise, found that point 2 does not"),
        ([changed(psnr_rgb=[28, 27, 33, 36])], "to rise, found that point 1 does not"),
        ([GOOD, GOOD], "is there twice"),
    ],
)
def test_files_refused(write: Write, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_references(write(value))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_references(tmp_path / "none.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.sampled_from(["vtm-9.1", "kodak", ""]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(list(GOOD)), inner, max_size=6),
    max_leaves=30,
)


@settings(deadline=None)
@given(value=json_values, field=st.sampled_from(list(GOOD)))
def test_any_json_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, value: Any, field: str) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed_curves.json"
    for content in (value, [value], [GOOD | {field: value}]):
        path.write_text(json.dumps(content))
        try:
            read_references(path)
        except InputError as error:
            named = str(path) in str(error)
            if not named:
                pytest.fail(f"does not name the file: {error}")


# --- the shipped file


def test_every_shipped_curve_is_read_and_names_its_source() -> None:
    entries = json.loads(shipped_references().read_text())
    assert len(read_references(shipped_references())) == len(entries) == 60
    assert {entry["dataset"] for entry in entries} == {*DATASETS, "clic2020-professional"}
    assert all("vtm" not in entry["method"] or entry["method"] == "vtm-9.1" for entry in entries)


# --- choosing


def test_names_in_any_case_and_by_their_beginning() -> None:
    curves = read_references(shipped_references())
    chosen = choose_references(curves, ["BPG-444", "vtm-9.1", "mbt2018"], "kodak")
    names = ["bpg_444_x265_ycbcr", "vtm-9.1", "mbt2018"]
    assert [curve.name for curve in chosen] == [f"{name} (published)" for name in names]
    # a name that is also the beginning of others means itself; a curve asked for twice is there once
    assert len(choose_references(curves, ["vtm-9.1", "VTM"], "kodak")) == 1


@pytest.mark.parametrize(
    ("names", "dataset", "message"),
    [
        (["vvenc"], "kodak", "no curve of kodak called 'vvenc'"),
        (["mbt2018-"], "kodak", "several curves of kodak called 'mbt2018-'.*mbt2018-mean"),
        (["vtm-9.1"], "div2k", "no published curves of 'div2k'.*kodak"),
        (["bpg"], "tecnick", "no curve of tecnick"),
    ],
)
def test_choices_refused(names: list[str], dataset: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_references(read_references(shipped_references()), names, dataset)


def test_versions_of_vtm_are_not_mixed(write: Write) -> None:
    curves = read_references(write([GOOD, changed(method="VTM-21.0")]))
    assert len(choose_references(curves, ["vtm-21"], "kodak")) == 1
    with pytest.raises(InputError, match=r"vtm-9.1 and vtm-21.0 in one table.*one version"):
        choose_references(curves, ["vtm-9.1", "vtm-21.0"], "kodak")


def test_kodak_is_known_by_its_names() -> None:
    names = [f"kodim{number:02d}" for number in range(1, 25)]
    assert known_dataset(names) == "kodak"
    assert known_dataset(names[1:]) is None
    assert known_dataset([*names[1:], "kodim02"]) is None
    assert known_dataset([*names, "other"]) is None
