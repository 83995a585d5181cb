"""What a batch has to do: sources and their results, less what its table says is done; refused before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from s2c_deploy.batch.places import Entry, Place, check_apart
from s2c_deploy.batch.request import Request, Task
from s2c_deploy.batch.table import NAME, Row, Table, difference, pending, read_table, shown
from s2c_deploy.errors import InputError
from s2c_deploy.image import READ_SUFFIXES
from s2c_deploy.listing import STREAM_SUFFIXES, Listing, check_found


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What there is to do."""

    tasks: list[Task]
    #: With a row for every task, and for what was done before.
    table: Table
    #: Files that were done before.
    skipped: int
    listing: Listing


def make_plan(request: Request, source: Place, target: Place, settings: dict[str, object]) -> Plan:
    """Lists the sources and holds them against the table and what lies in the target.

    Raises InputError where the places lie in each other, two sources would become one result, a table is damaged or
    of other settings, and where something is in the way that the table does not know; with ``force`` the last three
    are done anew.
    """
    check_apart(source, target)
    pictures = request.operation == "compress"
    suffixes = READ_SUFFIXES if pictures else STREAM_SUFFIXES
    entries, listing = source.entries(suffixes, follow_links=request.follow_links)
    check_found(listing, "pictures" if pictures else ".s2c streams", suffixes)
    tasks = [_task(entry, request.suffix) for entry in entries]
    _check_distinct(tasks)
    _check_no_source(source, target, tasks)
    before = None if request.force else read_table(target)
    if before is None:
        before = Table(settings=settings)
    elif told := difference(before.settings, settings):
        raise InputError(
            f"{target.shown}/{NAME} is of another batch: {told}",
            hint="name another target, or do everything again with --force",
        )
    there = {} if request.force else target.sizes(task.target for task in tasks)
    _check_free(target, tasks, before.rows, there)
    todo = [task for task in tasks if not _is_done(task, before.rows.get(shown(task.source)), there)]
    for task in todo:
        before.add(pending(task))
    return Plan(tasks=todo, table=before, skipped=len(tasks) - len(todo), listing=listing)


def target_name(source: str, suffix: str) -> str:
    """What a source's result is called."""
    return PurePosixPath(source).with_suffix(suffix).as_posix()


def _task(entry: Entry, suffix: str) -> Task:
    target = target_name(entry.name, suffix)
    return Task(source=entry.name, target=target, size=entry.size, modified=entry.modified)


def _check_distinct(tasks: list[Task]) -> None:
    """InputError where two sources would be one result, or one row."""
    taken: dict[tuple[str, str], Task] = {}
    for task in tasks:
        for kind, name in (("target", task.target), ("row", task.source)):
            other = taken.setdefault((kind, shown(name)), task)
            if other is not task:
                raise InputError(
                    f"{other.source} and {task.source} would both become {task.target}", hint="rename one of them"
                )


def _check_no_source(source: Place, target: Place, tasks: list[Task]) -> None:
    """InputError where a result would replace a source, which links or a second mount can bring about."""
    read = {identity: name for name, identity in source.identities(task.source for task in tasks).items()}
    for name, identity in target.identities(task.target for task in tasks).items():
        if identity in read:
            raise InputError(
                f"{target.shown}/{name} is {source.shown}/{read[identity]}, a source, and would be replaced",
                hint="name another target",
            )


def _check_free(target: Place, tasks: list[Task], rows: Mapping[str, Row], there: Mapping[str, int]) -> None:
    """InputError for what lies in a result's place and is not what the table says."""
    strange = []
    for task in tasks:
        size, row = there.get(task.target), rows.get(shown(task.source))
        # Of a row that says nothing yet, a killed run may have left the result; one that failed has none.
        ours = row is not None and row.error is None and row.bytes in (None, size)
        if size is not None and not ours:
            strange.append(task.target)
    if strange:
        more = f", and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise InputError(
            f"{target.shown}/{strange[0]} exists{more}, and is not what {NAME} there says",
            hint="delete or rename it, name another target, or overwrite with --force",
        )


def _is_done(task: Task, row: Row | None, there: Mapping[str, int]) -> bool:
    """Whether a row is of this very source, and its result still there."""
    if row is None or not row.done or task.target not in there:
        return False
    return (row.source_bytes, row.modified) == (task.size, task.modified)
