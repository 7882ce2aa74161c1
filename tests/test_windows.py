"""Windows of a recording as channels of one sample, held against a loop over its events."""

import numpy as np
import pytest

from eventsnn import Events
from eventsnn.encode import ByTime, CameraEncoder, EveryEvent, FirstSpike, Polarity, Whole, WindowChannels

DTYPE = [("t", "i8"), ("x", "u2"), ("y", "u2"), ("p", "u1")]
FIRST = WindowChannels(CameraEncoder(ByTime(100, origin=0), FirstSpike()), 3)


def recording(n, until, seed=0):
    rng = np.random.default_rng(seed)
    events = np.empty(n, DTYPE)
    for name, most in (("t", until), ("x", 4), ("y", 3), ("p", 2)):
        events[name] = rng.integers(0, most, n)
    events.sort(order="t")
    return events


def spikes(events):
    columns = (events.sample_index(), events.time, events.channel, events.y, events.x)
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


def test_each_window_has_channels_of_its_own():
    arrays = [recording(60, 400), recording(9, 90, seed=1), recording(0, 1)]
    found = FIRST.encode(arrays, [4, 0, 7], sensor=(4, 3))
    first = {}
    for sample, array in enumerate(arrays):
        for t, x, y, p in array.tolist():
            if t < 300:
                key = (sample, 2 * (t // 100) + p, y, x)
                first[key] = min(t % 100, first.get(key, 100))
    assert spikes(found) == sorted((sample, t, c, y, x) for (sample, c, y, x), t in first.items())
    assert (found.shape, found.duration, found.unit) == ((6, 3, 4), 100, "us")
    assert found.labels.tolist() == [4, 0, 7]
    assert FIRST.output_shape((2, 3, 4)) == found.shape


def test_every_event_is_kept_and_labels_come_with_events():
    arrays = [recording(50, 300), recording(20, 250, seed=1)]
    whole = Events.from_structured(arrays, shape=(2, 3, 4), labels=[1, 0])
    every = WindowChannels(CameraEncoder(ByTime(100, origin=0), EveryEvent(), [Polarity("merged")]), 3)
    found = every.encode(whole)
    expected = [(i, t % 100, t // 100, y, x) for i, array in enumerate(arrays) for t, x, y, _ in array.tolist()]
    assert spikes(found) == sorted(expected)
    assert found.labels.tolist() == [1, 0]


def test_it_comes_back_from_plain_values():
    assert WindowChannels.from_dict(FIRST.to_dict()) == FIRST
    with pytest.raises(ValueError, match="expects the keys count, encoder, type"):
        WindowChannels.from_dict({"type": "WindowChannels", "count": 3})


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="cuts ByTime"):
        WindowChannels(CameraEncoder(Whole(), FirstSpike(10)), 3)
    with pytest.raises(ValueError, match="count expects an integer of at least 1"):
        WindowChannels(FIRST.encoder, 0)
    with pytest.raises(ValueError, match="got 1 with 2"):
        FIRST.encode([recording(5, 100)], [1, 2], sensor=(4, 3))
    with pytest.raises(ValueError, match="got 0 with 0"):
        FIRST.encode([])
