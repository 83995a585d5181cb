"""Arrays by what they hold."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

#: H x W x 3, RGB.
Pixels = npt.NDArray[np.uint8]
#: What networks take and give; exact ones hold integers in it.
FloatArray = npt.NDArray[np.float32]
#: What is coded, and the tables it is coded with.
Symbols = npt.NDArray[np.int16]
Indexes = npt.NDArray[np.uint8]
