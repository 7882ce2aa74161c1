"""Columns that threads fill: order, growth, and blocks that never come."""

from threading import Thread

import numpy as np
import pytest

from eventsnn.encode._room import Room


def block(first, counts):
    values = np.concatenate([np.full(n, first + i) for i, n in enumerate(counts)]).astype(np.int64)
    return (values, *(values.astype(np.uint16) + k for k in (1, 2, 3))), np.cumsum(counts)


@pytest.mark.parametrize("counts", [[1, 1, 1, 1, 1, 1], [0, 0, 1, 900, 0, 5000], [5000, 0, 0, 0, 0, 0], [0] * 6])
def test_blocks_lie_in_order_whoever_comes_first(counts):
    room = Room(6)
    blocks = [(first, *block(first, counts[first : first + 2])) for first in (4, 2, 0)]
    threads = [Thread(target=room.put, args=arguments) for arguments in blocks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    columns, offsets = room.columns()
    assert offsets.tolist() == np.cumsum([0, *counts]).tolist()
    expected = np.repeat(np.arange(6), counts)
    for k, (name, kind) in enumerate({"time": "i8", "channel": "u2", "y": "u2", "x": "u2"}.items()):
        assert columns[name].dtype == kind
        np.testing.assert_array_equal(columns[name], expected + k)


def test_nobody_waits_for_a_block_that_failed():
    room = Room(4)
    waiting = Thread(target=room.put, args=(2, *block(2, [3, 3])))
    waiting.start()
    room.fail()
    waiting.join(60)
    assert not waiting.is_alive()
