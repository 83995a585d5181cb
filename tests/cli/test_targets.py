"""What a command may write over: no source, no other picture, no stream; and what cannot be written is said first."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from commands import Result, Run
from PIL import Image as Pil

from s2c_deploy.cli.files.jobs import Choice, plan
from s2c_deploy.cli.files.reports import Report, check_reports
from s2c_deploy.cli.files.targets import Writes, check_replaceable, content_of, picture_size
from s2c_deploy.errors import InputError
from s2c_deploy.formats.bitstream import MAGIC

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


def report(name: str, kind: str) -> Report:
    return Report(path=Path(name), kind=cast(Writes, kind))


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
    Path("stream").write_bytes(STREAM)
    Path("empty").touch()
    assert pairs("a.jpg", "stream") == [("a.jpg", "stream")]
    assert pairs("a.jpg", "empty") == [("a.jpg", "empty")]
    for name, content in (("other.bin", b"other\0"), ("notes.txt", b"dear diary"), ("c.heic", b"\0\0\0\x18ftypheic")):
        Path(name).write_bytes(content)
        assert "would be lost" in refused(("a.jpg", name), COMPRESS)


def test_a_link_is_judged_by_what_it_leads_to(here: Path) -> None:
    Path("l.s2c").symlink_to("b.jpg")
    Path("l.png").symlink_to("b.jpg")
    Path("notes").write_text("dear diary")
    Path("n.s2c").symlink_to("notes")
    Path("n.png").symlink_to("notes")
    assert "l.s2c, a link to" in refused(("a.jpg", "l.s2c"), COMPRESS)
    assert "l.png, a link to" in refused(("s.s2c", "l.png"), DECOMPRESS)
    assert "n.s2c, a link to" in refused(("a.jpg", "n.s2c"), COMPRESS)
    assert "n.png, a link to" in refused(("s.s2c", "n.png"), DECOMPRESS)
    Path("old.JPEG").symlink_to("b.jpg")  # another name of the same format
    assert pairs("s.s2c", "old.JPEG", choice=DECOMPRESS) == [("s.s2c", "old.JPEG")]
    Path("again.s2c").symlink_to("stored.s2c")
    Path("stored.s2c").write_bytes(STREAM)
    assert pairs("a.jpg", "again.s2c") == [("a.jpg", "again.s2c")]


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
    assert (planned.jobs, planned.skipped) == ([], [])
    assert [str(problem).partition(" (")[0] for _, problem in planned.refused] == [
        "out/a.s2c is a link to nothing",
        "out/b.s2c is a folder",
    ]
    assert "contradict" in refused(("a.jpg",), Choice(writes="stream", suffix=".s2c", force=True, skip_existing=True))


@pytest.mark.parametrize(
    ("writes", "content", "said"),
    [
        ("stream", STREAM, None),
        ("stream", b"", "is empty (do it again with --force"),
        ("stream", b"half", "is no stream (do it again with --force"),
        ("picture", b"some picture", None),
        ("picture", b"", "is empty"),
        ("picture", STREAM, "is a stream, and no picture"),
    ],
)
def test_what_counts_as_done(here: Path, writes: Writes, content: bytes, said: str | None) -> None:
    source, target = ("a.jpg", "x.s2c") if writes == "stream" else ("s.s2c", "x.png")
    Path(target).write_bytes(content)
    planned = plan((source, target), Choice(writes=writes, suffix=target[1:], skip_existing=True))
    assert planned.jobs == []
    assert [str(problem) for _, problem in planned.refused if said is None or said not in str(problem)] == []
    assert (len(planned.skipped), len(planned.refused)) == ((1, 0) if said is None else (0, 1))


def test_what_is_not_done_fails_alone(run: Run, here: Path) -> None:
    Path("out").mkdir()
    for name, content in (("a.s2c", STREAM), ("b.s2c", b"")):
        Path("out", name).write_bytes(content)
    result = run("compress", "a.jpg", "b.jpg", "out", "--skip-existing", "--json")
    assert result.code == 3
    assert [record.get("skipped", record.get("error", ""))[:16] for record in json.loads(result.out)] == [
        "out/b.s2c is emp",
        "the target exist",
    ]
    assert "0 of 2 done, 1 skipped, which were there, 1 failed: b.jpg" in result.err
    assert "out/b.s2c is empty" in one_error(run("compress", "b.jpg", "out/b.s2c", "--skip-existing"))


NOTHING = [("compress", ""), ("compress", "a.jpg", ""), ("decompress", ""), ("inspect", "")]


@pytest.mark.parametrize("arguments", NOTHING)
def test_empty_arguments(run: Run, here: Path, arguments: tuple[str, ...]) -> None:
    assert "found an empty one" in one_error(run(*arguments))


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
    Path("old.png").write_bytes(Path("a.jpg").read_bytes())
    Path("long.csv").write_text("\u00e4" * 3000)
    Path("empty.txt").touch()
    for name, kind in (
        ("new.json", "json"),
        ("old.json", "json"),
        ("long.csv", "csv"),
        ("old.svg", "plot"),
        ("old.png", "plot"),
        ("empty.txt", "html"),
    ):
        check_reports([report(name, kind)], force=True, inputs=[Path("a.jpg")])
    for name, content in (("notes.txt", b"dear diary"), ("c.heic", b"\0ftypheic"), ("data.json", b"\0\1")):
        Path(name).write_bytes(content)
    for path, kind, message in (
        ("a.jpg", "plot", "a.jpg is a.jpg, which is an input"),
        ("link.json", "json", "link.json is a.jpg, which is an input"),
        ("b.jpg", "json", "b.jpg is a picture, and a report would replace it"),
        ("b.jpg", "plot", "b.jpg is a picture, and a report would replace it"),
        ("s.s2c", "json", "s.s2c is a stream, and a report would replace it"),
        ("s.s2c", "plot", "s.s2c is a stream, and a report would replace it"),
        ("notes.txt", "csv", "notes.txt is no csv, but text, which would be lost"),
        ("old.json", "html", "old.json is no html, but text"),
        ("c.heic", "json", "c.heic is no json, but other data"),
        ("data.json", "json", "data.json is no json, but other data"),
        ("/proc/r.json", "json", "cannot write /proc/r.json"),
    ):
        with pytest.raises(InputError, match=message):
            check_reports([report(path, kind)], force=True, inputs=[Path("a.jpg")])
    assert len(os.listdir(here)) == 12


def test_reports_do_not_replace_what_lies_in_a_folder_that_is_read(here: Path) -> None:
    Path("model/engines/rtx").mkdir(parents=True)
    for name in ("model/config.json", "model/engines/rtx/identity.json", "store.json"):
        Path(name).write_text("{}")
    os.link("model/config.json", "hard.json")
    Path("model/linked.json").symlink_to("../store.json")
    for name in ("model/config.json", "model/engines/rtx/identity.json", "hard.json", "store.json"):
        with pytest.raises(InputError, match="which is an input"):
            check_reports([report(name, "json")], force=True, inputs=[Path("model")])
    check_reports([report("new.json", "json")], force=True, inputs=[Path("model")])


def test_what_a_file_holds(here: Path) -> None:
    os.mkfifo("pipe.png")
    Path("report.json").write_text('{"schema": 1, "rows": []}')
    assert (content_of(Path("a.jpg")), content_of(Path("s.s2c"))) == ("picture", "stream")
    Path("cut.txt").write_bytes("\u00e4".encode() * 2047 + b"a\xc3" + b"\xa4")  # in the middle of a character
    Path("data.bin").write_bytes(b"a\xff")
    Path("nothing").touch()
    found = [content_of(Path(name)) for name in ("report.json", "cut.txt", "data.bin", "nothing")]
    assert found == ["text", "text", "data", "empty"]
    assert picture_size(Path("a.jpg")) == (9, 8)
    assert picture_size(Path("pipe.png")) is None
    check_replaceable(Path("none"), "stream")


def test_reports_do_not_replace_a_bundle_or_published_curves(run: Run, here: Path) -> None:
    Path("engines/one").mkdir(parents=True)
    Path("engines/one/manifest.json").write_text("{}")
    Path("engines/one/engines/deep").mkdir(parents=True)
    Path("engines/one/engines/deep/x.csv").write_text("mine")
    Path("curves.json").write_text("{}")
    for arguments in (
        ("eval", ".", "--json", "engines/one/manifest.json", "--force"),
        ("eval", ".", "--csv", "engines/one/engines/deep/x.csv", "--force"),
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
        (("decompress", "s.s2c", "--precision", "float8"), "float8"),
        (("inspect", "x" * 300), "File name too long"),
        (("eval", "x" * 300), "File name too long"),
        (("eval", "none", "--json", "/proc/r.json"), "/proc/r.json"),
        (("eval", ".", "--plot", "a.jpg", "--force"), "a.jpg is a picture"),
        (("eval", ".", "--csv", "s.s2c", "--force"), "is a stream"),
        (("bench", "--images", ".", "--json", "/proc/r.json"), "/proc/r.json"),
        (("bench", "--images", ".", "--html", "b.jpg", "--force"), "b.jpg is a picture"),
        (("verify", "x" * 300, "--images", "."), "File name too long"),
        (("compress", "a.jpg", "--bundle", "x" * 300), "bundle: cannot read"),
        (("build", "x" * 300), "bundle: cannot read"),
        (("triton", "/proc/nope", "--bundle", "nowhere"), "/proc/nope"),
        (("export", "--out", "/proc/nope"), "/proc/nope"),
        (("export", "--out", ".", "--force"), "is the current folder"),
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
