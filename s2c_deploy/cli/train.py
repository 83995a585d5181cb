"""``train``: a model on a folder of photographs."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2c_deploy.cli.files.targets import check_replaceable, identity
from s2c_deploy.cli.options import JsonOption
from s2c_deploy.cli.output import say, say_json, warn
from s2c_deploy.errors import DependencyError, InputError
from s2c_deploy.files import check_folder_writable, check_writable, status_of
from s2c_deploy.presets import (
    CHANNEL_AGGREGATIONS,
    OBJECTIVES,
    PRESETS,
    SYNTHESES,
    VARIANTS,
    ModelConfig,
    model_config,
    synthesis_config,
)

if TYPE_CHECKING:
    from s2c_deploy.train import Request, SynthesisOnly, TrainResult

RUNS = Path("runs")


# typer takes options as parameters of the command, not as a dataclass: they are gathered below.
def train(
    data: Annotated[Path, typer.Argument(help="Folder of photographs: PNG, JPEG, WebP, AVIF, TIFF.")],
    variant: Annotated[str, typer.Option(help=f"{', '.join(VARIANTS)}.")] = "conv",
    preset: Annotated[
        str | None, typer.Option(help=f"{', '.join(PRESETS)}.", show_default="that of --from's folder, or tiny")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps in all.")] = 100_000,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="runs/VARIANT-PRESET")] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Start from a model folder (any variant, no larger preset) or a checkpoint.",
            show_default="the Karhunen-Loeve transform of the pictures",
        ),
    ] = None,
    objective: Annotated[str, typer.Option(help=f"Distortion: {', '.join(OBJECTIVES)}.")] = "mse",
    aggregation: Annotated[str, typer.Option(help=f"{', '.join(CHANNEL_AGGREGATIONS)}.")] = "glu",
    spatial_norm: Annotated[bool, typer.Option(help="A LayerNorm before the separable convolution.")] = False,
    operand_bits: Annotated[
        int, typer.Option(help="Of the entropy networks' integers, 8 or 11; INT8 kernels multiply those of 8.")
    ] = 8,
    lmbda: Annotated[
        list[float] | None, typer.Option(help="Trade-off of a quality level; once per level.", show_default="eight")
    ] = None,
    only: Annotated[
        str, typer.Option(help="g_s: a lighter one for the latents of --from's weights; all else stands still.")
    ] = "",
    synthesis: Annotated[str, typer.Option(help=f"Which one: {', '.join(SYNTHESES)}.")] = SYNTHESES[0],
    bank_steps: Annotated[
        int, typer.Option(min=0, help="Its crops come round after so many steps, latents computed once; 0: never.")
    ] = 2000,
    batch: Annotated[int, typer.Option(min=1, help="Crops per step, of all processes together.")] = 8,
    crop: Annotated[int, typer.Option(help="Side of the crops, a multiple of 64.")] = 128,
    last_crop: Annotated[int, typer.Option(help="Side of the crops at the end.")] = 256,
    last_crop_from: Annotated[float, typer.Option(help="Fraction of the steps after which they grow.")] = 0.9,
    optimizer: Annotated[str, typer.Option(help="soap, or adam: a quicker step, but more of them.")] = "soap",
    learning_rate: Annotated[float, typer.Option(help="Of the plateau.")] = 5e-4,
    warmup: Annotated[int, typer.Option(min=0, help="Steps in which it rises.")] = 200,
    decay_from: Annotated[float, typer.Option(help="Fraction of the steps after which the rate falls.")] = 0.4,
    entropy_steps: Annotated[
        int, typer.Option(min=0, help="So many steps first train the entropy model alone; they are quicker.")
    ] = 0,
    exact_from: Annotated[
        float, typer.Option(help="Fraction after which the entropy networks compute in the shipped integers.")
    ] = 0.85,
    hold_out: Annotated[int, typer.Option(min=1, help="Pictures set apart for validation.")] = 16,
    validate_every: Annotated[int, typer.Option(min=1, help="Steps between validations.")] = 5000,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between saved states.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same machine, one thread: same weights.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
    bfloat16: Annotated[
        bool | None,
        typer.Option(
            help="Autocast until integers begin; pays where it is multiplied in hardware.", show_default="on GPUs"
        ),
    ] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="torch.compile the model.")] = False,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0 lets PyTorch choose.")] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="Decoded pixels.", show_default="RUNS/NAME.u8 beside the runs")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a model; the run's folder is then what export --weights takes.

    Ctrl-C stops it after the step at hand; the same command goes on.

    s2c-deploy train photos/ --preset tiny --steps 300

    s2c-deploy train photos/ --variant hybrid --from export/conv-tiny --learning-rate 3e-4 --steps 20000

    s2c-deploy train photos/ --preset small --from export/conv-tiny --steps 50000

    s2c-deploy train photos/ --preset small --from export/conv --crop 256 --batch 4 --bfloat16 --steps 8000

    s2c-deploy train photos/ --only g_s --synthesis fast --from export/conv --steps 20000

    torchrun --nproc-per-node 8 --no-python s2c-deploy train photos/ --preset base --batch 64
    """
    _check_packages()
    from s2c_deploy.train import SYNTHESIS_LMBDA_WEIGHT, Request, TrainSettings, choose_device, train_folder

    config = model_config(
        variant,
        preset or _preset_of(start),
        aggregation=aggregation,
        spatial_norm=spatial_norm,
        objective=objective,
        lmbdas=lmbda or None,
        operand_bits=operand_bits,
    )
    alone = None
    if only:
        config, alone = _synthesis_only(only, synthesis, start, bank_steps)
    device = choose_device(device)
    settings = TrainSettings(
        steps=steps,
        optimizer=optimizer,
        batch=batch,
        crop=crop,
        last_crop=last_crop,
        last_crop_from=last_crop_from,
        learning_rate=learning_rate,
        warmup=warmup,
        decay_from=decay_from,
        entropy_steps=entropy_steps,
        exact_from=exact_from,
        only=alone,
        lmbda_weight=TrainSettings.lmbda_weight if alone is None else SYNTHESIS_LMBDA_WEIGHT,
        validate_every=validate_every,
        save_every=save_every,
        seed=seed,
        device=device,
        bfloat16=device == "cuda" if bfloat16 is None else bfloat16,
        compiled=compiled,
    )
    folder = out if out is not None else RUNS / (config.name if alone is None else f"{config.name}-{synthesis}")
    request = Request(
        config=config,
        settings=settings,
        data=data,
        out=folder,
        cache=cache if cache is not None else _cache_of(data, folder),
        start=start,
        held_out=hold_out,
        threads=threads,
    )
    _check_places(request)
    _say_left_out(data)
    result = train_folder(request, tell=warn)
    if result is not None:
        _tell(result, folder, _after(folder, start, alone), as_json)


def _preset_of(start: Path | None) -> str:
    """That of the folder to start from; tiny without one."""
    if start is None or not os.path.isdir(start):
        return PRESETS[0]
    from s2c_deploy.models.checkpoint import described

    return described(start)[1].preset


def _synthesis_only(part: str, name: str, start: Path | None, bank_steps: int) -> tuple[ModelConfig, SynthesisOnly]:
    """The model whose latents another g_s is for, as its folder describes it, and that g_s."""
    from s2c_deploy.models.checkpoint import load_checkpoint
    from s2c_deploy.train import SynthesisOnly

    if part != "g_s":
        raise InputError(f"--only: expected g_s, found {part!r:.80}")
    if start is None:
        raise InputError("--only g_s: expected the folder of a finished model with --from, found none")
    checkpoint = load_checkpoint(start)
    shape = synthesis_config(checkpoint.config, name)
    return checkpoint.config, SynthesisOnly(shape=shape, weights_sha256=checkpoint.sha256, bank_steps=bank_steps)


def _check_packages() -> None:
    for package in ("torch", "safetensors"):
        if find_spec(package) is None:
            raise DependencyError(package, extra="train")


def _cache_of(data: Path, folder: Path) -> Path:
    """Beside the run, under the photographs' name, so that the next run on them finds it."""
    name = os.path.basename(os.path.realpath(data)) or "pictures"
    return folder.parent / f"{name}.u8"


def _check_places(request: Request) -> None:
    """InputError where the run or its cache would replace files of others, or cannot be written: before any work."""
    from s2c_deploy.train.cache import check_lock, index_of, lock_of

    data, folder, cache = request.data, request.out, request.cache
    for path in filter(None, (data, request.start)):
        status_of(path)  # what the system will not look at
    if identity(folder) is not None and identity(folder) == identity(data):
        raise InputError(f"{folder} is the folder of the photographs", hint="name another --out")
    check_folder_writable(folder)
    if os.path.isdir(cache):
        raise InputError(f"{cache} is a folder", hint="name a file: --cache")
    check_replaceable(cache, "pixels")
    check_replaceable(index_of(cache), "json")
    check_lock(lock_of(cache))
    check_folder_writable(cache.parent)
    if os.path.isdir(cache.parent):
        check_writable(cache)


def _say_left_out(data: Path) -> None:
    """InputError where there is no picture."""
    from s2c_deploy.listing import describe_left_out
    from s2c_deploy.train.cache import list_pictures

    if said := describe_left_out([list_pictures(data)]):
        warn(said)


def _after(folder: Path, start: Path | None, alone: SynthesisOnly | None) -> str:
    """What comes next, as a command."""
    if alone is None:
        return f"s2c-deploy export --weights {folder}"
    return f"cp {folder}/g_s.{alone.shape.name}.* {start}/ && s2c-deploy export --weights {start} --force"


def _tell(result: TrainResult, folder: Path, after: str, as_json: bool) -> None:
    last = max((row["step"] for row in result.validation), default=0)
    points = [row for row in result.validation if row["step"] == last]
    if as_json:
        record = {"run": str(folder), "step": result.step, "finished": result.finished, "validation": points}
        say_json(record)
        return
    if not result.finished:
        say(f"stopped after step {result.step:,}; the same command goes on from there")
        return
    say(f"{'quality':>8}{'bpp':>9}{'PSNR dB':>9}   held-out pictures, step {last:,.0f}")
    for row in points:
        say(f"{row['quality']:>8}{row['bpp']:>9.4f}{row['psnr']:>9.2f}")
    say(f"next: {after}")
