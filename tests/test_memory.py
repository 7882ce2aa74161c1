"""Memory that is given away: its place, and when it is given again."""

import mmap

import numpy as np
import pytest

from eventsnn.memory import empty, scratch, scratch_arrays, scratch_empty


@pytest.mark.parametrize(
    ("shape", "dtype"), [((0,), np.int64), ((3, 5), np.float32), ((7, 2**18), np.uint16), (9, bool)]
)
def test_arrays_begin_at_a_cache_line_and_can_be_written(shape, dtype):
    for array in (empty(shape, dtype), scratch_empty(np.empty(shape).shape, dtype)):
        assert array.shape == np.empty(shape).shape
        assert array.dtype == dtype
        assert array.ctypes.data % 64 == 0 or array.size == 0
        array[...] = 1
        assert (array == 1).all()


def test_scratch_memory_is_given_again_and_never_twice_at_a_time():
    def pieces():
        with scratch():
            arrays = [scratch_empty((n, 1000), kind) for n, kind in ((1, np.int32), (700, np.float32), (3, np.uint8))]
            with scratch():
                arrays.append(scratch_empty((50,), np.int64))
            for value, array in enumerate(arrays):
                array[...] = value
            assert [set(array.ravel().tolist()) for array in arrays] == [{0}, {1}, {2}, {3}]
            return arrays

    pieces()
    places = [array.ctypes.data for array in pieces()[:3]]
    assert [array.ctypes.data for array in pieces()[:3]] == places


def test_arrays_asked_for_together_are_as_those_asked_for_one_after_another():
    wanted = [((3, 5), np.int32), ((0,), np.uint8), ((2000,), np.int64), ((7,), np.uint16)]

    def places(arrays):
        assert [(array.shape, array.dtype) for array in arrays] == wanted
        for value, array in enumerate(arrays):
            array[...] = value
        assert [set(array.ravel().tolist()) for array in arrays] == [{0}, set(), {2}, {3}]
        return [array.ctypes.data for array in arrays]

    found = []
    for together in (True, False, True, True):
        with scratch():
            arrays = scratch_arrays(*wanted) if together else [scratch_empty(*each) for each in wanted]
            found.append(places(arrays))
    assert found[1] == found[2] == found[3]
    assert len(places(scratch_arrays(*wanted))) == len(wanted)


def test_scratch_memory_is_let_go_after_an_error():
    kept = np.zeros(0)

    def fail():
        nonlocal kept
        with scratch():
            kept = scratch_empty((4,))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    outside = scratch_empty((4,))
    kept[...], outside[...] = 1, 2
    assert (kept == 1).all()


def test_large_memory_is_given_again_when_no_view_of_it_is_left(monkeypatch):
    monkeypatch.setattr("eventsnn.memory._pages_kept", [])  # earlier tests leave memory that could be given instead
    first = empty(2**22, np.uint8)
    place, view = first.ctypes.data, first[5:10]
    view[...] = 7
    del first
    other = empty(2**22, np.uint8)
    other[...] = 1
    assert (view == 7).all()
    del view
    again = empty(2**22, np.uint8)
    again[...] = 2
    assert (other == 1).all()
    if hasattr(mmap, "MADV_HUGEPAGE"):
        assert again.ctypes.data == place
