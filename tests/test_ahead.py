"""Reading ahead: same items, same errors, one at a time, and no thread that stays."""

import threading
from contextlib import closing

import pytest

from eventsnn.ahead import read_ahead


@pytest.fixture
def running():
    """Return a function that lists the threads that read ahead, without those that others have left."""
    before = threading.enumerate()
    return lambda: [t for t in threading.enumerate() if t.name == "eventsnn-read-ahead" and t not in before]


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_items_come_in_order(n, running):
    assert list(read_ahead(range(n))) == list(range(n))
    assert not running()


def test_the_next_item_is_made_while_the_caller_works():
    made = threading.Event()

    def source():
        yield 0
        made.set()
        yield 1

    items = read_ahead(source())
    assert next(items) == 0
    assert made.wait(timeout=60)
    assert list(items) == [1]


def test_at_most_one_item_waits(running):
    made = []
    items = read_ahead(made.append(i) or i for i in range(9))
    for i in range(3):
        assert next(items) == i
    for thread in running():
        thread.join()
    assert made == [0, 1, 2, 3]
    items.close()
    assert not running()


def test_errors_come_up_in_their_place(running):
    def source():
        yield 0
        raise OSError("unreadable")

    items = read_ahead(source())
    assert next(items) == 0
    with pytest.raises(OSError, match="unreadable"):
        next(items)
    assert not running()


def test_no_thread_stays_when_the_caller_fails(running):
    def work():
        with closing(read_ahead(range(9))) as items:
            return [1 / item for item in items]

    with pytest.raises(ZeroDivisionError):
        work()
    assert not running()
