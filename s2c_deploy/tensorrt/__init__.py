"""Bundles to TensorRT and TensorRT-RTX engines: build, identity, store.  No torch, and no GPU where RTX is built."""

from s2c_deploy.runtime.profiles import DEFAULT_PROFILE, Profile
from s2c_deploy.tensorrt.compile import BuildOptions
from s2c_deploy.tensorrt.library import TARGETS, installed_targets, load_library
from s2c_deploy.tensorrt.store import EngineStore, VerifiedEngine, deserialize

__all__ = [
    "DEFAULT_PROFILE",
    "TARGETS",
    "BuildOptions",
    "EngineStore",
    "Profile",
    "VerifiedEngine",
    "deserialize",
    "installed_targets",
    "load_library",
]
