"""Adam, or SOAP: Adam in the eigenbasis of Shampoo's preconditioner (arXiv 2409.11321).

SOAP needs far fewer steps for the same rate-distortion cost (arXiv 2601.20769 measures it on other learned codecs); its
own work per step does not depend on the crops.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import Parameter

from s2c_deploy.errors import DependencyError

OPTIMIZERS = ("soap", "adam")


class Optimizer(Protocol):
    """What a run needs of one."""

    @property
    def param_groups(self) -> list[dict[str, Any]]: ...

    def zero_grad(self) -> None: ...

    def step(self) -> object: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


def make_optimizer(name: str, parameters: Iterable[Parameter], learning_rate: float) -> Optimizer:
    """One of ``OPTIMIZERS``; DependencyError without pytorch_optimizer, which has SOAP."""
    if name == "adam":
        return torch.optim.Adam(parameters, lr=learning_rate, fused=True)
    return Soap(parameters, learning_rate)


class Soap:
    """pytorch_optimizer's SOAP on matrix views of the parameters.

    It multiplies by one square matrix per dimension of a tensor; a k x k kernel's two short dimensions would cost it
    three times what the whole step costs.  So it sees a convolution's weights as out x k*k x in, 1 x 1 ones as
    out x in.
    """

    def __init__(self, parameters: Iterable[Parameter], learning_rate: float) -> None:
        try:
            from pytorch_optimizer import SOAP
        except ImportError as error:
            raise DependencyError("pytorch_optimizer", extra="train") from error
        self._parameters = list(parameters)
        self._views = [_matrix(p.detach()).requires_grad_() for p in self._parameters]
        self._soap = SOAP(self._views, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Where the learning rate is set."""
        return self._soap.param_groups

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def step(self) -> None:
        """One step; the very first only takes the gradients' measure."""
        for parameter, view in zip(self._parameters, self._views, strict=True):
            # Anew every time: moving a module to a device and back gives its parameters other memory.
            view.data = _matrix(parameter.detach())
            view.grad = None if parameter.grad is None else _matrix(parameter.grad)
        self._soap.step()

    def state_dict(self) -> dict[str, Any]:
        """Everything it remembers between steps."""
        return self._soap.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on with what ``state_dict`` gave."""
        self._soap.load_state_dict(state_dict)


def _matrix(tensor: Tensor) -> Tensor:
    """A view without a kernel's short dimensions."""
    if tensor.dim() != 4:
        return tensor
    outputs, inputs, height, width = tensor.shape
    rows = tensor.permute(0, 2, 3, 1)
    if 1 in (inputs, height * width):
        return rows.view(outputs, height * width * inputs)
    return rows.view(outputs, height * width, inputs)
