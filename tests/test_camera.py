"""Camera encoders: equal to plain Python, whatever the chunks; labels, JSON, files and errors."""

import itertools
import json
from functools import partial
from pathlib import Path

import camera_oracle as oracle
import numpy as np
import pytest
from camera_oracle import HEIGHT, WIDTH
from hypothesis import given, settings
from hypothesis import strategies as st

import eventsnn as es
from eventsnn import encode as en
from eventsnn.encode import _cutting
from eventsnn.io import EVENT_DTYPE, Chunk, Recording, RecordingWriter


def array_of(events):
    return np.array(events, EVENT_DTYPE)[["x", "y", "t", "p"]] if events else np.empty(0, EVENT_DTYPE)


def decode_blocks(events, bounds, size, tally):
    array = np.array(events, EVENT_DTYPE)
    edges = [0, *bounds, len(array)]
    for a, b in itertools.pairwise(edges):
        part = array[a:b]
        yield Chunk(*(np.ascontiguousarray(part[name]) for name in ("t", "x", "y", "p")))


def recording(events, bounds=()):
    decode = partial(decode_blocks, events, sorted(min(b, len(events)) for b in bounds))
    return Recording(Path(__file__), "a format", (WIDTH, HEIGHT), decode)


def spikes_of(sample):
    return list(zip(*(getattr(sample, name).tolist() for name in ("time", "channel", "y", "x")), strict=True))


@settings(max_examples=80, deadline=None)
@given(oracle.encoders(), oracle.recordings())
def test_equal_to_plain_python(encoder, events):
    shape = encoder.output_shape((2, HEIGHT, WIDTH))
    expected = oracle.windows(events, encoder.filters, encoder.cut)
    found = list(encoder.samples(array_of(events), sensor=(WIDTH, HEIGHT)))
    assert [(sample.start, sample.length) for sample in found] == [window[:2] for window in expected]
    for sample, window in zip(found, expected, strict=True):
        assert spikes_of(sample.events) == oracle.spikes(window, encoder.latency, shape)
        assert sample.events.labels == window[2]
    whole = encoder.encode(array_of(events), sensor=(WIDTH, HEIGHT))
    assert (len(whole), whole.shape) == (len(expected), shape)
    es.Events(**{name: getattr(whole, name) for name in whole.__dataclass_fields__})  # is valid


@settings(max_examples=50, deadline=None)
@given(oracle.encoders(), oracle.recordings(), st.lists(st.integers(0, 40), max_size=6))
def test_results_do_not_depend_on_chunks(encoder, events, bounds):
    expected = encoder.encode(array_of(events), sensor=(WIDTH, HEIGHT))
    assert encoder.encode(recording(events, bounds)).equals(expected)
    assert encoder.encode(recording(events, range(len(events)))).equals(expected)


@given(oracle.encoders())
def test_an_encoder_is_a_value(encoder):
    again = en.CameraEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
    assert again == encoder
    assert hash(again) == hash(encoder)


EVENTS = [(10, 0, 0, 1), (12, 1, 0, 0), (15, 0, 0, 1), (21, 6, 4, 0)]


def test_windows_by_hand():
    encoder = en.CameraEncoder(en.ByTime(5), en.EveryEvent())
    found = encoder.encode(array_of(EVENTS), 3, sensor=(WIDTH, HEIGHT))
    assert (found.unit, found.duration, found.labels.tolist()) == ("us", 5, [3, 3, 3])
    assert found.time.tolist() == [0, 2, 0, 1]
    assert found.offsets.tolist() == [0, 2, 3, 4]
    complete = en.CameraEncoder(en.ByTime(5, incomplete=False), en.EveryEvent())
    assert len(complete.encode(array_of(EVENTS), sensor=(WIDTH, HEIGHT))) == 2


def test_a_time_surface_by_hand():
    encoder = en.CameraEncoder(en.Whole(12), en.TimeSurface(10.0, en.Linear(10)))
    found = encoder.encode(array_of(EVENTS), sensor=(WIDTH, HEIGHT))
    # exp(0) for the event in the last microsecond; exp(-0.6) = 0.549 and exp(-0.9) = 0.407
    assert spikes_of(found) == [(0, 0, 4, 6), (4, 1, 0, 0), (5, 0, 0, 1)]


def test_counts_by_hand():
    events = EVENTS * 2  # but for the order, which does not count here
    encoder = en.CameraEncoder(en.Whole(), en.EventCount(en.Linear(4)), [en.Polarity("merged")])
    assert spikes_of(encoder.encode(array_of(sorted(events)), sensor=(WIDTH, HEIGHT))) == [
        (0, 0, 0, 0),
        (2, 0, 0, 1),
        (2, 0, 4, 6),
    ]


def test_filters_by_hand():
    def left(*filters):
        encoder = en.CameraEncoder(en.Whole(12), en.EveryEvent(), filters)
        return encoder.encode(array_of(EVENTS), sensor=(WIDTH, HEIGHT)).time.tolist()

    assert left(en.Refractory(5)) == [0, 2, 5, 11]
    assert left(en.Refractory(6)) == [0, 2, 11]
    assert left(en.BackgroundActivity(2)) == [2]
    assert left(en.BackgroundActivity(3)) == [2, 5]
    assert left(en.BackgroundActivity(6, radius=6)) == [2, 5, 11]
    assert left(en.HotPixels([(0, 0)])) == [2, 11]
    assert left(en.Crop(1, 0, 2, 1)) == [2]


def test_filters_remember_across_samples():
    encoder = en.CameraEncoder(en.ByTime(5), en.EveryEvent(), [en.Refractory(6)])
    found = encoder.encode(array_of(EVENTS), sensor=(WIDTH, HEIGHT))
    assert found.offsets.tolist() == [0, 2, 2, 3]


def test_hot_pixels_are_found():
    events = [(t, 3, 2, t % 2) for t in range(100)] + [(100 + i, i % 7, i % 5, 0) for i in range(35)]
    encoder = en.CameraEncoder(en.Whole(), en.EveryEvent(5), [en.Crop(1, 1, 6, 4), en.FindHotPixels(10)])
    assert not encoder.fitted
    with pytest.raises(ValueError, match="fitted first"):
        encoder.encode(recording(events))
    fitted = encoder.fit(recording(events))
    assert fitted.filters[1] == en.HotPixels([(2, 1)])
    assert fitted.fit(recording(events)) is fitted
    assert fitted.encode(recording(events)).n_events == 23  # of 24 pixels in the rectangle, but for the hot one
    mean = en.FindHotPixels(2).found(np.array([[0, 4, 4], [4, 28, 0]]))
    assert mean.pixels == ((1, 1),)  # a mean of 10 over the four that fired
    assert en.FindHotPixels(2.8).found(np.array([[0, 4, 4], [4, 28, 0]])).pixels == ()  # above, not at it


def test_labels_come_from_one_side():
    table = en.ByTable([10, 12], [13, 30], [7, 8])
    encoder = en.CameraEncoder(table, en.EveryEvent(4))
    found = encoder.encode(recording(EVENTS))
    assert found.labels.tolist() == [7, 8]
    assert np.diff(found.offsets).tolist() == [2, 3]
    with pytest.raises(ValueError, match=r"one origin.*\[1, 7\]"):
        encoder.encode(recording(EVENTS), 1)


def test_events_are_recordings_of_their_own():
    arrays = [array_of(EVENTS), array_of(EVENTS[2:])]
    events = es.Events.from_structured(arrays, shape=(2, HEIGHT, WIDTH), labels=[4, 5])
    encoder = en.CameraEncoder(en.ByTime(6, origin=10), en.FirstSpike(), [en.Refractory(6)])
    found = encoder.encode(events)
    assert found.labels.tolist() == [4, 4, 5, 5]
    assert found.time.tolist() == [0, 2, 5, 5, 5]
    with pytest.raises(ValueError, match="'us', got 'bin'"):
        encoder.encode(es.Events.empty((2, 4, 4), 1))
    assert len(encoder.encode(events[:0])) == 0


def test_event_files_are_recordings_too(tmp_path):
    encoder = en.CameraEncoder(en.ByTime(6), en.EveryEvent(), [en.Crop(0, 0, 2, 2)])
    samples = [array_of(EVENTS), array_of(EVENTS[2:])]
    events = es.Events.from_structured(samples, shape=(2, HEIGHT, WIDTH), labels=[4, 5])
    es.io.write(tmp_path / "data.h5", events)
    with es.EventDataset(tmp_path / "data.h5") as dataset:
        assert encoder.encode(dataset).equals(encoder.encode(events))
    es.io.write(tmp_path / "none.h5", events[:0])
    with es.EventDataset(tmp_path / "none.h5") as dataset:
        assert encoder.encode(dataset).equals(encoder.encode(events[:0]))
    es.io.write(tmp_path / "bins.h5", es.Events.empty((2, 4, 4), 1))
    with es.EventDataset(tmp_path / "bins.h5") as dataset, pytest.raises(ValueError, match="'us', got 'bin'"):
        encoder.encode(dataset)


def test_a_converted_recording_keeps_its_clock(tmp_path):
    events = [(1_000_000 + t, *place) for t, *place in EVENTS]
    original = recording(events)
    with RecordingWriter(tmp_path / "converted.h5", WIDTH, HEIGHT) as writer:
        for chunk in original.chunks():
            writer.append(chunk)
    encoder = en.CameraEncoder(en.ByTime(5, origin=999_998), en.EveryEvent())
    with es.EventDataset(tmp_path / "converted.h5") as dataset:
        assert encoder.encode(dataset).equals(encoder.encode(original))


def test_a_stream_is_lazy_and_bounded():
    taken = []

    def decode(size, tally):
        for k in range(1000):
            taken.append(k)
            yield Chunk(*(np.full(10, v, d) for v, d in zip((k * 10, 1, 1, 0), ("i8", "u2", "u2", "u1"), strict=True)))

    lazy = Recording(Path(__file__), "a format", (WIDTH, HEIGHT), decode)
    samples = en.CameraEncoder(en.ByTime(30), en.EveryEvent()).stream(lazy)
    assert [next(samples).n_events for _ in range(3)] == [30, 30, 30]
    assert len(taken) == 10  # the tenth ends the third window
    whole = en.CameraEncoder(en.Whole(100), en.EveryEvent()).encode(lazy)
    assert (whole.n_events, len(taken)) == (100, 21)


def test_a_data_set_says_how_it_was_made(tmp_path):
    encoder = en.CameraEncoder(en.ByTime(5), en.TimeSurface(10.0, en.EqualBins(4)), [en.Refractory(3)])
    events = encoder.encode(recording(EVENTS), 1)
    es.io.write(tmp_path / "data.h5", events, encoder=encoder)
    with es.EventDataset(tmp_path / "data.h5") as dataset:
        assert dataset.load().equals(events)
        assert en.CameraEncoder.from_dict(dataset.provenance["encoder"]) == encoder


def test_nothing_at_all():
    encoder = en.CameraEncoder(en.ByTime(5), en.FirstSpike())
    found = encoder.encode(recording([]))
    assert (len(found), found.unit, found.duration) == (0, "us", 5)
    assert len(en.CameraEncoder(en.Whole(5), en.FirstSpike()).encode(recording([]), 2)) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: en.ByTime(0), "length expects an integer of at least 1, got 0"),
        (lambda: en.ByTable([5, 4], [6, 6]), "starts expects numbers that never fall"),
        (lambda: en.ByTable([5], [4]), r"before its start, got \(5, 4\)"),
        (lambda: en.ByTable([5], [6], [1, 2]), "one length, got 1 starts, 1 ends, 2 labels"),
        (lambda: en.ByTable([0.5], [6]), "starts expects integers, got float64"),
        (lambda: en.Polarity("both"), "one of merged, on, off"),
        (lambda: en.HotPixels([(1, 2, 3)]), r"pairs \(x, y\)"),
        (lambda: en.CameraEncoder(en.ByCount(5), en.FirstSpike()), "cut by time, or give it bins"),
        (lambda: en.CameraEncoder(en.Whole(), en.EveryEvent()), "cut by time, or give it bins"),
        (lambda: en.CameraEncoder(en.ByTime, en.EveryEvent()), r"cut expects a value with bounds\(\)"),
        (lambda: en.CameraEncoder(en.ByTime(5), en.EveryEvent(), [en.Rank()]), r"values with output_shape\(\)"),
        (lambda: en.TimeSurface(5, en.FirstSpike(3)), "rule expects EqualBins, Linear or Rank"),
    ],
)
def test_values_that_cannot_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([(0, 0, 0, 0), (-10_001, 0, 0, 0)], "at most 10000 us, found 10001 us before 0"),
        ([(0, 0, 0, 0), (10_000_000_000, 0, 0, 0)], "no gap of 100 windows, found one before 102000 us"),
        ([(1 << 61, 0, 0, 0)], r"times expect -2\*\*60"),
        ([(0, WIDTH, 0, 0)], "field 'x' expects 0 to 6, found 7 to 7"),
    ],
)
def test_streams_that_cannot_be(source, message, monkeypatch):
    monkeypatch.setattr(_cutting, "_MOST_EMPTY", 100)
    encoder = en.CameraEncoder(en.ByTime(1000), en.EveryEvent())
    with pytest.raises(ValueError, match=message):
        encoder.encode(array_of(source), sensor=(WIDTH, HEIGHT))


def test_sensors_that_cannot_be():
    encoder = en.CameraEncoder(en.ByTime(1000), en.EveryEvent(), [en.Crop(3, 3, 5, 1)])
    with pytest.raises(ValueError, match="give sensor="):
        encoder.encode(array_of(EVENTS))
    with pytest.raises(ValueError, match="expects a grid that holds it, got 7x5"):
        encoder.encode(recording(EVENTS))
    with pytest.raises(TypeError, match="expect a Recording, EventDataset, Events or a structured array, got list"):
        encoder.encode(EVENTS)
