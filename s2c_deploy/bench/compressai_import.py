"""Importing CompressAI where torchvision's wheel does not match a CPU build of PyTorch.  Needs torch."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from typing import Any

import torch

from s2c_deploy.errors import DependencyError

_SCHEMAS: list[Any] = []


def import_compressai() -> tuple[Any, Any]:
    """``compressai.ans`` and ``GaussianConditional``; DependencyError where CompressAI is not installed.

    CompressAI imports torchvision, which registers fake kernels for two operators that its CPU wheel never defined
    ("operator torchvision::nms does not exist").  Defining their schemas is enough, for neither is ever called; they
    live as long as the object that defined them.
    """
    if find_spec("compressai") is None:
        raise DependencyError("compressai", extra="bench")
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "does not exist" not in str(error):
            raise
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        library: Any = torch.library.Library  # untyped
        schemas = library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            schemas.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _SCHEMAS.append(schemas)
    return (
        importlib.import_module("compressai.ans"),
        importlib.import_module("compressai.entropy_models").GaussianConditional,
    )
