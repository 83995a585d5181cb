"""What a batch is asked to do, and what of it decides the bytes that it writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from s2c_deploy.contract import MAX_PIXELS
from s2c_deploy.presets import FULL

#: compress: pictures to streams; decompress: streams to pictures; transcode: streams to streams of another quality.
Operation = Literal["compress", "decompress", "transcode"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A batch, as the user asks for it."""

    operation: Operation
    #: A folder, or the address of one in object storage.
    source: str
    target: str
    #: Of the results' names, ".s2c" or a picture's.
    suffix: str = ".s2c"
    #: Folder of the bundle that streams are written with; of ``decompress``, None finds each stream's own.
    bundle: Path | None = None
    backend: str = "auto"
    #: Of a process's engine.
    threads: int = 1
    #: 1 to 8, as a stream carries it.
    quality: float = 4.0
    #: Side in pixels, or 0.
    tile: int = 0
    #: 0 to 9, as ``Codec.compress`` has it.
    effort: int = 0
    #: CSS colour, or None.
    background: str | None = None
    strip_metadata: bool = False
    drop_icc: bool = False
    #: Which g_s decodes, and its precision.
    synthesis: str = FULL
    precision: str = "auto"
    #: Of a picture; None: the format's own bounds.
    max_pixels: int | None = None
    follow_links: bool = False
    #: Does everything again, over what is there.
    force: bool = False

    @property
    def most_pixels(self) -> int:
        """Of a picture that is read."""
        return MAX_PIXELS if self.max_pixels is None else self.max_pixels


def settings_of(request: Request, source: str, fingerprint: str | None) -> dict[str, object]:
    """What the results depend on: a batch goes on only with the same.  JSON's types.

    source: how the table names it; fingerprint: of the bundle that writes, in hex.
    """
    settings: dict[str, object] = {"operation": request.operation, "source": source}
    if request.operation != "decompress":
        settings |= {"quality": request.quality, "tile": request.tile, "effort": request.effort}
    if request.operation == "compress":
        settings |= {"background": request.background, "drop_icc": request.drop_icc}
    else:
        settings |= {"synthesis": request.synthesis, "precision": request.precision}
    return settings | {"suffix": request.suffix, "strip_metadata": request.strip_metadata, "bundle": fingerprint}


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One file to do; names are relative, as ``os.fsdecode`` gives them."""

    source: str
    target: str
    #: Bytes of the source when it was listed.
    size: int
    #: When the source was last changed, nanoseconds since 1970.
    modified: int
