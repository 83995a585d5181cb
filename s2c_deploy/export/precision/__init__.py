"""FP16 in the graphs' own types: which nodes can, which cannot, and what it costs."""

from s2c_deploy.export.precision.half import HalfGraphs, half_graphs

__all__ = ["HalfGraphs", "half_graphs"]
