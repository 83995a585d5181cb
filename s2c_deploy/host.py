"""This machine: the processors for this process; GPU and driver, asked of the CUDA driver without a CUDA package."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

#: Where the system does not say what is free.
_DEFAULT_MEMORY = 4 * 2**30
#: A container's limit, and what it has taken: control groups version 2, and 1.
_CONTAINERS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
#: M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h: set once, they no longer grow with what is freed.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: What the second grows to by itself, and the first with it.
_USUAL_MMAP, _USUAL_TRIM = 2**25, 2**26
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR


@dataclass(frozen=True, kw_only=True)
class Host:
    """The machine, as far as engines depend on it; None where there is no GPU."""

    #: As "linux-x86_64".
    os: str
    gpu: str | None = None
    #: As "8.9".
    compute_capability: str | None = None
    #: The CUDA version that it serves, as "12.4".
    driver: str | None = None


def usable_processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int:
    """Bytes that this process may still take without driving others out: of the machine, or of its container."""
    free = _DEFAULT_MEMORY
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable:")))
    for limit, used in _CONTAINERS:
        with suppress(OSError, ValueError):  # "max" is no number: no limit
            free = min(free, int(Path(limit).read_text()) - int(Path(used).read_text()))
    return max(free, 0)


def memory_to_take() -> int:
    """Bytes that one program takes unless it is told otherwise: three quarters of what is free."""
    return 3 * free_memory() // 4


def return_freed_arrays() -> None:
    """From now on the C library gives freed blocks of 1 MiB and more back to the system at once, where it would keep
    up to 32 MiB each: for long work on large arrays, whose peak is what counts.  Does nothing without glibc."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 2**20)


@contextmanager
def freed_arrays_kept() -> Iterator[None]:
    """Meanwhile the C library keeps freed blocks of any size for the next ones; at the end it gives them back.

    For work that takes and frees the same arrays in every step: pages fresh from the system cost as much time as the
    arithmetic on them.  Of the whole process, and not for several threads at once; threads besides the first one give
    back blocks of 64 MB and more all the same.  Does nothing without glibc.
    """
    try:
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, 2**31 - 1)
        library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    except (AttributeError, OSError):
        yield
        return
    try:
        yield
    finally:
        library.mallopt(_MMAP_THRESHOLD, _USUAL_MMAP)
        library.mallopt(_TRIM_THRESHOLD, _USUAL_TRIM)
        library.malloc_trim(0)


def multiplies_bytes() -> bool:
    """Whether the processor multiplies bytes and adds the products in 32 bits at once (VNNI).

    Older ones of x86 add pairs of products in 16 bits first, which saturate.
    """
    return bool(_processor_words() & {"avx512_vnni", "avx_vnni"})


def multiplies_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16; without instructions for it, it is emulated, some ten times slower."""
    return bool(_processor_words() & {"avx512_bf16", "amx_bf16", "bf16"}) or platform.machine() == "arm64"


def _processor_words() -> set[str]:
    with suppress(OSError):
        return set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    return set()


def this_host() -> Host:
    """The first GPU that the driver shows; no GPU where there is no driver or it refuses."""
    system = f"{platform.system()}-{platform.machine()}".lower()
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Host(os=system)
    version, device, major, minor = (ctypes.c_int() for _ in range(4))
    name = ctypes.create_string_buffer(256)
    calls: tuple[Callable[[], int], ...] = (
        lambda: cuda.cuInit(0),
        lambda: cuda.cuDriverGetVersion(ctypes.byref(version)),
        lambda: cuda.cuDeviceGet(ctypes.byref(device), 0),
        lambda: cuda.cuDeviceGetName(name, len(name), device),
        lambda: cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device),
        lambda: cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device),
    )
    if any(call() != 0 for call in calls):
        return Host(os=system)
    return Host(
        os=system,
        gpu=name.value.decode(errors="replace"),
        compute_capability=f"{major.value}.{minor.value}",
        driver=f"{version.value // 1000}.{version.value % 1000 // 10}",
    )
