"""What a batch does and refuses to do, before any picture is coded."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from s2c_deploy.batch import table
from s2c_deploy.batch.places import check_apart, open_place
from s2c_deploy.batch.plan import Plan, make_plan
from s2c_deploy.batch.request import Request, Task
from s2c_deploy.batch.run import Prepared, Result, carry_out
from s2c_deploy.batch.table import NAME, Row, Table, pending, read_table, write_table
from s2c_deploy.errors import InputError

SETTINGS: dict[str, object] = {"operation": "compress", "quality": 4.0, "bundle": "aa"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in" / "below").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    for name in ("a.png", "below/b.jpg"):
        (tmp_path / "in" / name).write_bytes(b"picture")
    return tmp_path


def asked(folder: Path, **options: Any) -> Request:
    plain: dict[str, Any] = {"operation": "compress", "source": str(folder / "in"), "target": str(folder / "out")}
    return Request(**(plain | options))


def planned(folder: Path, *, force: bool = False, **settings: object) -> Plan:
    request = asked(folder, force=force)
    return make_plan(request, open_place(request.source), open_place(request.target), SETTINGS | settings)


def finish(folder: Path, plan: Plan, *names: str) -> None:
    """Some of a plan's files done: results of three bytes, and the table."""
    for task in plan.tasks:
        if task.source in names:
            result = folder / "out" / task.target
            result.parent.mkdir(exist_ok=True)
            result.write_bytes(b"s2c")
            plan.table.add(replace(pending(task), bytes=3, width=1, height=1, bpp=24.0, seconds=0.1, worker="w"))
    write_table(open_place(str(folder / "out")), plan.table)


def sources(plan: Plan) -> list[str]:
    return [task.source for task in plan.tasks]


def test_results_are_named_by_the_path_below_the_source(folder: Path) -> None:
    plan = planned(folder)
    assert [(task.source, task.target) for task in plan.tasks] == [("a.png", "a.s2c"), ("below/b.jpg", "below/b.s2c")]
    assert plan.table.rows.keys() == {"a.png", "below/b.jpg"}
    assert not any(row.done or row.error for row in plan.table.rows.values())


def test_a_run_asked_for_again_does_what_is_missing(folder: Path) -> None:
    finish(folder, planned(folder), "a.png")
    assert sources(planned(folder)) == ["below/b.jpg"]
    finish(folder, planned(folder), "below/b.jpg")
    again = planned(folder)
    assert (sources(again), again.skipped) == ([], 2)
    (folder / "out" / "a.s2c").unlink()
    assert sources(planned(folder)) == ["a.png"]


def test_a_changed_source_is_done_again(folder: Path) -> None:
    finish(folder, planned(folder), "a.png", "below/b.jpg")
    (folder / "in" / "a.png").write_bytes(b"picture, longer")
    os.utime(folder / "in" / "below" / "b.jpg", ns=(1, 1))
    assert sources(planned(folder)) == ["a.png", "below/b.jpg"]


def test_what_failed_is_tried_again(folder: Path) -> None:
    plan = planned(folder)
    plan.table.add(replace(pending(plan.tasks[0]), error="broken", exit_code=3))
    finish(folder, plan, "below/b.jpg")
    assert sources(planned(folder)) == ["a.png"]


def test_rows_of_sources_that_are_gone_stay(folder: Path) -> None:
    finish(folder, planned(folder), "a.png", "below/b.jpg")
    (folder / "in" / "a.png").unlink()
    assert "a.png" in planned(folder).table.rows


def test_what_a_killed_run_left_is_done_again(folder: Path) -> None:
    """Its result is there and its row says nothing yet: the table was not written any more."""
    plan = planned(folder)
    write_table(open_place(str(folder / "out")), plan.table)
    (folder / "out" / "a.s2c").write_bytes(b"s2c")
    assert sources(planned(folder)) == ["a.png", "below/b.jpg"]


def test_nobody_elses_file_is_replaced(folder: Path) -> None:
    (folder / "out" / "a.s2c").write_bytes(b"somebody else's")
    with pytest.raises(InputError, match=r"a\.s2c exists, and is not what batch\.parquet there says"):
        planned(folder)
    assert sources(planned(folder, force=True)) == ["a.png", "below/b.jpg"]


def test_what_lies_where_a_failed_one_would_go_is_not_replaced(folder: Path) -> None:
    plan = planned(folder)
    plan.table.add(replace(plan.table.rows["a.png"], error="broken", exit_code=3))
    write_table(open_place(str(folder / "out")), plan.table)
    (folder / "out" / "a.s2c").write_bytes(b"somebody else's")
    with pytest.raises(InputError, match=r"a\.s2c exists"):
        planned(folder)


@pytest.mark.parametrize("force", [False, True])
def test_a_result_that_is_a_source_is_refused(folder: Path, force: bool) -> None:
    """Two folders apart, and yet one file."""
    (folder / "in").rename(folder / "there")
    (folder / "in").mkdir()
    (folder / "out" / "a.s2c").write_bytes(b"a stream")
    (folder / "in" / "a.s2c").symlink_to(folder / "out" / "a.s2c")
    with pytest.raises(InputError, match=r"out/a\.s2c is .*in/a\.s2c, a source, and would be replaced"):
        make_plan(
            asked(folder, operation="transcode", follow_links=True, force=force),
            open_place(str(folder / "in")),
            open_place(str(folder / "out")),
            SETTINGS,
        )


def test_a_named_pipe_is_no_table(folder: Path) -> None:
    os.mkfifo(folder / "out" / NAME)
    with pytest.raises(InputError, match="not a regular file"):
        planned(folder)
    assert sources(planned(folder, force=True)) == ["a.png", "below/b.jpg"]


def test_a_table_of_many_rows_is_refused_before_it_is_unpacked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(folder, planned(folder), "a.png", "below/b.jpg")
    monkeypatch.setattr(table, "_MOST_ROWS", 1)
    monkeypatch.setattr(table, "from_arrow", lambda arrow: pytest.fail("unpacked"))
    with pytest.raises(InputError, match="expected at most 1 rows"):
        planned(folder)


@pytest.mark.parametrize("column", ["path", "output"])
def test_a_row_of_no_file_is_refused(folder: Path, column: str) -> None:
    finish(folder, planned(folder), "a.png")
    whole = parquet.read_table(folder / "out" / NAME)
    nulls = pa.nulls(whole.num_rows, pa.string())
    lying = whole.set_column(whole.column_names.index(column), column, nulls)
    parquet.write_table(lying, folder / "out" / NAME)
    with pytest.raises(InputError, match=r"of one file|damaged"):
        planned(folder)


def test_settings_that_nest_without_end_are_damage(folder: Path) -> None:
    finish(folder, planned(folder), "a.png")
    whole = parquet.read_table(folder / "out" / NAME)
    deep = b'{"version": 1, "settings": ' + 10**5 * b"[" + b"}"
    parquet.write_table(whole.replace_schema_metadata({b"s2c-deploy": deep}), folder / "out" / NAME)
    with pytest.raises(InputError, match="damaged"):
        planned(folder)


def test_a_table_that_another_run_has_written_meanwhile(folder: Path) -> None:
    """Both were planned while there was none."""
    first, second = (
        Prepared(request=asked(folder), fingerprint=None, target=open_place(str(folder / "out")), plan=planned(folder))
        for _ in range(2)
    )

    def nothing(tasks: list[Task], stopping: object) -> Generator[Row, None, None]:
        yield from ()

    for prepared in (first, second):
        told = (
            pytest.raises(InputError, match="another batch has written into") if prepared is second else nullcontext()
        )
        with told:
            carry_out(prepared, nothing, Result(), lambda row: None, lambda: False)


def test_a_result_that_is_another_than_was_written_is_nobodys_to_replace(folder: Path) -> None:
    finish(folder, planned(folder), "a.png", "below/b.jpg")
    (folder / "out" / "a.s2c").write_bytes(b"edited by hand")
    with pytest.raises(InputError, match=r"a\.s2c exists"):
        planned(folder)


@pytest.mark.parametrize("second", ["a.jpg", "a.PNG", "a.webp"])
def test_two_sources_of_one_result_are_refused(folder: Path, second: str) -> None:
    (folder / "in" / second).write_bytes(b"picture")
    with pytest.raises(InputError, match=r"would both become a\.s2c"):
        planned(folder)


def test_two_sources_of_one_row_are_refused(folder: Path) -> None:
    """A byte that is no UTF-8 is written as a name with a backslash may be."""
    (folder / "in" / os.fsdecode(b"\xe9.png")).write_bytes(b"picture")
    (folder / "in" / "\\xe9.png").write_bytes(b"picture")
    with pytest.raises(InputError, match="would both become"):
        planned(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"quality": 6.0}, "quality: 4.0 before, 6.0 now"),
        ({"bundle": "bb"}, "bundle: aa before, bb now"),
        ({"operation": "transcode"}, "operation: compress before, transcode now"),
        ({"new in a later version": 1}, "new in a later version: None before, 1 now"),
    ],
)
def test_other_settings_are_refused(folder: Path, change: dict[str, object], told: str) -> None:
    finish(folder, planned(folder), "a.png")
    with pytest.raises(InputError, match=told):
        planned(folder, **change)
    anew = planned(folder, force=True, **change)
    assert sources(anew) == ["a.png", "below/b.jpg"]
    assert anew.table.settings == SETTINGS | change


def damages() -> dict[str, bytes]:
    whole = pa.BufferOutputStream()
    parquet.write_table(pa.table({"x": [1]}), whole)
    other = whole.getvalue().to_pybytes()
    return {"empty": b"", "text": b"path,bytes\n", "cut short": other[:-9], "another table": other}


@pytest.mark.parametrize("damage", damages())
def test_a_damaged_table_is_refused(folder: Path, damage: str) -> None:
    (folder / "out" / NAME).write_bytes(damages()[damage])
    with pytest.raises(InputError, match="is no table of a batch, or damaged"):
        planned(folder)
    assert sources(planned(folder, force=True)) == ["a.png", "below/b.jpg"]


def test_every_cut_of_a_table_is_refused(folder: Path) -> None:
    finish(folder, planned(folder), "a.png")
    data = (folder / "out" / NAME).read_bytes()
    for size in range(0, len(data), 97):
        (folder / "out" / NAME).write_bytes(data[:size])
        with pytest.raises(InputError):
            planned(folder)


def test_a_table_of_a_later_version_is_refused(folder: Path) -> None:
    finish(folder, planned(folder), "a.png")
    table = parquet.read_table(folder / "out" / NAME)
    later = {b"s2c-deploy": table.schema.metadata[b"s2c-deploy"].replace(b'"version": 1', b'"version": 2')}
    parquet.write_table(table.replace_schema_metadata(later), folder / "out" / NAME)
    with pytest.raises(InputError, match="expected version 1, found 2"):
        planned(folder)


def test_two_rows_of_a_file_are_refused(folder: Path) -> None:
    finish(folder, planned(folder), "a.png")
    table = parquet.read_table(folder / "out" / NAME)
    twice = pa.concat_tables([table, table]).replace_schema_metadata(table.schema.metadata)
    parquet.write_table(twice, folder / "out" / NAME)
    with pytest.raises(InputError, match="two rows of one file"):
        planned(folder)


def test_the_table_keeps_rows_as_they_are(tmp_path: Path) -> None:
    common = {"output": "a.s2c", "source_bytes": 2**40, "modified": 1_795_983_858_224_387_554}
    done = Row(path="ä\n.png", bytes=9, width=3, height=1, bpp=24.0, seconds=0.5, worker="host:1", **common)
    failed = Row(path="-b.png", error="broken", exit_code=3, **(common | {"output": "-b.s2c"}))
    place = open_place(str(tmp_path))
    write_table(place, Table(settings=SETTINGS, rows={row.path: row for row in (done, failed)}))
    found = read_table(place)
    assert found is not None
    assert (found.settings, list(found.rows.values())) == (SETTINGS, [failed, done])
    columns = parquet.read_table(tmp_path / NAME).schema
    assert [columns.field(name).type for name in ("path", "bytes", "bpp")] == [pa.string(), pa.int64(), pa.float64()]


THREADS = """
import os, sys
from s2c_deploy.batch.places import open_place
from s2c_deploy.batch.table import Table, read_table, write_table
import pyarrow.parquet
count = lambda: len(os.listdir("/proc/self/task"))
before = count()
place = open_place(sys.argv[1])
write_table(place, Table(settings={}))
read_table(place)
print(count() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc here")
def test_no_thread_is_left_behind(tmp_path: Path) -> None:
    """A process that ends while one of pyarrow's threads is about to end, too, is aborted."""
    command = [sys.executable, "-c", THREADS, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout == "0\n"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        *(("in", "in"), ("in", "in/out"), ("in/below", "in"), ("in", "out/../in/x"), ("s3://b/in", "s3://b/in/out/")),
        *(("s3://b/in", "s3://b//in//out"), ("s3://key:hidden@b/in", "s3://other:hidden@b/in")),
    ],
)
def test_places_that_lie_in_each_other_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, source: str, target: str
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with pytest.raises(InputError, match="lie in each other"):
        check_apart(open_place(source), open_place(target))


def test_places_beside_each_other_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    check_apart(open_place("/photos"), open_place("/photos2"))
    check_apart(open_place("s3://b/in"), open_place("s3://b/in2"))
    check_apart(open_place("s3://b/in"), open_place("/b/in"))
    check_apart(open_place("s3://b/in"), open_place("s3://b/in/x?endpoint_override=other.example&scheme=https"))


def test_a_password_in_an_address_is_shown_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    place = open_place("s3://key:secret@bucket/photos/?endpoint_override=127.0.0.1:1&scheme=http")
    assert place.shown == "s3://bucket/photos"
    for wrong in (
        *("s3://key:secret@bucket/a b", "nosuch://key:secret@bucket/a", "s3://key:secret@"),
        *("s3://key:half/secret@bucket/a", "s3://bucket/a b?access_key=key&secret_key=secret"),
    ):
        with pytest.raises(InputError) as error:
            open_place(wrong)
        assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "address",
    [
        *("nosuch://bucket/a", "s3://", "file://elsewhere/a", "", "a\0b", "local:///a", "mock:///a"),
        *("file:///a#1", "file:///a?x", "s3://[::1/x", "s3://bucket/a#1", "s3://bucket/a\nb"),
    ],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(InputError):
        open_place(address)


def test_a_folder_of_this_machine_by_its_address(folder: Path) -> None:
    assert open_place(f"file://{folder}/in").shown == str(folder / "in")
    assert open_place(f"FILE://localhost{folder}/a%20b%23").shown == str(folder / "a b#")


def test_no_link_leads_results_out_of_the_target(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "out" / "below").symlink_to(folder / "elsewhere")
    with pytest.raises(InputError, match="is a link out of"):
        open_place(str(folder / "out")).write("below/b.s2c", b"s2c")
    assert not list((folder / "elsewhere").iterdir())
