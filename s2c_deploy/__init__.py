"""S2CFormer image compression, deployed: bundles, streams, engines."""

from s2c_deploy.codec import Codec

__all__ = ["Codec", "__version__"]
__version__ = "0.1.0"
