"""What is asked of the machine, and of its C library."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from s2c_deploy.host import multiplies_bytes

#: How many pages the system had to find while blocks were taken, written to and freed: meanwhile, and afterwards.  In a
#: process of its own, whose first thread it is.
PROGRAM = """
import ctypes, resource
from s2c_deploy.host import freed_arrays_kept
BLOCK = 2**26
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
def fresh_pages(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        block = ctypes.c_void_p(library.malloc(ctypes.c_size_t(BLOCK)))
        ctypes.memset(block, 1, BLOCK)
        library.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
with freed_arrays_kept():
    fresh_pages(1)
    kept = fresh_pages(4)
print(kept, fresh_pages(1), BLOCK // resource.getpagesize())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory in its own way")
def test_freed_arrays_are_kept_and_then_given_back() -> None:
    told = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    kept, afterwards, pages = map(int, told.split())
    assert kept < pages // 4
    assert afterwards > pages // 2


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_multiplies_bytes_only_where_the_processor_says_so() -> None:
    with open("/proc/cpuinfo") as file:
        assert multiplies_bytes() == ("_vnni" in file.read())
