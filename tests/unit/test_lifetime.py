"""Native memory under other threads and in other processes."""

from __future__ import annotations

import os
import threading
import time

import pytest

from s2c_deploy.errors import EngineError, InputError
from s2c_deploy.lifetime import Lifetime


def test_closing_waits_for_whoever_is_inside() -> None:
    lifetime, inside, events = Lifetime("thing"), threading.Event(), list[str]()

    def work() -> None:
        with lifetime.use():
            inside.set()
            time.sleep(0.05)
            events.append("worked")

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(10)
    assert lifetime.close()
    events.append("closed")
    thread.join()
    assert events == ["worked", "closed"]


def test_nobody_comes_in_afterwards_and_memory_is_freed_once() -> None:
    lifetime = Lifetime("thing")
    assert lifetime.close()
    assert not lifetime.close()
    with pytest.raises(InputError, match="this thing is closed"), lifetime.use():
        pass


def test_one_thread_may_come_in_twice() -> None:
    lifetime = Lifetime("thing")
    with lifetime.use(), lifetime.use():
        pass
    assert lifetime.close()


def test_an_error_inside_lets_go() -> None:
    lifetime = Lifetime("thing")
    with pytest.raises(ZeroDivisionError), lifetime.use():
        raise ZeroDivisionError
    assert lifetime.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_may_not_use_it_even_while_its_lock_was_held() -> None:
    lifetime, read_end = Lifetime("thing"), os.pipe()
    with lifetime._changed:  # another thread could have held it
        child = os.fork()
        if child == 0:
            try:
                lifetime.enter()
            except EngineError as error:
                os.write(read_end[1], str(error).encode())
            os.write(read_end[1], b"; freed" if lifetime.close() else b"; kept")
            os._exit(0)
    os.close(read_end[1])
    with os.fdopen(read_end[0], "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    assert f"opened in process {os.getpid()}" in said
    assert said.endswith("; kept")
