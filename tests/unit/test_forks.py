"""A fork waits for the threads inside, and they for a fork that has begun; nobody waits for ever."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

#: Whether a child is forked while a thread is inside: it would see the thread's mark half written.
WAITS = """
import os, signal, threading, time
from s2c_deploy.runtime.forks import GATE
signal.alarm(60)  # rather than wait for ever
torn, going = [], True
def work():
    while going:
        with GATE.inside():
            torn.append(1)
            time.sleep(0.001)
            torn.pop()
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
seen = []
for _ in range(20):
    if (child := os.fork()) == 0:
        signal.alarm(60)
        with GATE.inside():  # open again, in the child as well
            os._exit(len(torn))
    seen.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
going = False
for thread in threads: thread.join()
print(sum(seen))
"""

#: A thread that forks from inside, two that fork at once, and a fork of the fork.
FROM_INSIDE = """
import os, signal, threading
from s2c_deploy.runtime.forks import GATE
signal.alarm(60)
def fork():
    if (child := os.fork()) == 0:
        signal.alarm(60)
        if (grandchild := os.fork()) == 0:
            with GATE.inside(): os._exit(0)
        os._exit(os.waitpid(grandchild, 0)[1] and 1)
    return os.waitpid(child, 0)[1]
codes = []
with GATE.inside():
    codes.append(fork())
threads = [threading.Thread(target=lambda: codes.append(fork())) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
with GATE.inside(): print(codes)
"""


@pytest.mark.parametrize(("script", "expected"), [(WAITS, "0\n"), (FROM_INSIDE, "[0, 0, 0, 0, 0]\n")])
def test_nobody_is_torn_and_nobody_waits_for_ever(script: str, expected: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, expected), done.stderr
