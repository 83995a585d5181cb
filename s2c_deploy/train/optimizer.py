"""Adam, or SOAP, which needs far fewer steps for the same rate-distortion cost.

(arXiv 2601.20769 measures that on other learned codecs.)  SOAP's own work per step does not depend on the crops.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch.nn import Parameter

from s2c_deploy.train.soap import Soap

OPTIMIZERS = ("soap", "adam")


class Optimizer(Protocol):
    """What a run needs of one."""

    @property
    def param_groups(self) -> list[dict[str, Any]]: ...

    def zero_grad(self) -> None: ...

    def step(self) -> object: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


def make_optimizer(
    name: str, parameters: Iterable[Parameter], learning_rate: float, *, bfloat16: bool = False
) -> Optimizer:
    """One of ``OPTIMIZERS``; bfloat16: what SOAP can do in it without harm."""
    if name == "adam":
        return torch.optim.Adam(parameters, lr=learning_rate, fused=True)
    return Soap(parameters, learning_rate, bfloat16=bfloat16)
