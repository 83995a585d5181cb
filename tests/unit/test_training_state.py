"""A run's folder that is damaged, of another version, or cannot be written: one error that says what to delete."""

from __future__ import annotations

import io
import os
import random
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training import CONFIG, SETTINGS, nine_pictures

from s2c_deploy.errors import InputError, OutOfMemoryError
from s2c_deploy.quantize.calibrate import range_names
from s2c_deploy.train import check_run, train
from s2c_deploy.train.data import Crops, Pictures
from s2c_deploy.train.parallel import Processes, processes
from s2c_deploy.train.run import Run
from s2c_deploy.train.state import STATE, write_state

SHORT = replace(SETTINGS, steps=3, exact_from=0.3, last_crop=64, batch=1)
State = dict[str, Any]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    return nine_pictures(tmp_path_factory.mktemp("pictures"))


def new_run(pictures: Pictures, optimizer: str = "soap") -> Run:
    settings = replace(SHORT, optimizer=optimizer)
    return Run(CONFIG, settings, Crops(pictures, levels=CONFIG.levels, seed=0), Processes())


@pytest.fixture(scope="module")
def whole(pictures: Pictures, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """state.pt of runs after their first step, by optimiser."""
    files = {}
    for optimizer in ("soap", "adam"):
        out = tmp_path_factory.mktemp(optimizer)
        run = new_run(pictures, optimizer)
        run.one_step()
        run.validation = [{"step": 1, "quality": 1, "bpp": 0.5, "psnr": 30.0}]
        run.save(out)
        new_run(pictures, optimizer).resume(out)
        files[optimizer] = (out / STATE).read_bytes()
    return files


def first_name(state: State) -> str:
    return min(state["model"])


def put(*path: Any, value: object) -> Callable[[State], None]:
    """Replaces what lies at a path of keys; a key may be made from the state."""

    def change(state: State) -> None:
        place: Any = state
        for key in path[:-1]:
            place = place[key(state) if callable(key) else key]
        place[path[-1](state) if callable(path[-1]) else path[-1]] = value

    return change


CHANGES: dict[str, Callable[[State], object]] = {
    "nothing": lambda state: state.clear(),
    "another version": put("version", value=2),
    "no averages": lambda state: state.pop("averages"),
    "weights in a list": put("model", value=[]),
    "a step in words": put("step", value="three"),
    "a step that is true": put("step", value=True),
    "a step below": put("step", value=-1),
    "a step beyond": put("step", value=4),
    "one weight less": lambda state: state["model"].pop(first_name(state)),
    "a weight of another shape": put("model", first_name, value=torch.zeros(3)),
    "a weight that is none": put("model", first_name, value=3.0),
    "a complex average": lambda state: put("averages", first_name, value=state["model"][first_name(state)] * 1j)(state),
    "160 GB of average": put("averages", first_name, value=torch.zeros(1).expand(200_000, 200_000)),
    "ranges by number": put("ranges", value={1: torch.zeros(1)}),
    "ranges of other channels": put("ranges", value={name: torch.ones(2) for name in range_names(5)}),
    "ranges of two dimensions": put("ranges", value={name: torch.ones(2, 2) for name in range_names(5)}),
    "ranges in words": put("ranges", value=dict.fromkeys(range_names(5), "wide")),
    "no optimiser": put("optimizer", value={}),
    "rows in words": put("log", value=["row"]),
    "rows of other names": put("validation", value=[{"step": 1}]),
    "sums in words": put("log_sums", value=[["a", "b", "c"]]),
    "two sums": put("log_sums", value=[[1.0, 2.0]]),
}
SOAP: dict[str, Callable[[State], object]] = {
    "fewer moments": lambda state: state["optimizer"]["states"].pop(),
    "no moment": lambda state: state["optimizer"]["states"][0].pop("first"),
    "a moment of another shape": put("optimizer", "states", 0, "second", value=torch.zeros(1)),
    "fewer bases": put("optimizer", "states", 0, "bases", value=[]),
    "a basis in words": put("optimizer", "states", 0, "bases", 0, value="x"),
    "a fraction of a step": put("optimizer", "states", 0, "step", value=0.5),
    "groups in words": put("optimizer", "groups", value="all"),
    "states by name": put("optimizer", "states", value={"a": {}}),
}
ADAM: dict[str, Callable[[State], object]] = {
    "other settings": put("optimizer", "param_groups", 0, "betas", value=(0.5, "x")),
    "a moment of another shape": put("optimizer", "state", 0, "exp_avg", value=torch.zeros(1)),
    "no moment": lambda state: state["optimizer"]["state"][0].pop("exp_avg_sq"),
    "a moment too many": put("optimizer", "state", 9999, value={"step": torch.zeros(())}),
    "no groups": lambda state: state["optimizer"].pop("param_groups"),
}


@pytest.mark.parametrize(
    ("optimizer", "change"),
    [("soap", change) for change in (CHANGES | SOAP).values()] + [("adam", change) for change in ADAM.values()],
    ids=[*CHANGES, *(f"soap: {name}" for name in SOAP), *(f"adam: {name}" for name in ADAM)],
)
def test_a_state_of_other_contents_is_refused(
    pictures: Pictures, tmp_path: Path, whole: dict[str, bytes], optimizer: str, change: Callable[[State], object]
) -> None:
    state = torch.load(io.BytesIO(whole[optimizer]), weights_only=True)
    change(state)
    torch.save(state, tmp_path / STATE)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=r"state\.pt: expected .*, found .*\(delete .*state\.pt to begin this run"):
        new_run(pictures, optimizer).resume(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB


def test_the_first_version_did_not_name_itself(pictures: Pictures, tmp_path: Path, whole: dict[str, bytes]) -> None:
    state = torch.load(io.BytesIO(whole["soap"]), weights_only=True)
    assert state.pop("version") == 1
    torch.save(state, tmp_path / STATE)
    run = new_run(pictures)
    run.resume(tmp_path)
    assert run.step == 1


def test_damage_anywhere_is_noticed(pictures: Pictures, tmp_path: Path, whole: dict[str, bytes]) -> None:
    """Bits flipped, cuts and noise: refused, or of no consequence, as in a date of the archive."""
    rng, refused = random.Random(5), 0
    messages: set[str | None] = set()
    run = new_run(pictures)
    run.one_step()
    expected = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    for number in range(300):
        data = bytearray(whole["soap"])
        for _ in range(1 + number % 2):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        if number % 10 == 0:
            del data[rng.randrange(len(data)) :]
        (tmp_path / STATE).write_bytes(data)
        try:
            run.resume(tmp_path)
        except InputError as error:
            refused += 1
            messages.add(error.hint)
        else:
            assert all(torch.equal(tensor, expected[name]) for name, tensor in run.model.state_dict().items())
    assert refused > 200
    assert messages == {f"delete {tmp_path / STATE} to begin this run anew, or give another --out"}


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 no archive"])
def test_files_that_are_no_state(pictures: Pictures, tmp_path: Path, content: bytes) -> None:
    (tmp_path / STATE).write_bytes(content)
    with pytest.raises(InputError, match=r"expected a whole training state, found a damaged one.*delete .*state\.pt"):
        train(CONFIG, SHORT, pictures, tmp_path)
    with pytest.raises(InputError, match=r"delete .*state\.pt"):
        check_run(tmp_path, CONFIG, SHORT)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_a_state_that_is_no_regular_file(pictures: Pictures, tmp_path: Path, make: Callable[[Path], Any]) -> None:
    make(tmp_path / STATE)
    with pytest.raises(InputError, match=r"state\.pt: expected a regular file"):
        train(CONFIG, SHORT, pictures, tmp_path)


def test_folders_that_cannot_be_written(pictures: Pictures, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / ("long" * 100)):
        with pytest.raises(InputError, match=r"is a file|cannot write"):
            check_run(out, CONFIG, SHORT)
    for out in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / ("long" * 100)):
        with pytest.raises(InputError, match=r"is a file|cannot"):
            train(CONFIG, SHORT, pictures, out)
    assert (tmp_path / "file").read_text() == ""
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_keeps_the_older_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_state(tmp_path, {"step": 1})
    before = (tmp_path / STATE).read_bytes()
    real = torch.save
    monkeypatch.setattr(torch, "save", lambda state, _file: real(state, open("/dev/full", "wb")))  # noqa: SIM115
    with pytest.raises(InputError, match=r"cannot write .*state\.pt: "):
        write_state(tmp_path, {"step": 2, "more": torch.zeros(100_000)})
    assert (tmp_path / STATE).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [STATE]


def test_a_log_that_was_damaged_is_written_anew(pictures: Pictures, tmp_path: Path) -> None:
    settings = replace(SHORT, validate_every=100)
    assert train(CONFIG, settings, pictures, tmp_path) is not None
    before = (tmp_path / "log.csv").read_bytes()
    state = torch.load(tmp_path / STATE, weights_only=True)
    assert state["step"] == 3
    run = new_run(pictures)
    run.one_step()
    run.save(tmp_path)
    (tmp_path / "log.csv").write_bytes(b"\xff\0no table")
    (tmp_path / "validation.csv").unlink()
    assert train(CONFIG, settings, pictures, tmp_path) is not None
    head = before.split(b"\r\n")[0]
    assert (tmp_path / "log.csv").read_bytes().startswith(head)
    assert (tmp_path / "validation.csv").is_file()


def test_a_log_that_cannot_be_written(pictures: Pictures, tmp_path: Path) -> None:
    (tmp_path / "log.csv").mkdir()
    with pytest.raises(InputError, match=r"log\.csv"):
        train(CONFIG, SHORT, pictures, tmp_path)
    assert os.listdir(tmp_path) == ["log.csv"], "it is said before any work"


# what a run is asked for


def test_devices_and_lambdas_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="device: expected cpu, or a GPU that is there, found abacus"):
        check_run(tmp_path, CONFIG, replace(SHORT, device="abacus"))
    for lmbda in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="lmbda: expected a number above 0"):
            check_run(tmp_path, replace(CONFIG, lmbdas=(0.01, lmbda)), SHORT)


def test_memory_that_does_not_hold_a_step(pictures: Pictures, tmp_path: Path) -> None:
    with pytest.raises(OutOfMemoryError, match=r"a step on 1000000000000 crops of 64 x 64 \(lower --batch"):
        train(CONFIG, replace(SHORT, batch=10**12), pictures, tmp_path)


@pytest.mark.parametrize(("name", "value"), [("WORLD_SIZE", "many"), ("RANK", "-1")])
def test_an_environment_that_names_no_processes(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"{name} in the environment: expected a number"), processes("cpu"):
        pass


def test_processes_that_nobody_started(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"2 processes that WORLD_SIZE names.*torchrun"), processes("cpu"):
        pass
