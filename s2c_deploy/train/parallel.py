"""One process per GPU (or per core), as torchrun starts them; a single process otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed, nn

from s2c_deploy.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process's number, how many there are, and the device it trains on."""

    rank: int = 0
    count: int = 1
    device: str = "cpu"

    @property
    def first(self) -> bool:
        """The one that writes files."""
        return self.rank == 0

    def spread(self, network: nn.Module) -> nn.Module:
        """The network, averaging its gradients over the processes."""
        if self.count == 1:
            return network
        return nn.parallel.DistributedDataParallel(network)

    def shared(self, value: T) -> T:
        """The first process's value, in every process."""
        if self.count == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values[0]


def choose_device(device: str) -> str:
    """``auto`` is a GPU where PyTorch finds one, else the CPU; any other name stays."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(device: str) -> None:
    """InputError unless tensors can be made on it."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"device: expected cpu, or a GPU that is there, found {device}", hint="give --device cpu"
        ) from error


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """The group that torchrun's environment describes; leaves it at the end.  InputError if it describes none."""
    count, rank = _number("WORLD_SIZE", 1), _number("RANK", 0)
    if device == "cuda" and count > 1:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    if count == 1:
        yield Processes(device=device)
        return
    try:
        distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"the {count} processes that WORLD_SIZE names did not find one another: {error!s:.300}",
            hint="start them with torchrun, or unset WORLD_SIZE",
        ) from error
    try:
        yield Processes(rank=rank, count=count, device=device)
    finally:
        distributed.destroy_process_group()


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    if not value.isdecimal():
        raise InputError(f"{name} in the environment: expected a number, found {value!a:.80}", hint="unset it")
    return int(value)
