"""S2CFormer image compression, deployed: bundles, streams, engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s2c_deploy.codec.codec import Codec
    from s2c_deploy.codec.functions import decode, encode
    from s2c_deploy.pillow import register_s2c_opener

__all__ = ["Codec", "__version__", "decode", "encode", "register_s2c_opener"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Loads the codec, and numpy with it, when it is asked for: ``s2c-deploy --help`` needs neither."""
    if name == "Codec":
        from s2c_deploy.codec.codec import Codec

        return Codec
    if name in ("encode", "decode"):
        from s2c_deploy.codec import functions

        return getattr(functions, name)
    if name == "register_s2c_opener":
        from s2c_deploy.pillow import register_s2c_opener

        return register_s2c_opener
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
