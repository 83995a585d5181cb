"""Where bundles are looked for, and in which order."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from commands import Run

from s2c_deploy.errors import BitstreamError, InputError
from s2c_deploy.formats import finding
from s2c_deploy.formats.bundle import open_bundle
from s2c_deploy.formats.finding import BundleFinder, choose_bundle, data_folder, known_bundles


class Places:
    """One folder for each place, all empty; ``add`` puts a bundle's manifest into one."""

    def __init__(self, root: Path, real: Path) -> None:
        self.folders = {
            "./engines": Path("engines"),
            "the user's data folder": root / "data" / "s2c-deploy" / "bundles",
            "the wheel": root / "package",
        }
        self.manifest = (real / "manifest.json").read_text()
        self.fingerprint = open_bundle(real).fingerprint.hex()

    def add(self, place: str, name: str, fingerprint: str) -> Path:
        folder = self.folders[place] / name
        folder.mkdir(parents=True)
        assert self.fingerprint in self.manifest
        (folder / "manifest.json").write_text(self.manifest.replace(self.fingerprint, fingerprint * 8))
        return folder


@pytest.fixture
def places(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle_path: Path) -> Places:
    """In an empty folder; ``run`` has put this user's data into it."""
    made = Places(tmp_path, bundle_path)
    monkeypatch.setattr(finding, "PACKAGED", made.folders["the wheel"])
    return made


A, B, C = (bytes.fromhex(digit * 16) for digit in "abc")
A8, B8 = "a" * 8, "b" * 8


def test_a_checkout_has_no_bundle_in_the_package() -> None:
    assert not finding.PACKAGED.exists()


def test_the_order(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"no bundle under engines/ or in .*data/s2c-deploy/bundles"):
        choose_bundle(None)
    for place in reversed(places.folders):
        added = places.add(place, "any", A8)
        found = choose_bundle(None)
        assert (found.path, found.place) == (added, place)
    monkeypatch.setenv("S2C_BUNDLE", "elsewhere")
    found = choose_bundle(None)
    assert (found.path, found.place) == (Path("elsewhere"), "$S2C_BUNDLE")
    found = choose_bundle(Path("given"))
    assert (found.path, found.place) == (Path("given"), "--bundle")
    assert [found.place for found in known_bundles()] == list(places.folders)


def test_several_in_the_first_place_that_has_any(places: Places) -> None:
    places.add("the wheel", "any", A8)
    for name in ("one", "two"):
        places.add("the user's data folder", name, A8)
    with pytest.raises(InputError, match=r"several bundles: \S*data/s2c-deploy/bundles/one, \S*bundles/two \("):
        choose_bundle(None)
    added = places.add("./engines", "one", A8)
    assert choose_bundle(None).path == added


def test_a_stream_finds_its_bundle_in_any_place(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    in_wheel = places.add("the wheel", "any", B8)
    in_data = places.add("the user's data folder", "any", A8)
    in_engines = places.add("./engines", "other", "c" * 8)
    assert BundleFinder(None).find(A, "conv-tiny") == in_data
    assert BundleFinder(None).find(B, "conv-tiny") == in_wheel
    assert BundleFinder(None).find(C, "conv-tiny") == in_engines
    nearer = places.add("./engines", "same", B8)
    assert BundleFinder(None).find(B, "conv-tiny") == nearer
    monkeypatch.setenv("S2C_BUNDLE", str(in_wheel))
    assert BundleFinder(None).find(B, "conv-tiny") == in_wheel
    assert BundleFinder(None).find(A, "conv-tiny") == in_data
    assert BundleFinder(in_engines).find(A, "conv-tiny") == in_engines  # whatever it is: the user's word
    with pytest.raises(BitstreamError, match=r"bbbb.*\(.*package/any\), cccc.*\(engines/other\).*aaaa.*dddd"):
        BundleFinder(None).find(bytes.fromhex("d" * 16), "conv-tiny")


def test_a_variable_that_names_no_bundle(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    places.add("./engines", "any", A8)
    monkeypatch.setenv("S2C_BUNDLE", "nowhere")
    with pytest.raises(InputError, match="no bundle at nowhere"):
        BundleFinder(None).find(A, "conv-tiny")


def test_what_others_left_in_the_data_folder(places: Places) -> None:
    kept = places.add("the user's data folder", "kept", A8)
    folder = kept.parent
    places.add("the user's data folder", ".hidden", B8)
    (folder / "file").write_bytes(b"")
    (folder / "loop").symlink_to("loop")
    (folder / "damaged").mkdir()
    (folder / "damaged" / "manifest.json").write_bytes(b"\xff{")
    assert [found.path.name for found in known_bundles()] == ["damaged", "kept"]
    assert BundleFinder(None).find(A, "conv-tiny") == kept
    with pytest.raises(BitstreamError, match="damaged"):
        BundleFinder(None).find(B, "conv-tiny")


def test_a_data_folder_that_is_a_file(places: Places, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"")
    added = places.add("the wheel", "any", A8)
    assert choose_bundle(None).path == added


@pytest.mark.parametrize("value", ["", "relative/data"])
@pytest.mark.parametrize(("system", "below"), [("linux", ".local/share"), ("darwin", "Library/Application Support")])
def test_the_data_folder_of_a_home(monkeypatch: pytest.MonkeyPatch, value: str, system: str, below: str) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setenv("XDG_DATA_HOME", value)
    monkeypatch.setenv("HOME", "/home/someone")
    assert data_folder() == Path("/home/someone", below, "s2c-deploy/bundles")


def test_doctor_says_which_and_why(run: Run, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    record = json.loads(run("doctor", "--json").out)["bundle"]
    assert record["path"] is None
    assert "s2c-deploy export" in record["problem"]
    added = places.add("the user's data folder", "any", A8)
    expected = {"path": str(added), "found in": "the user's data folder", "problem": None}
    assert json.loads(run("doctor", "--json").out)["bundle"] == expected
    assert f"{added} (found in the user's data folder)\n" in run("doctor").out
    monkeypatch.setenv("S2C_BUNDLE", "nowhere")
    assert "nowhere (found in $S2C_BUNDLE): no bundle at nowhere" in run("doctor").out


def test_inspect_without_a_name(run: Run, places: Places, bundle_path: Path) -> None:
    result = run("inspect")
    assert (result.code, result.out) == (3, "")
    folder = places.folders["the user's data folder"]
    folder.mkdir(parents=True)
    (folder / "mine").symlink_to(bundle_path)
    record = json.loads(run("inspect", "--json").out)
    assert (record["path"], record["found_in"]) == (str(folder / "mine"), "the user's data folder")
    assert record["fingerprint"] == places.fingerprint
    assert "the user's data folder" in run("inspect").out
