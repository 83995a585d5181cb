"""The S2CFormer models in PyTorch."""

from s2c_deploy.models.model import S2CModel

__all__ = ["S2CModel"]
