"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (arXiv 2409.11321).

It multiplies by one square matrix per dimension of a tensor; a k x k kernel's two short dimensions would cost it three
times what the whole step costs.  So it sees a convolution's weights as out x k*k x in, 1 x 1 ones as out x in.

It is pytorch_optimizer's (which is the tests' oracle) with less to multiply: the first moment is kept in the basis,
where that one turns it anew in every step; statistics are taken of every second gradient; and with ``bfloat16`` the way
back out of the basis is computed in it.  Not the way in: there, the rounding of a few large components would drown
the many small ones, which Adam then scales up to the same size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

_BETA1, _BETA2, _EPSILON = 0.9, 0.95, 1e-8


class Soap:
    """Steps of all parameters that have a gradient; a parameter's first only takes its gradient's measure.

    State per view of d dimensions: first and second moment in the basis, of the view's shape; ``products``, d
    averages of the gradients' outer products; ``bases``, d orthogonal matrices.  Vectors have neither of the last two.
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        learning_rate: float,
        *,
        bfloat16: bool = False,
        products_every: int = 2,
        bases_every: int = 10,
    ) -> None:
        self._parameters = list(parameters)
        self._bfloat16, self._products_every, self._bases_every = bfloat16, products_every, bases_every
        self._states: list[dict[str, Any]] = [{} for _ in self._parameters]
        #: Where the learning rate is set.
        self.param_groups: list[dict[str, Any]] = [{"lr": learning_rate}]

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One step."""
        for parameter, state in zip(self._parameters, self._states, strict=True):
            if parameter.grad is None:
                continue
            grad = matrix_view(parameter.grad)
            if state:
                # A view of a channels-last kernel is made anew every time: moving a module gives it other memory.
                self._step(matrix_view(parameter), grad, state)
            else:
                state.update(_begun(grad))

    def _step(self, tensor: Tensor, grad: Tensor, state: dict[str, Any]) -> None:
        state["step"] += 1
        number, first, second = state["step"], state["first"], state["second"]
        turned = _turn(grad, state["bases"])
        first.lerp_(turned, 1 - _BETA1)
        second.lerp_(turned.square_(), 1 - _BETA2)
        direction = first / second.sqrt().add_(_EPSILON)
        back = [basis.T for basis in state["bases"]]
        if self._bfloat16 and back:
            direction, back = direction.bfloat16(), [basis.bfloat16() for basis in back]
        size = self.param_groups[0]["lr"] * math.sqrt(1 - _BETA2**number) / (1 - _BETA1**number)
        tensor.add_(_turn(direction, back), alpha=-size)
        if state["products"] and number % self._products_every == 0:
            _average(state["products"], grad, 1 - _BETA2**self._products_every)
        if state["products"] and number % self._bases_every == 0:
            _renew_bases(state)

    def state_dict(self) -> dict[str, Any]:
        """Everything it remembers between steps."""
        return {"groups": self.param_groups, "states": self._states}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on with what ``state_dict`` gave."""
        self.param_groups = [dict(group) for group in state_dict["groups"]]
        device = self._parameters[0].device
        self._states = [_moved(state, device) for state in state_dict["states"]]


def matrix_view(tensor: Tensor) -> Tensor:
    """A channels-last kernel, O x I x k x k, as O x k*k x I, or as a matrix where k or I is 1; others as they are."""
    if tensor.dim() != 4:
        return tensor
    outputs, inputs, height, width = tensor.shape
    rows = tensor.permute(0, 2, 3, 1)
    if 1 in (inputs, height * width):
        return rows.view(outputs, height * width * inputs)
    return rows.view(outputs, height * width, inputs)


def _begun(grad: Tensor) -> dict[str, Any]:
    products = [grad.new_zeros(side, side) for side in grad.shape] if grad.dim() > 1 else []
    _average(products, grad, 1 - _BETA2)
    zeros = torch.zeros_like(grad)
    bases = [_eigenvectors(product) for product in products]
    return {"step": 0, "first": zeros, "second": zeros.clone(), "products": products, "bases": bases}


def _eigenvectors(product: Tensor) -> Tensor:
    """Columns, largest eigenvalue first.

    In float64 and with something on the diagonal: on products of one gradient that are mostly zeros, as a new block's
    are, LAPACK's iteration in float32 gives up, or gives NaN and does not say so.
    """
    diagonal = 1e-30 * torch.eye(len(product), dtype=torch.float64, device=product.device)
    vectors: Tensor = torch.linalg.eigh(product.double() + diagonal)[1]
    return vectors.flip(1).to(product.dtype)


def _turn(tensor: Tensor, bases: list[Tensor]) -> Tensor:
    """``tensor`` times every one of ``bases`` along its dimension, a new tensor of its shape."""
    if not bases:
        return tensor.clone()
    shape = tensor.shape
    turned = (bases[0].T @ tensor.reshape(shape[0], -1)).view(-1, shape[-1])
    turned = (turned @ bases[-1]).view(shape)
    return turned if len(shape) == 2 else bases[1].T @ turned


def _average(products: list[Tensor], grad: Tensor, weight: float) -> None:
    """Takes the outer products of ``grad`` along every dimension into their averages."""
    for dimension, product in enumerate(products):
        if dimension == grad.dim() - 1:  # needs no copy of the gradient
            columns = grad.reshape(-1, grad.shape[-1])
            product.lerp_(columns.T @ columns, weight)
        else:
            rows = grad.transpose(0, dimension).reshape(grad.shape[dimension], -1)
            product.lerp_(rows @ rows.T, weight)


def _renew_bases(state: dict[str, Any]) -> None:
    """One round of power iteration; the moments follow: the first is turned, the second only sorted."""
    changes, second = [], state["second"]
    for dimension, (product, basis) in enumerate(zip(state["products"], state["bases"], strict=True)):
        powered = product @ basis
        order = torch.argsort((basis * powered).sum(0), descending=True)
        second = second.index_select(dimension, order)
        renewed = torch.linalg.qr(powered.index_select(1, order))[0]
        changes.append(basis.T @ renewed)
        state["bases"][dimension] = renewed
    state["second"], state["first"] = second, _turn(state["first"], changes)


def _moved(state: dict[str, Any], device: torch.device) -> dict[str, Any]:
    def to(value: Any) -> Any:
        if isinstance(value, list):
            return [to(item) for item in value]
        return value.to(device) if isinstance(value, Tensor) else value

    return {name: to(value) for name, value in state.items()}
