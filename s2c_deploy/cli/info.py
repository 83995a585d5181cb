"""``info``: what a model costs."""

from __future__ import annotations

from typing import Annotated

import typer

from s2c_deploy.cli.options import JsonOption
from s2c_deploy.cli.output import show_record, show_tables
from s2c_deploy.errors import DependencyError
from s2c_deploy.report.table import Table


def info(
    variant: Annotated[str, typer.Option(help="identity, conv, attention or hybrid.")] = "conv",
    preset: Annotated[str, typer.Option(help="tiny, small, base or large.")] = "tiny",
    aggregation: Annotated[str, typer.Option(help="mlp, conv_ffn, glu or glu_dw.")] = "glu",
    as_json: JsonOption = False,
) -> None:
    """Parameters and cost of a model, counted from its modules.

    s2c-deploy info --variant hybrid --preset large
    """
    from importlib.util import find_spec

    from s2c_deploy.presets import model_config

    config = model_config(variant, preset, aggregation=aggregation)
    if find_spec("torch") is None:
        raise DependencyError("torch", extra="export")
    from s2c_deploy.models.cost import count_cost

    costs = count_cost(config)
    parameters, kmac = sum(c.parameters for c in costs), sum(c.kmac_per_pixel for c in costs)
    if as_json:
        parts = {c.name: {"parameters": c.parameters, "kmac_per_pixel": c.kmac_per_pixel} for c in costs}
        total = {"parameters": parameters, "kmac_per_pixel": kmac}
        show_record({"model": config.name, "config": config.to_dict(), "transforms": parts, "total": total}, True)
        return
    rows = [(c.name, f"{c.parameters:,}", f"{c.kmac_per_pixel:.2f}") for c in costs]
    rows.append(("total", f"{parameters:,}", f"{kmac:.2f}"))
    title = f"S2C-{variant.capitalize()} {preset}, {aggregation}"
    show_tables([Table(title=title, columns=("transform", "parameters", "kMAC/px"), rows=tuple(rows))])
