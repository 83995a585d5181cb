"""Training of S2CFormer models at variable rate."""

from s2c_deploy.train.cache import open_cache
from s2c_deploy.train.data import hold_out
from s2c_deploy.train.loop import TrainResult, check_run, train
from s2c_deploy.train.settings import TrainSettings

__all__ = ["TrainResult", "TrainSettings", "check_run", "hold_out", "open_cache", "train"]
