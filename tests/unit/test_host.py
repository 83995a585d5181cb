"""What is asked of the machine, and of its C library."""

from __future__ import annotations

import ctypes
import platform
import resource
import sys

import pytest

from s2c_deploy.host import freed_arrays_kept, multiplies_bytes

BLOCK, PAGE = 2**26, 2**12


def fresh_pages(times: int) -> int:
    """How many pages the system had to find while a large block was taken, written to and freed."""
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        block = ctypes.c_void_p(library.malloc(ctypes.c_size_t(BLOCK)))
        ctypes.memset(block, 1, BLOCK)
        library.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory in its own way")
def test_freed_arrays_are_kept_and_then_given_back() -> None:
    with freed_arrays_kept():
        fresh_pages(1)
        assert fresh_pages(4) < BLOCK // PAGE // 4
    assert fresh_pages(1) > BLOCK // PAGE // 2


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_multiplies_bytes_only_where_the_processor_says_so() -> None:
    with open("/proc/cpuinfo") as file:
        assert multiplies_bytes() == ("_vnni" in file.read())
