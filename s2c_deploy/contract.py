"""What formats, networks, proof and coder agree on.  Another value of any of them is another format.

``verify/proof.py`` alone has limits of its own: it must not believe what the exporter believes.
"""

from __future__ import annotations

#: Side to which pictures are padded: the hyper-latent is at 1/64.
ALIGNMENT = 64


def padded(side: int) -> int:
    """A side of a picture in whole units of 64."""
    return -(-side // ALIGNMENT) * ALIGNMENT


#: Pixels per side of a latent and of a hyper-latent.
LATENT_STRIDE, HYPER_STRIDE = 16, 64

#: Side of the windows that attention looks at, in positions of its stage, from the first row and column on.
ATTENTION_WINDOW = 8

#: Scale indexes, and so tables of the latent, are 0..63.
SCALE_LEVELS = 64
#: Means are in 1/16 steps, up to 2047 whole symbols.
MEAN_STEPS, MEAN_LIMIT = 16, 2047
#: Hyper-latent symbols stay in the range that h_s is proven for, latent ones in the coder's.
Z_LIMIT, SYMBOL_LIMIT = 127, 2**15 - 1
#: Largest mean, in 1/16 steps.
PARAMETER_LIMIT = MEAN_STEPS * MEAN_LIMIT
#: Largest y_hat in 1/16 steps: the coder's largest symbol and the largest mean.
LARGEST_LATENT = MEAN_STEPS * SYMBOL_LIMIT + PARAMETER_LIMIT
#: What h_s and the anchor graphs clip their outputs to; features are still to be added to others, and have a sign.
HYPER_LIMIT, FEATURE_LIMIT = 255, 2**15 - 1
#: Ranges of the exact graphs' inputs, by tensor name.  z_hat: the decoder refuses more.
EXACT_INPUTS = {
    "z_hat": (-Z_LIMIT, Z_LIMIT),
    "hyper": (0, HYPER_LIMIT),
    "features": (-FEATURE_LIMIT, FEATURE_LIMIT),
    "y_prev": (-LARGEST_LATENT, LARGEST_LATENT),
    "y_cur": (-LARGEST_LATENT, LARGEST_LATENT),
}

#: Sums of integers below this are exact in float32.
EXACT_LIMIT = 2**24
#: Operands below this are exact in TF32, which tensor cores multiply.
OPERAND_LIMIT = 2**11

#: Larger pictures, and larger tiles, are refused before anything is allocated, unless the caller says otherwise.  A
#: pixel of a picture is 3 bytes, one of a tile some 630 while its networks run (S2C-Conv `small`): 0.4 and 21 GB.
MAX_PIXELS = 2**27
MAX_TILE_PIXELS = 2**25

#: Libraries that engines are built with; so are the folders called that hold them in a bundle.
ENGINE_TARGETS = ("tensorrt", "tensorrt-rtx")
