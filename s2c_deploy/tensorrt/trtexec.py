"""Command lines of trtexec and tensorrt_rtx for a bundle's graphs: shapes and flags as ``s2c-deploy build`` has them.

What they build, s2c-deploy does not load (no record of this user stands for it), but any other loader does; and they
are the quickest way to time one graph on a GPU.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s2c_deploy.errors import InputError
from s2c_deploy.formats.bundle import Bundle, chosen_graphs
from s2c_deploy.runtime.profiles import DEFAULT_PROFILE, Profile, Shape

#: Tool by library: TensorRT 8.6 takes precision from flags; 10 and later, and RTX, from the graph's types.
TOOLS = {"8.6": "trtexec", "10": "trtexec", "11": "trtexec", "rtx": "tensorrt_rtx"}


@dataclass(frozen=True, kw_only=True)
class Command:
    """One graph's commands, as arguments of a process."""

    graph: str
    precision: str
    #: Writes the engine.
    build: tuple[str, ...]
    #: Runs it at the typical size.
    time: tuple[str, ...]

    def text(self) -> str:
        """Both for a POSIX shell."""
        return f"{shlex.join(self.build)}\n{shlex.join(self.time)}"


def commands(
    bundle: Bundle,
    folder: Path,
    *,
    version: str = "10",
    precision: str = "float16",
    profile: Profile = DEFAULT_PROFILE,
    graphs: Sequence[str] = (),
) -> list[Command]:
    """The commands of some graphs, by default all, in the order of coding; engines and logs go to ``folder``.

    version: one of TOOLS; precision: float16 for the FP16 versions of g_a, h_a and g_s, or float32.
    InputError for an unknown version, precision or graph; BundleError where there are no FP16 graphs.
    """
    if version not in TOOLS:
        raise InputError(f"version: expected {', '.join(TOOLS)}, found {version!r}")
    if precision not in ("float32", "float16"):
        raise InputError(f"precision: expected float32, float16, found {precision!r}")
    chosen = chosen_graphs(bundle, graphs)
    return [_command(bundle, name, folder, version, precision, profile) for name in chosen]


def _command(bundle: Bundle, name: str, folder: Path, version: str, precision: str, profile: Profile) -> Command:
    source = bundle.graph(name, precision)
    half = source != bundle.graph(name)
    tool, engine = TOOLS[version], folder / f"{source.stem}.engine"
    shapes = profile.shapes(bundle.manifest["graphs"][name]["inputs"])
    build = [tool, f"--onnx={source}", f"--saveEngine={engine}", "--skipInference"]
    build += [f"--{kind}Shapes={_shapes(shapes, i)}" for i, kind in enumerate(("min", "opt", "max"))]
    build += _precision_flags(bundle, name, version, half)
    time = [tool, f"--loadEngine={engine}", f"--shapes={_shapes(shapes, 1)}", "--useSpinWait", "--noDataTransfers"]
    return Command(graph=name, precision="float16" if half else "float32", build=tuple(build), time=tuple(time))


def _precision_flags(bundle: Bundle, name: str, version: str, half: bool) -> list[str]:
    """TF32 stays on everywhere: the exact graphs' operands are integers below 2^11, which it holds."""
    if version == "10":
        return ["--stronglyTyped"]
    if version in ("11", "rtx"):  # which know nothing else
        return []
    # As `build` does, so that an engine needs no cuBLAS or cuDNN beside it; later versions have no such tactics.
    flags = ["--tacticSources=-CUBLAS,-CUBLAS_LT,-CUDNN"]
    if half:
        nodes = bundle.manifest["float16"]["graphs"][name]["float32_nodes"]
        flags += ["--fp16", "--precisionConstraints=obey"]
        flags += [f"--layerPrecisions={','.join(f'{node}:fp32' for node in nodes)}"] if nodes else []
    return flags


def _shapes(shapes: dict[str, tuple[Shape, Shape, Shape]], which: int) -> str:
    return ",".join(f"{name}:{'x'.join(map(str, of[which]))}" for name, of in shapes.items())
