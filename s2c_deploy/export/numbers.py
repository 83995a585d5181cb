"""The numbers of a model whose entropy networks are exact, from its modules: what the fingerprint is made of."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt

from s2c_deploy.entropy.tables import FrequencyTables
from s2c_deploy.formats.bundle import Gains
from s2c_deploy.formats.numbers import Numbers, latent_numbers, layer_numbers, table_numbers
from s2c_deploy.models import S2CModel
from s2c_deploy.quantize.exact_entropy import ExactGroupContext
from s2c_deploy.quantize.integer_conv import IntegerConv


def model_numbers(model: S2CModel, tables: FrequencyTables, gains: Gains) -> Numbers:
    """Every array of docs/bundle.md, "Fingerprint"."""
    numbers = table_numbers({**tables.to_arrays(), **vars(gains)})
    for module in model.modules():
        if isinstance(module, IntegerConv):
            exact = module.integers()
            weights = {str(i): _array(weight) for i, weight in enumerate(exact.weights)}
            bias, shift = _array(exact.bias), _array(exact.shifts)
            numbers |= layer_numbers(module.name, weights, bias, shift, module.low, module.high)
    for k, module in enumerate(model.group_contexts):
        context = cast(ExactGroupContext, module)
        limits = (-context.limits.latent, context.limits.latent)
        if context.has_earlier:
            numbers |= latent_numbers(f"context_{k}.y_prev", _array(context.earlier_shifts), *limits)
        numbers |= latent_numbers(f"context_{k}.y_cur", _array(context.current_shifts), *limits)
    return numbers


def _array(tensor: Any) -> npt.NDArray[np.float32]:
    return np.asarray(tensor.detach().numpy())
