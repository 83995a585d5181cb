"""Stages in threads of their own: order, errors, how far ahead they run, and that nothing is left behind."""

import threading

import pytest

from s2c_deploy.codec.prefetch import ahead


def test_items_come_in_order_from_another_thread():
    threads = []

    def items():
        for k in range(100):
            threads.append(threading.get_ident())
            yield k

    assert list(ahead(items())) == list(range(100))
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


def test_the_next_item_is_made_while_the_last_one_is_used():
    """Were the stages to take turns, the first would wait here for an event that only the second sets."""
    used = threading.Event()

    def items():
        yield 1
        assert used.wait(10)
        yield 2

    results = ahead(items())
    assert next(results) == 1
    used.set()
    assert next(results) == 2


@pytest.mark.parametrize("depth", [1, 3])
def test_no_more_are_made_than_asked_for(depth):
    made = []
    results = ahead((made.append(k) or k for k in range(20)), depth)
    for k in range(10):
        assert next(results) == k
        assert len(made) <= k + 1 + depth
    results.close()
    assert len(made) <= 10 + depth


def test_an_error_comes_where_its_item_would_have():
    def items():
        yield 1
        yield 2
        raise ValueError("the third")

    results = ahead(items())
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(ValueError, match="the third"):
        next(results)
    assert list(results) == []


def test_no_thread_is_left():
    before = threading.active_count()
    results = ahead(iter(range(10)))
    next(results)
    results.close()
    assert list(ahead(iter(()))) == []
    for thread in threading.enumerate():
        if thread.name == "ahead":
            thread.join(10)
    assert threading.active_count() == before


def test_leaving_does_not_wait_for_an_item_that_never_comes():
    waiting, never = threading.Event(), threading.Event()

    def items():
        yield 1
        waiting.set()
        never.wait(60)

    for item in ahead(items()):
        assert item == 1
        assert waiting.wait(10)
        break
    assert not never.is_set()
    never.set()
