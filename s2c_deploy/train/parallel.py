"""One process per GPU (or per core), as torchrun starts them; a single process otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed, nn

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


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """The group that torchrun's environment describes; leaves it at the end."""
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if device == "cuda" and count > 1:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    if count == 1:
        yield Processes(device=device)
        return
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Processes(rank=rank, count=count, device=device)
    finally:
        distributed.destroy_process_group()
