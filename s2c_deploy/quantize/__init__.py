"""Float entropy networks to exact-integer networks (docs/entropy.md)."""

from s2c_deploy.quantize.calibrate import activation_ranges, exact_model, exact_twin

__all__ = ["activation_ranges", "exact_model", "exact_twin"]
