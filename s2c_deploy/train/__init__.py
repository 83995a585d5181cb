"""Training of S2CFormer models at variable rate."""

from s2c_deploy.train.cache import open_cache
from s2c_deploy.train.data import hold_out
from s2c_deploy.train.folder import Request, train_folder
from s2c_deploy.train.loop import TrainResult, check_run, train
from s2c_deploy.train.parallel import choose_device
from s2c_deploy.train.settings import SYNTHESIS_LMBDA_WEIGHT, SynthesisOnly, TrainSettings

__all__ = [
    "SYNTHESIS_LMBDA_WEIGHT",
    "Request",
    "SynthesisOnly",
    "TrainResult",
    "TrainSettings",
    "check_run",
    "choose_device",
    "hold_out",
    "open_cache",
    "train",
    "train_folder",
]
