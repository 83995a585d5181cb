"""A training run from its first step, or from where it was stopped, to weights that can be exported."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from s2c_deploy.contract import LATENT_STRIDE
from s2c_deploy.errors import InputError, OutOfMemoryError
from s2c_deploy.files import check_folder_writable, make_folder, status_of
from s2c_deploy.models import S2CModel
from s2c_deploy.models.checkpoint import RECIPE, WEIGHTS
from s2c_deploy.models.tensor_files import out_of_memory
from s2c_deploy.presets import ModelConfig
from s2c_deploy.quantize import exact_model
from s2c_deploy.train.data import Crops, Pictures
from s2c_deploy.train.frozen import BANK, LatentBank
from s2c_deploy.train.klt import klt_start
from s2c_deploy.train.log import LOG, PLOT, VALIDATION, Row, plot_run, write_rows
from s2c_deploy.train.parallel import Processes, check_device, processes
from s2c_deploy.train.release import calibrate, release, release_synthesis
from s2c_deploy.train.run import Run, check_same_run
from s2c_deploy.train.settings import TrainSettings
from s2c_deploy.train.state import STATE, has_state, read_state
from s2c_deploy.train.validation import rate_distortion


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How far a run came."""

    #: How many steps it has made.
    step: int
    #: That is all of them.
    finished: bool
    #: Per step and quality, so far.
    validation: list[Row]


def train(
    config: ModelConfig,
    settings: TrainSettings,
    pictures: Pictures,
    out: Path,
    *,
    initial: dict[str, Tensor] | None = None,
    ranges: dict[str, Tensor] | None = None,
) -> TrainResult | None:
    """Trains a model in the folder ``out``; goes on from ``out/state.pt`` when that exists.

    Writes there: state.pt (everything needed to go on), log.csv, validation.csv, run.png, and at the end
    weights.safetensors and recipe.toml, which makes it a folder for ``export``.  Stops after the step at hand on
    SIGINT or SIGTERM, with its state saved.  initial: weights to start from; without, the transform of the pictures
    (``klt``); ranges: of the finished model's integers, where g_s alone is trained, whose files are then written
    (``release_synthesis``).  InputError when ``out`` holds another run or a damaged state, or cannot be written;
    DependencyError when the objective needs a package that is missing; OutOfMemoryError when memory does not hold a
    step.  Started by torchrun, all processes train and the first one writes; the others return None.
    """
    _check_asked(out, config, settings)
    make_folder(out)
    with processes(settings.device) as group, _stop_signals() as stop:
        crops = Crops(pictures, levels=config.levels, seed=settings.seed)
        resumes = has_state(out)
        if initial is None and not resumes:
            initial = klt_start(config, pictures, settings.seed)
        run = Run(config, settings, crops, group, initial, _bank(config, settings, out, group, resumes))
        if resumes:
            run.resume(out)
        elif ranges is not None:
            run.freeze(ranges)
        validation = _steps(run, pictures, out, stop)
        finished = run.step == settings.steps
        if not group.first:
            return None
        # The recipe is written last: with it, the folder is whole.
        if finished:
            _release(run, pictures, out)
        return TrainResult(step=run.step, finished=finished, validation=validation)


def _bank(
    config: ModelConfig, settings: TrainSettings, out: Path, group: Processes, resumes: bool
) -> LatentBank | None:
    """Where latents are kept, if crops come round; several processes have theirs to themselves, and nowhere to keep
    them."""
    if settings.only is None or not settings.only.bank_steps or group.count > 1:
        return None
    crops, side = settings.only.bank_steps * settings.batch, settings.crop // LATENT_STRIDE
    return LatentBank(out / BANK, crops=crops, channels=config.latent_channels, side=side, resumes=resumes)


def _release(run: Run, pictures: Pictures, out: Path) -> None:
    """Writes what ``export`` reads, unless that was done before."""
    told = _told(run.settings, pictures)
    if run.settings.only is not None:
        release_synthesis(out, run.settings.only, run.averages, told, run.validation)
        (out / BANK).unlink(missing_ok=True)
    elif status_of(out / RECIPE) is None:
        plot_run(out, run.log.rows, run.validation, run.config.name)
        ranges = run.ranges if run.ranges is not None else calibrate(run.averaged_model(), pictures)
        release(out, run.config, run.averages, ranges, told)


def check_run(out: Path, config: ModelConfig, settings: TrainSettings) -> None:
    """What ``train`` would find wrong with the folder ``out``, before pictures are decoded for it.

    InputError if it cannot be written, or holds another run or a damaged state, and for a device that is not there.
    """
    _check_asked(out, config, settings)
    if has_state(out):
        check_same_run(out, read_state(out), config, settings)


def _check_asked(out: Path, config: ModelConfig, settings: TrainSettings) -> None:
    for lmbda in config.lmbdas:
        if not 0 < lmbda < math.inf:
            raise InputError(f"lmbda: expected a number above 0, found {lmbda}")
    check_device(settings.device)
    check_folder_writable(out)
    _check_free(out)


def _check_free(out: Path) -> None:
    """A folder without a run's state has none of its files, or they are somebody's model, data or report."""
    if has_state(out):
        return
    found = [name for name in (WEIGHTS, RECIPE, LOG, VALIDATION, PLOT) if os.path.lexists(out / name)]
    if found:
        raise InputError(
            f"{out}: expected a new folder, or one with the {STATE} of a run, found {', '.join(found)}",
            hint="give another --out; --from takes over the weights of a model",
        )


def _steps(run: Run, pictures: Pictures, out: Path, stop: list[int]) -> list[Row]:
    settings, group = run.settings, run.processes
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not group.first) as progress:
        task = progress.add_task(run.config.name, total=settings.steps, completed=run.step)
        # Every process leaves at the same step, or the others would wait for its gradients.
        while run.step < settings.steps and not group.shared(bool(stop)):
            if run.ranges is None and run.step >= settings.exact_step:
                run.go_exact(calibrate(run.averaged_model(), pictures) if group.first else {})
            with _memory_for(run):
                run.one_step()
            last = run.step == settings.steps
            if group.first and (last or run.step % settings.validate_every == 0):
                run.validation += rate_distortion(_deployed(run), pictures, run.step)
            if group.first and (last or run.step % settings.save_every == 0):
                _write(run, out)
            progress.update(task, completed=run.step, description=_describe(run))
    if group.first and run.step < settings.steps:
        _write(run, out)
    return run.validation


@contextmanager
def _memory_for(run: Run) -> Iterator[None]:
    side, batch = run.settings.crop_at(run.step)
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"a step on {batch} crops of {side} x {side}", hint="lower --batch, --crop or --last-crop"
        ) from error


def _write(run: Run, out: Path) -> None:
    run.save(out)
    write_rows(out / LOG, run.log.rows)
    write_rows(out / VALIDATION, run.validation)


def _describe(run: Run) -> str:
    if not run.log.rows:
        return run.config.name
    row = run.log.rows[-1]
    return f"{run.config.name} loss {row['loss']:.3f}, {row['bpp']:.3f} bpp, {row['psnr']:.2f} dB"


def _deployed(run: Run) -> S2CModel:
    """The averaged weights as they will be shipped: on integers once the run is."""
    model = run.averaged_model()
    return model if run.ranges is None else exact_model(model.cpu(), run.ranges).to(run.processes.device)


def _told(settings: TrainSettings, pictures: Pictures) -> dict[str, object]:
    told = {name: value for name, value in asdict(settings).items() if name != "only"}
    return {"pictures": len(pictures.training), "held_out": len(pictures.held_out)} | told


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that SIGINT and SIGTERM are put into, instead of ending the process in the middle of a step."""
    received: list[int] = []
    watched = (signal.SIGINT, signal.SIGTERM)
    # Whoever ends processes that do not stop at once must not end this one.
    wakeup = signal.set_wakeup_fd(-1)
    before = [signal.signal(number, lambda found, _frame: received.append(found)) for number in watched]
    try:
        yield received
    finally:
        for number, handler in zip(watched, before, strict=True):
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
