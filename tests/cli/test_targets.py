"""What a command may write over: no source, no other picture, no stream; and what cannot be written is said first."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from commands import Result, Run
from PIL import Image as Pil

from s2c_deploy.bitstream import MAGIC
from s2c_deploy.cli.jobs import Choice, plan
from s2c_deploy.cli.targets import check_replaceable, check_reports, content_of, picture_size
from s2c_deploy.errors import InputError

STREAM = MAGIC + bytes(30)
COMPRESS = Choice(writes="stream", suffix=".s2c", force=True)
DECOMPRESS = Choice(writes="picture", suffix=".png", force=True)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in, with pictures a.jpg and b.jpg, and a stream s.s2c."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a.jpg", "b.jpg")):
        Pil.fromarray(np.full((8, 9, 3), 90 * number, np.uint8)).save(name)
    Path("s.s2c").write_bytes(STREAM)
    return tmp_path


def refused(arguments: tuple[str, ...], choice: Choice) -> str:
    before = {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    with pytest.raises(InputError) as caught:
        plan(arguments, choice)
    assert {path: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before
    return str(caught.value)


def pairs(*arguments: str, choice: Choice = COMPRESS) -> list[tuple[str, str]]:
    return [(job.source_name, job.target_name) for job in plan(arguments, choice).jobs]


def test_a_target_that_is_the_source(here: Path) -> None:
    Path("link.s2c").symlink_to("a.jpg")
    os.link("a.jpg", "hard.s2c")
    Path("folder").mkdir()
    Path("folder/a.s2c").symlink_to("../a.jpg")
    Path("named.s2c").write_bytes(Path("a.jpg").read_bytes())
    for arguments in (
        ("a.jpg", "a.jpg"),
        ("a.jpg", str(here / "a.jpg")),
        ("a.jpg", "folder/../a.jpg"),
        ("a.jpg", "link.s2c"),
        ("a.jpg", "hard.s2c"),
        ("a.jpg", "folder"),
        ("named.s2c", "named.s2c"),
        ("named.s2c",),  # a picture whose own name is that of its stream
    ):
        assert "the source itself, and would be replaced" in refused(arguments, COMPRESS)
    Path("p.png").write_bytes(STREAM)
    assert "the source itself" in refused(("p.png",), DECOMPRESS)


def test_a_target_that_is_another_source(here: Path) -> None:
    Path("x.jpg").write_bytes(Path("a.jpg").read_bytes())
    Path("out").mkdir()
    Path("out/x.s2c").symlink_to("../b.jpg")
    assert "out/x.s2c is b.jpg, a source, and would be replaced" in refused(("x.jpg", "b.jpg", "out"), COMPRESS)


def test_two_pictures_of_a_shell_pattern(here: Path) -> None:
    for force in (True, False):
        said = refused(("a.jpg", "b.jpg"), Choice(writes="stream", suffix=".s2c", force=force))
        assert "b.jpg is a picture, and a stream would replace it" in said
        assert "a.jpg b.jpg out/" in said


def test_a_picture_by_its_content_or_by_its_name(here: Path) -> None:
    Path("hidden").write_bytes(Path("b.jpg").read_bytes())
    Path("empty.TIFF").write_bytes(b"")
    for name in ("hidden", "empty.TIFF"):
        assert f"{name} is a picture" in refused(("a.jpg", name), COMPRESS)
    Path("old.s2c").write_bytes(Path("b.jpg").read_bytes())  # its name says that it is meant
    Path("other.bin").write_bytes(b"other")
    assert pairs("a.jpg", "old.s2c") == [("a.jpg", "old.s2c")]
    assert pairs("a.jpg", "other.bin") == [("a.jpg", "other.bin")]


def test_a_stream_is_not_replaced_by_a_picture(here: Path) -> None:
    Path("odd.png").write_bytes(STREAM)
    Path("plain.png").write_bytes(b"plain")
    assert "odd.png is a stream, and a picture would replace it" in refused(("s.s2c", "odd.png"), DECOMPRESS)
    assert pairs("s.s2c", "b.jpg", choice=DECOMPRESS) == [("s.s2c", "b.jpg")]
    assert pairs("s.s2c", "plain.png", choice=DECOMPRESS) == [("s.s2c", "plain.png")]


def test_several_sources_need_a_folder(here: Path) -> None:
    assert "b.jpg is no folder, and several sources need one" in refused(("a.jpg", "a.jpg", "b.jpg"), COMPRESS)
    assert "none is no folder" in refused(("a.jpg", "b.jpg", "none"), COMPRESS)
    assert pairs("a.jpg", "b.jpg", "out/") == [("a.jpg", "out/a.s2c"), ("b.jpg", "out/b.s2c")]
    assert Path("out").is_dir()
    assert pairs("a.jpg", "b.jpg", "out") == [("a.jpg", "out/a.s2c"), ("b.jpg", "out/b.s2c")]
    Path("more").mkdir()
    Path("more/c.png").write_bytes(b"")
    assert pairs("more", "a.jpg", "out") == [("more/c.png", "out/c.s2c"), ("a.jpg", "out/a.s2c")]


@pytest.mark.parametrize("name", ["new/", "new/deep/", "new//"])
def test_a_slash_at_the_end_is_a_folder(here: Path, name: str) -> None:
    assert pairs("a.jpg", name) == [("a.jpg", os.path.join(os.path.normpath(name), "a.s2c"))]
    assert Path(name).is_dir()
    assert "s.s2c is a file" in refused(("a.jpg", "s.s2c/"), COMPRESS)


def test_two_sources_of_one_target(here: Path) -> None:
    Path("other").mkdir()
    Path("other/a.png").write_bytes(b"")
    said = refused(("a.jpg", "other/a.png", "out/"), COMPRESS)
    assert "a.jpg and other/a.png would both become out/a.s2c" in said
    Path("a.gif").write_bytes(b"")
    assert "a.gif and a.jpg would both become a.s2c" in refused((".",), COMPRESS)


def test_what_exists_stays(here: Path) -> None:
    Path("out").mkdir()
    Path("out/a.s2c").symlink_to("nowhere")
    keep = Choice(writes="stream", suffix=".s2c")
    assert "out/a.s2c exists (overwrite with --force, do only what is missing with --skip-existing" in refused(
        ("a.jpg", "b.jpg", "out"), keep
    )
    Path("out/b.s2c").mkdir()
    assert "out/a.s2c exists, and 1 more" in refused(("a.jpg", "b.jpg", "out"), keep)
    assert "out/b.s2c is a folder" in refused(("a.jpg", "b.jpg", "out"), COMPRESS)
    going_on = Choice(writes="stream", suffix=".s2c", skip_existing=True)
    planned = plan(("a.jpg", "b.jpg", "out"), going_on)
    assert planned.jobs == []
    assert [job.source_name for job in planned.skipped] == ["a.jpg", "b.jpg"]
    assert "contradict" in refused(("a.jpg",), Choice(writes="stream", suffix=".s2c", force=True, skip_existing=True))


def test_a_target_that_was_named_may_be_a_link(here: Path) -> None:
    Path("link.s2c").symlink_to("real.s2c")
    (job,) = plan(("a.jpg", "link.s2c"), Choice(writes="stream", suffix=".s2c")).jobs
    assert job.follow_links


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x" * 300,), "File name too long"),
        (("a.jpg", "x" * 300), "File name too long"),
        (("a.jpg", "x" * 300 + "/"), "File name too long"),
        (("a.jpg", "none/a.s2c"), "no folder none"),
        (("a.jpg", "/proc/nope/"), "cannot write /proc/nope"),
        (("a.jpg", "/proc/a.s2c"), "cannot write /proc/a.s2c"),
        (("none.jpg",), "no file or folder none.jpg"),
        (("a.jpg/b.jpg",), "no file or folder a.jpg/b.jpg"),
        (("-", "a.jpg", "out/"), "- among several sources"),
        (("out/", "-"), "no file or folder out/"),
        ((".", "-"), "standard output takes one file"),
        (("-", "."), "standard input has no name"),
        (("-", "b.jpg"), "b.jpg is a picture"),
    ],
)
def test_places_that_cannot_be(here: Path, arguments: tuple[str, ...], message: str) -> None:
    assert message in refused(arguments, COMPRESS)
    assert sorted(os.listdir(here)) == ["a.jpg", "b.jpg", "s.s2c"]


def test_reports(here: Path) -> None:
    Path("old.json").write_text("{}")
    Path("old.svg").write_text("<svg/>")
    Path("link.json").symlink_to("a.jpg")
    check_reports([Path("new.json"), Path("old.json"), Path("old.svg")], force=True, inputs=[Path("a.jpg")])
    check_reports([Path("b.jpg")], force=True, inputs=[Path("a.jpg")], pictures=[Path("b.jpg")])
    for path, pictures, message in (
        ("a.jpg", ["a.jpg"], "a.jpg is a.jpg, which is an input"),
        ("link.json", [], "link.json is a.jpg, which is an input"),
        ("b.jpg", [], "b.jpg is a picture, and a report would replace it"),
        ("s.s2c", [], "s.s2c is a stream, and a report would replace it"),
        ("s.s2c", ["s.s2c"], "s.s2c is a stream, and a picture would replace it"),
        ("/proc/r.json", [], "cannot write /proc/r.json"),
    ):
        with pytest.raises(InputError, match=message):
            check_reports([Path(path)], force=True, inputs=[Path("a.jpg")], pictures=list(map(Path, pictures)))
    assert len(os.listdir(here)) == 6


def test_what_a_file_holds(here: Path) -> None:
    os.mkfifo("pipe.png")
    Path("report.json").write_text('{"schema": 1, "rows": []}')
    assert (content_of(Path("a.jpg")), content_of(Path("s.s2c"))) == ("picture", "stream")
    assert content_of(Path("report.json")) is None
    assert picture_size(Path("a.jpg")) == (9, 8)
    assert picture_size(Path("pipe.png")) is None
    check_replaceable(Path("none"), "stream")


def test_reports_do_not_replace_a_bundle_or_published_curves(run: Run, here: Path) -> None:
    Path("engines/one").mkdir(parents=True)
    Path("engines/one/manifest.json").write_text("{}")
    Path("curves.json").write_text("{}")
    for arguments in (
        ("eval", ".", "--json", "engines/one/manifest.json", "--force"),
        ("bench", "--images", ".", "--json", "engines/one/manifest.json", "--force"),
        ("eval", ".", "--json", "curves.json", "--reference-file", "curves.json", "--force"),
    ):
        result = run(*arguments, *(("--backends", "onnxruntime") if arguments[0] == "bench" else ()))
        assert result.code == 3
        assert "which is an input" in result.err
    assert Path("engines/one/manifest.json").read_text() == Path("curves.json").read_text() == "{}"


def one_error(result: Result, code: int = 3) -> str:
    assert (result.code, result.out) == (code, ""), result
    (line,) = result.err.splitlines()
    return line


@pytest.mark.parametrize("options", [("-q", "9"), ("--tile", "7"), ("--background", "no"), ("--backend", "magic")])
def test_options_are_looked_at_before_the_bundle(run: Run, here: Path, options: tuple[str, str]) -> None:
    line = one_error(run("compress", "a.jpg", *options, "--bundle", "nowhere"))
    assert options[1] in line
    assert "nowhere" not in line
    if options[0] == "--backend":
        assert "magic" in one_error(run("decompress", "s.s2c", *options, "--bundle", "nowhere"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("decompress", "s.s2c", "--suffix", ".xyz"), ".xyz"),
        (("decompress", ".", "out/", "--suffix", "jpgg"), ".jpgg"),
        (("decompress", "s.s2c", "-", "--suffix", "gif"), ".gif"),
        (("decompress", "s.s2c", "--synthesis", "float8"), "float8"),
        (("inspect", "x" * 300), "File name too long"),
        (("eval", "x" * 300), "File name too long"),
        (("eval", "none", "--json", "/proc/r.json"), "/proc/r.json"),
        (("eval", ".", "--plot", "a.jpg", "--force"), "which is an input"),
        (("eval", ".", "--csv", "s.s2c", "--force"), "is a stream"),
        (("bench", "--images", ".", "--json", "/proc/r.json"), "/proc/r.json"),
        (("bench", "--images", ".", "--html", "b.jpg", "--force"), "b.jpg is a picture"),
        (("verify", "x" * 300, "--images", "."), "File name too long"),
        (("compress", "a.jpg", "--bundle", "x" * 300), "bundle: cannot read"),
        (("build", "x" * 300), "bundle: cannot read"),
        (("triton", "/proc/nope", "--bundle", "nowhere"), "/proc/nope"),
        (("export", "--out", "/proc/nope"), "/proc/nope"),
        (("export", "--out", ".", "--force"), "is not a bundle"),
        (("export", "--triton", "/proc/nope"), "/proc/nope"),
        (("train", ".", "--out", "."), "is the folder of the photographs"),
        (("train", ".", "--out", "/proc/nope"), "/proc/nope"),
        (("train", ".", "--out", "run", "--cache", "a.jpg"), "a.jpg is a picture"),
        (("train", "x" * 300, "--out", "run"), "File name too long"),
    ],
)
def test_said_before_any_work(run: Run, here: Path, arguments: tuple[str, ...], message: str) -> None:
    line = run(*arguments).err.splitlines()[-1]
    assert line.startswith("error: ")
    assert message in line
    assert sorted(set(os.listdir(here)) - {"state"}) == ["a.jpg", "b.jpg", "s.s2c"]
