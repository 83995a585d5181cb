"""A run on a folder of photographs: what it starts from, the pictures decoded once and divided, then the training."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from s2c_deploy.errors import InputError
from s2c_deploy.host import freed_arrays_kept
from s2c_deploy.models import S2CModel
from s2c_deploy.models.adapters import compatible_part, read_tensors
from s2c_deploy.models.checkpoint import Checkpoint, load_checkpoint
from s2c_deploy.models.int8_convs import calibrate as calibrate_int8
from s2c_deploy.models.lighter import lighter_start
from s2c_deploy.models.synthesis_files import with_synthesis
from s2c_deploy.models.transforms import Synthesis
from s2c_deploy.presets import FULL, ModelConfig, SynthesisConfig
from s2c_deploy.train.cache import open_cache
from s2c_deploy.train.data import Pictures, hold_out
from s2c_deploy.train.growth import grown, is_growth
from s2c_deploy.train.loop import TrainResult, check_run, train
from s2c_deploy.train.release import latents_of
from s2c_deploy.train.settings import TrainSettings
from s2c_deploy.train.state import has_state


@dataclass(frozen=True, kw_only=True)
class Request:
    """A model to train on photographs."""

    config: ModelConfig
    settings: TrainSettings
    #: Folder of the photographs.
    data: Path
    #: Folder of the run.
    out: Path
    #: File of their decoded pixels, made if it is not there.
    cache: Path
    #: A model folder or a checkpoint to start from; None: the transform of the pictures.
    start: Path | None = None
    #: How many pictures are set apart for validation.
    held_out: int = 16
    #: Of PyTorch; 0 lets it choose.
    threads: int = 0


@dataclass(frozen=True, kw_only=True)
class _Beginning:
    """A g_s to be trained, and a few words on where it comes from."""

    g_s: Synthesis
    told: str
    #: Whether one of bytes has its scales already.
    scaled: bool = False


def train_folder(request: Request, *, tell: Callable[[str], None]) -> TrainResult | None:
    """Trains a model as ``train`` does, after everything that can be refused was refused.

    tell: called with a sentence on the weights that the run starts from.
    """
    if request.threads:
        torch.set_num_threads(request.threads)
    check_run(request.out, request.config, request.settings)
    initial, ranges = None, None
    if request.start is not None and request.settings.only is None:
        initial = _initial(request.config, request.start, tell)
    pictures = hold_out(open_cache(request.data, request.cache), request.held_out)
    if request.start is not None and request.settings.only is not None:
        shape, resumes = request.settings.only.shape, has_state(request.out)
        initial, ranges = _frozen(shape, request.start, pictures, tell, resumes=resumes)
    with freed_arrays_kept():
        return train(request.config, request.settings, pictures, request.out, initial=initial, ranges=ranges)


def _frozen(
    shape: SynthesisConfig, start: Path, pictures: Pictures, tell: Callable[[str], None], *, resumes: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state dict of a finished model with the beginning of another g_s in it, and the ranges of its integers.

    That is the g_s of this shape which lies beside the weights, if there is one, else what the full one gives.  One of
    bytes begins with one in float32 of the same layers, and scales from the latents of some pictures.
    """
    checkpoint = load_checkpoint(start)
    if not checkpoint.ranges:
        raise InputError(f"{start}: expected weights with calibrated ranges, found none", hint="train the model first")
    begun = _begun(shape, checkpoint)
    if shape.int8 and not begun.scaled and not resumes:
        calibrate_int8(begun.g_s, latents_of(checkpoint.model, pictures))
    tell(f"{start}: g_s begins with {begun.told}")
    return with_synthesis(checkpoint.model.state_dict(), begun.g_s), dict(checkpoint.ranges)


def _begun(shape: SynthesisConfig, checkpoint: Checkpoint) -> _Beginning:
    beside = {lighter.shape.name: lighter for lighter in checkpoint.lighter}
    if (own := beside.get(shape.name)) is not None and own.shape == shape:
        return _Beginning(g_s=own.module, told="its own files", scaled=True)
    if not shape.int8:
        g_s = lighter_start(checkpoint.config, shape, checkpoint.model.g_s)
        return _Beginning(g_s=g_s, told="what the full one has learned")
    name = shape.float_name
    whole = replace(shape, name=name, int8=False)
    if name == FULL:
        source, told = checkpoint.model.g_s, "the full one"
    elif (found := beside.get(name)) is not None and found.shape == whole:
        source, told = found.module, f"the files of {name}"
    else:
        raise InputError(
            f"expected a {name} g_s beside the weights, found none", hint=f"train it first: --synthesis {name}"
        )
    g_s = Synthesis(checkpoint.config, shape)
    g_s.load_state_dict(source.state_dict(), strict=False)
    return _Beginning(g_s=g_s, told=told)


def _initial(config: ModelConfig, start: Path, tell: Callable[[str], None]) -> dict[str, Tensor]:
    """The new model's state dict with every tensor of ``start`` that fits it, or is a part of one."""
    state = S2CModel(config).state_dict()
    if os.path.isdir(start):
        checkpoint = load_checkpoint(start)
        tensors = checkpoint.model.state_dict()
    else:
        checkpoint, tensors = None, read_tensors(start)
    if checkpoint is not None and is_growth(config, checkpoint.config):
        taken, new = grown(config, state, checkpoint.config, tensors)
    else:
        taken, new = compatible_part(state, tensors)
    tell(f"{start}: {len(taken)} tensors taken over, {len(new)} new")
    return state | taken
