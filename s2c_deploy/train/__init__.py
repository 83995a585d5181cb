"""Training of S2CFormer models at variable rate."""

from s2c_deploy.train.data import hold_out, open_cache
from s2c_deploy.train.loop import TrainResult, train
from s2c_deploy.train.settings import TrainSettings

__all__ = ["TrainResult", "TrainSettings", "hold_out", "open_cache", "train"]
