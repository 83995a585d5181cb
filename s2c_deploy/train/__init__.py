"""Training of S2CFormer models at variable rate."""

from s2c_deploy.train.loop import TrainSettings, train

__all__ = ["TrainSettings", "train"]
