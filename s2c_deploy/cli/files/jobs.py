"""Which files become which, from a command's arguments; refused before any work where one would destroy another."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from s2c_deploy.cli.files.targets import Writes, check_replaceable, content_of, identities, identity
from s2c_deploy.cli.output import check_binary_stdout, warn
from s2c_deploy.errors import InputError
from s2c_deploy.files import check_folder_writable, check_writable, make_folder, status_of

if TYPE_CHECKING:
    from s2c_deploy.listing import Listing

STANDARD = "-"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a command does with files."""

    #: compress writes streams, decompress pictures.
    writes: Writes
    #: Of targets that have no name yet.
    suffix: str
    force: bool = False
    skip_existing: bool = False
    recursive: bool = False
    follow_links: bool = False


@dataclass(frozen=True, kw_only=True)
class Job:
    """A source and its target; None: standard input, standard output."""

    source: Path | None
    target: Path | None
    #: The folder that the target lies in, and that no link may lead out of; None where the target was named, whose
    #: links are followed.
    root: Path | None = None
    replace: bool = False

    @property
    def source_name(self) -> str:
        return STANDARD if self.source is None else str(self.source)

    @property
    def target_name(self) -> str:
        return STANDARD if self.target is None else str(self.target)

    @property
    def follow_links(self) -> bool:
        return self.root is None

    def is_there(self) -> bool:
        """Whether the target is taken; a link to nothing takes its place where it is not followed."""
        if self.target is None:
            return False
        return os.path.exists(self.target) if self.follow_links else os.path.lexists(self.target)

    def make_parent(self) -> None:
        """The folder of a target below ``root``.  InputError where a link leads out of it."""
        if self.root is None or self.target is None:
            return
        from s2c_deploy.listing import is_inside

        parent = self.target.parent
        if not is_inside(os.path.realpath(parent), os.path.realpath(self.root)):
            raise InputError(f"{parent} is a link out of {self.root}", hint="delete it, or name another folder")
        make_folder(parent)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What there is to do, and what was left out."""

    jobs: list[Job]
    #: The jobs are a folder's or of several sources, so one that fails does not stop the others, and JSON is a list.
    several: bool
    #: Those whose target is there already.
    skipped: list[Job] = field(default_factory=list)
    #: Those in whose target's place something else is.
    refused: list[tuple[Job, InputError]] = field(default_factory=list)
    listings: list[Listing] = field(default_factory=list)


def plan(arguments: Sequence[str], choice: Choice) -> Plan:
    """Pairs of source and target from ``SOURCE... [TARGET]``.

    Raises InputError where a source is missing, a target is a source, is a picture that a stream would replace, exists
    (unless force or skip_existing), would be that of two sources, or cannot be written.
    """
    if choice.force and choice.skip_existing:
        raise InputError("--force and --skip-existing contradict each other", hint="leave one out")
    if "" in arguments:
        raise InputError("expected names of files or folders, found an empty one", hint="a variable may be unset")
    sources, target = _split(arguments)
    if STANDARD in (*sources, target):
        return _standard(sources, target, choice)
    folders = {source for source in sources if _is_folder(source)}
    several = bool(folders) or len(sources) > 1
    into = target is not None and (several or is_folder_name(target))
    if target is not None and into and os.path.lexists(target) and not os.path.isdir(target):
        raise InputError(f"{target} is a file", hint="name a folder for the results of several files")
    listings: list[Listing] = []
    jobs: list[Job] = []
    for source in sources:
        if source in folders:
            listing = _listed(source, choice)
            listings.append(listing)
            root = Path(source if target is None else target)
            jobs += _folder_jobs(listing, root, choice)
        else:
            jobs.append(_file_job(Path(source), None if target is None else Path(target), into, choice))
    _check_distinct(jobs)
    jobs, skipped, refused = _check_free(jobs, choice)
    _check_places(jobs)
    _tell_left_out(listings)
    return Plan(jobs=jobs, several=several, skipped=skipped, refused=refused, listings=listings)


def _tell_left_out(listings: Sequence[Listing]) -> None:
    from s2c_deploy.listing import describe_left_out

    if said := describe_left_out(listings):
        warn(said)


def is_folder_name(text: str) -> bool:
    """Whether an argument means a folder: one that is there, or a name that ends in a slash."""
    return text.endswith(tuple(filter(None, (os.sep, os.altsep)))) or os.path.isdir(text)


def _split(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    if len(arguments) < 3:
        return [arguments[0]], (arguments[1] if len(arguments) == 2 else None)
    *sources, target = arguments
    if not is_folder_name(target):
        raise InputError(
            f"{target} is no folder, and several sources need one",
            hint="the last argument is the folder for the results; a slash at its end has it made",
        )
    return sources, target


def _standard(sources: Sequence[str], target: str | None, choice: Choice) -> Plan:
    """One file, from standard input or to standard output."""
    if len(sources) > 1:
        raise InputError("- among several sources", hint="standard input is one file: code it alone")
    source = None if sources[0] == STANDARD else Path(sources[0])
    if source is not None and _is_folder(sources[0]):
        raise InputError(f"{source} is a folder, and standard output takes one file", hint="name a folder")
    if target is None or target == STANDARD:
        check_binary_stdout()
        return Plan(jobs=[Job(source=source, target=None)], several=False)
    if is_folder_name(target):
        raise InputError(f"{target} is a folder, and standard input has no name", hint="name a file to write")
    jobs, skipped, refused = _check_free([Job(source=source, target=Path(target), replace=choice.force)], choice)
    _check_places(jobs)
    return Plan(jobs=jobs, several=False, skipped=skipped, refused=refused)


def _is_folder(source: str) -> bool:
    """InputError where there is nothing."""
    status = status_of(source)
    if status is None:
        dangling = os.path.islink(source)
        raise InputError(f"no file or folder {source}" + (": a link to nothing" if dangling else ""))
    return stat.S_ISDIR(status.st_mode)


def _listed(folder: str, choice: Choice) -> Listing:
    from s2c_deploy.image import READ_SUFFIXES
    from s2c_deploy.listing import STREAM_SUFFIXES, check_found, list_folder

    pictures = choice.writes == "stream"
    suffixes = READ_SUFFIXES if pictures else STREAM_SUFFIXES
    listing = list_folder(folder, suffixes, recursive=choice.recursive, follow_links=choice.follow_links)
    check_found(listing, "pictures" if pictures else ".s2c streams", suffixes)
    return listing


def _folder_jobs(listing: Listing, root: Path, choice: Choice) -> Iterator[Job]:
    for path in listing.files:
        out = root / path.relative_to(listing.folder).with_suffix(choice.suffix)
        yield Job(source=path, target=out, root=root, replace=choice.force)


def _file_job(source: Path, target: Path | None, into: bool, choice: Choice) -> Job:
    if target is not None and not into:
        return Job(source=source, target=target, replace=choice.force)
    root = source.parent if target is None else target
    out = root / Path(source.name).with_suffix(choice.suffix)
    return Job(source=source, target=out, root=root, replace=choice.force)


def _check_distinct(jobs: Sequence[Job]) -> None:
    """InputError where two sources would become one file, or a target is a source; in linear time."""
    read = identities([job.source for job in jobs if job.source is not None])
    parents: dict[Path, str] = {}
    taken: dict[tuple[str, str], Job] = {}
    for job in jobs:
        assert job.target is not None
        out = job.target
        if out.parent not in parents:
            parents[out.parent] = os.path.realpath(out.parent)
        other = taken.setdefault((parents[out.parent], out.name), job)
        if other is not job:
            raise InputError(
                f"{other.source_name} and {job.source_name} would both become {out}",
                hint="rename one, or code it alone to a name of its own",
            )
        same = read.get(identity(out)) if os.path.lexists(out) else None
        if same is not None:
            mine = same == job.source
            raise InputError(
                f"{out} is {'the source itself' if mine else f'{same}, a source'}, and would be replaced",
                hint="name another target; several pictures need a folder, as in: a.jpg b.jpg out/",
            )


_Refused = list[tuple[Job, InputError]]


def _check_free(jobs: Sequence[Job], choice: Choice) -> tuple[list[Job], list[Job], _Refused]:
    """Jobs to do, those whose target is there and that are skipped, and those that are refused; InputError for targets
    in the way of a run that skips none."""
    there = [job for job in jobs if job.is_there()]
    if choice.skip_existing:
        taken = set(map(id, there))
        problems = [(job, _unlike(job, choice.writes)) for job in there]
        skipped = [job for job, problem in problems if problem is None]
        refused = [(job, problem) for job, problem in problems if problem is not None]
        return [job for job in jobs if id(job) not in taken], skipped, refused
    for job in there if choice.force else there[:1]:
        assert job.target is not None
        if os.path.isdir(job.target) and not (job.root is not None and os.path.islink(job.target)):
            raise InputError(f"{job.target} is a folder", hint="delete or rename it, or name another target")
        check_replaceable(job.target, choice.writes, follow_links=job.follow_links)
    if there and not choice.force:
        more = f", and {len(there) - 1} more" if len(there) > 1 else ""
        raise InputError(
            f"{there[0].target} exists{more}",
            hint="overwrite with --force, do only what is missing with --skip-existing, or name another target",
        )
    return list(jobs), [], []


def _unlike(job: Job, writes: Writes) -> InputError | None:
    """Why what is there cannot be what the job would write, if it cannot: nobody may take it for done."""
    target = job.target
    assert target is not None
    if os.path.isdir(target):
        return InputError(f"{target} is a folder", hint="delete or rename it, or name another target")
    again = "do it again with --force"
    if not os.path.exists(target):
        return InputError(f"{target} is a link to nothing", hint=again)
    if not os.path.isfile(target):
        return InputError(f"{target} is not a regular file", hint="delete or rename it, or name another target")
    found = content_of(target)
    if found == "empty":
        return InputError(f"{target} is empty", hint=again)
    if (writes == "stream") != (found == "stream"):
        what = "a stream, and no picture" if found == "stream" else "no stream"
        return InputError(f"{target} is {what}", hint=f"{again}, or name another target")
    return None


def _check_places(jobs: Sequence[Job]) -> None:
    """Makes the folders that results go to, and tries whether files can be written there."""
    for root in dict.fromkeys(job.root for job in jobs):
        if root is not None:
            check_folder_writable(root)
            make_folder(root)
    for job in jobs:
        if job.root is None and job.target is not None:
            check_writable(job.target)
