"""Events: round trips, every refusal, and indexing against a plain list of samples."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from eventsnn.events import Events, concatenate

FIELDS = ("time", "channel", "y", "x", "offsets", "shape", "duration", "unit", "labels", "potential")

stimuli = strategies.grids.flatmap(strategies.stimuli)
short = strategies.grids.flatmap(lambda shape: strategies.stimuli(shape, multi=False)).filter(
    lambda e: e.duration < 100
)


@st.composite
def batches(draw):
    """Draw a batch with or without labels and potentials."""
    events = draw(stimuli)
    labels = events.labels if draw(st.booleans()) else None
    potential = draw(strategies.seeds).random(events.n_events, np.float32) if draw(st.booleans()) else None
    return replace(events, labels=labels, potential=potential)


def as_list(events):
    """Return the batch as a list of (label, spikes), each spike a tuple with its potential."""
    samples = []
    for i in range(len(events)):
        where = range(events.offsets[i], events.offsets[i + 1])
        label = None if events.labels is None else int(events.labels[i])
        samples.append((label, [spike_at(events, j) for j in where]))
    return samples


def spike_at(events, j):
    potential = None if events.potential is None else float(events.potential[j])
    return int(events.time[j]), int(events.channel[j]), int(events.y[j]), int(events.x[j]), potential


def check(events, samples, like):
    """Assert that a batch is valid, holds these samples, and has the grid, duration and unit of another."""
    valid = Events(**{name: getattr(events, name) for name in FIELDS})
    assert as_list(valid) == samples
    assert (events.shape, events.duration, events.unit) == (like.shape, like.duration, like.unit)


# Round trips


@given(batches(), strategies.seeds)
def test_columns_in_any_order_give_the_same(events, rng):
    shuffled = [rng.permutation(np.arange(*ends)) for ends in itertools.pairwise(events.offsets)]
    order = np.concatenate([np.empty(0, int), *shuffled])
    spikes = [spikes for _, spikes in as_list(events)]
    potential = None if events.potential is None else events.potential[order]
    columns = [getattr(events, name)[order] for name in ("time", "channel", "y", "x")]
    fields = {name: getattr(events, name) for name in ("duration", "unit", "labels")}
    back = Events.from_columns(*columns, shape=events.shape, offsets=events.offsets, **fields, potential=potential)
    # spikes that differ in nothing but the potential may change places
    assert [sorted(s, key=str) for _, s in as_list(back)] == [sorted(s, key=str) for s in spikes]
    assert all(np.array_equal(getattr(back, name), getattr(events, name)) for name in ("time", "channel", "y", "x"))
    assert (back.duration, back.unit, back.shape) == (events.duration, events.unit, events.shape)


@given(stimuli)
def test_structured_round_trip(events):
    arrays = events.to_structured()
    assert len(arrays) == len(events)
    fields = {name: getattr(events, name) for name in ("duration", "unit", "labels", "shape")}
    assert Events.from_structured(arrays, **fields).equals(events)
    for array, (_, spikes) in zip(arrays, as_list(events), strict=True):
        assert [(t, p, y, x, None) for x, y, t, p in array.tolist()] == spikes


@given(stimuli)
def test_latency_round_trip(events):
    first = events.first_spikes()
    latency = first.to_latency()
    assert latency.shape == (len(events), *events.shape)
    assert (latency >= 0).sum() == first.n_events
    for i, (_, spikes) in enumerate(as_list(first)):
        assert all(latency[i, c, y, x] == t for t, c, y, x, _ in spikes)
    fields = {name: getattr(events, name) for name in ("duration", "unit", "labels")}
    assert Events.from_latency(latency, **fields).equals(first)


@given(short)
def test_waves_round_trip(events):
    waves = events.to_waves()
    assert waves.shape == (len(events), events.duration, *events.shape)
    for i, (_, spikes) in enumerate(as_list(events)):
        assert waves[i].sum() == sum(events.duration - t for t, *_ in spikes)
        assert all(waves[i, t:, c, y, x].all() and not waves[i, :t, c, y, x].any() for t, c, y, x, _ in spikes)
    assert Events.from_waves(waves, labels=events.labels).equals(events)


def test_single_maps_waves_and_arrays_are_batches_of_one():
    latency = np.array([[[3, -1], [0, 3]]])
    events = Events.from_latency(latency)
    assert len(events) == 1
    assert events.shape == (1, 2, 2)
    assert events.duration == 4
    assert Events.from_waves(events.to_waves()[0]).equals(events)
    assert Events.from_structured(events.to_structured()[0], shape=(1, 2, 2), unit="bin").equals(events)


@pytest.mark.parametrize(
    "names", [("x", "y", "t", "p"), ("xs", "ys", "ts", "polarity"), ("x_pos", "y_pos", "timestamp", "on")]
)
def test_structured_field_names_and_polarities(names):
    for polarity, dtype in (([1, -1, 1], "i1"), ([True, False, True], "?"), ([1, 0, 1], "u8")):
        array = np.empty(3, [(n, d) for n, d in zip(names, ("u2", "u2", "u8", dtype), strict=True)])
        for name, values in zip(names, ([4, 5, 6], [1, 2, 3], [30, 10, 20], polarity), strict=True):
            array[name] = values
        events = Events.from_structured(array, shape=(2, 4, 7))
        assert events.unit == "us"
        assert as_list(events) == [(None, [(10, 0, 2, 5, None), (20, 1, 3, 6, None), (30, 1, 1, 4, None)])]


def test_no_samples_and_no_spikes():
    for n in (0, 3):
        empty = Events.empty((2, 3, 4), n, duration=5)
        assert (len(empty), empty.n_events, empty.duration) == (n, 0, 5)
        assert Events.from_latency(empty.to_latency(), duration=5).equals(empty)
        assert Events.from_waves(empty.to_waves()).equals(empty)
        assert Events.from_structured(empty.to_structured(), shape=(2, 3, 4), unit="bin", duration=5).equals(empty)
        assert empty.with_labels([0] * n).labels.tolist() == [0] * n
        assert empty.density().tolist() == [0.0] * n


# Access against a list of samples


@given(batches(), st.data())
def test_indexing_is_that_of_a_list(events, data):
    samples = as_list(events)
    bound = st.none() | st.integers(-6, 6)
    index = data.draw(st.builds(slice, bound, bound, bound.filter(lambda n: n != 0)))
    check(events[index], samples[index], events)
    if samples:
        i = data.draw(st.integers(-len(samples), len(samples) - 1))
        check(events[i], [samples[i]], events)
        picked = data.draw(st.lists(st.integers(-len(samples), len(samples) - 1), max_size=8))
        for index in (picked, np.array(picked, np.int64)):
            check(events[index], [samples[i] for i in picked], events)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(samples), max_size=len(samples))), bool)
    check(events[mask], [s for s, keep in zip(samples, mask, strict=True) if keep], events)


@given(batches(), strategies.seeds)
def test_where_keeps_the_chosen_spikes(events, rng):
    keep = rng.random(events.n_events) < 0.5
    flags = iter(keep.tolist())
    expected = [(label, [spike for spike in spikes if next(flags)]) for label, spikes in as_list(events)]
    check(events.where(keep), expected, events)


@given(batches())
def test_first_spikes_are_the_first_of_each_pixel(events):
    expected = []
    for label, spikes in as_list(events):
        seen = set()
        expected.append((label, [s for s in spikes if s[1:4] not in seen and not seen.add(s[1:4])]))
    check(events.first_spikes(), expected, events)


@given(batches(), st.lists(st.integers(0, 5), max_size=3))
def test_concatenation_undoes_any_split(events, cuts):
    bounds = [0, *sorted(cuts), max([len(events), *cuts])]
    parts = [events[a:b] for a, b in itertools.pairwise(bounds)]
    assert concatenate(parts).equals(events)
    assert concatenate(iter(parts)).equals(events)


def test_concatenation_keeps_what_all_have_and_the_longest_duration():
    a = Events.from_columns([1], [0], [0], [0], shape=(1, 1, 1), labels=np.array([3]), potential=[2.0])
    b = Events.from_columns([6], [0], [0], [0], shape=(1, 1, 1), labels=np.array([4]))
    both = concatenate([a, b])
    assert both.labels.tolist() == [3, 4]
    assert both.potential is None
    assert both.duration == 7
    assert concatenate([b, replace(b, labels=None)]).labels is None


@given(batches())
def test_sizes(events):
    samples = as_list(events)
    assert events.n_events == sum(len(spikes) for _, spikes in samples)
    assert events.sample_index().tolist() == [i for i, (_, spikes) in enumerate(samples) for _ in spikes]
    cells = events.shape[0] * events.shape[1] * events.shape[2]
    assert events.density().tolist() == [len(spikes) / cells for _, spikes in samples]
    per_event = 8 + 3 * 2 + 4 * (events.potential is not None)
    per_sample = 8 + 8 * (events.labels is not None)
    assert events.nbytes == per_event * events.n_events + per_sample * len(events) + 8


def test_densities_of_large_grids_do_not_overflow():
    events = Events.from_columns([0], [9], [9], [9], shape=(65536, 65536, 65536))
    assert events.density() == [2.0**-48]


def test_duration_defaults_to_one_past_the_latest_time():
    assert Events.from_columns([3, 7], [0, 0], [0, 0], [0, 0], shape=(1, 1, 1)).duration == 8
    assert Events.empty((1, 1, 1)).duration == 1


def test_labels_become_int64():
    events = Events.empty((1, 1, 1), 2, labels=np.array([1, 2], np.uint8))
    assert events.labels.dtype == np.int64
    assert events.with_labels([5, 6]).labels.tolist() == [5, 6]
    assert events.with_labels(np.array([5, 6], np.int16)).labels.dtype == np.int64
    assert events.labels.tolist() == [1, 2]


def test_equal_means_every_field():
    events = Events.from_columns([1, 2], [0, 1], [0, 0], [0, 0], shape=(2, 1, 1), labels=np.array([1]))
    assert events.equals(replace(events))
    changes = {
        "time": np.array([0, 2]), "channel": np.array([1, 1], np.uint16), "shape": (2, 1, 2), "duration": 9,
        "unit": "us", "labels": None, "potential": np.ones(2, np.float32), "offsets": np.array([0, 0, 2]),
    }  # fmt: skip
    for name, value in changes.items():
        labels = {"labels": np.array([1, 1])} if name == "offsets" else {}
        assert not events.equals(replace(events, **{name: value}, **labels)), name
    assert not events.equals(events.with_labels([2]))


def test_repr_says_what_is_there():
    events = Events.from_latency([[[3, -1]]], duration=15)
    assert repr(events) == "Events(1 samples, 1 spikes, shape=(1, 1, 2), duration=15 bin)"


# Refusals


def good(**change):
    """Return the fields of three valid spikes in two samples, with some replaced."""
    fields = {
        "time": np.array([0, 4, 2], np.int64),
        "channel": np.array([1, 0, 0], np.uint16),
        "y": np.array([2, 0, 1], np.uint16),
        "x": np.array([3, 0, 3], np.uint16),
        "offsets": np.array([0, 2, 3], np.int64),
        "shape": (2, 3, 4),
    }
    return fields | change


def test_good_fields_are_good():
    assert Events(**good()).duration == 5


def col(*values, dtype=np.uint16):
    return np.array(values, dtype)


@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (TypeError, "column 'time' expects a 1-D array of int64, got int32 of shape (3,)",
         {"time": col(0, 4, 2, dtype=np.int32)}),
        (TypeError, "column 'x' expects a 1-D array of uint16, got int64 of shape (3,)",
         {"x": col(3, 0, 3, dtype=np.int64)}),
        (TypeError, "column 'y' expects a 1-D array of uint16, got list", {"y": [2, 0, 1]}),
        (TypeError, "column 'channel' expects a 1-D array of uint16, got uint16 of shape (1, 3)",
         {"channel": col([1, 0, 0])}),
        (TypeError, "column 'offsets' expects a 1-D array of int64, got float64 of shape (3,)",
         {"offsets": np.array([0.0, 2, 3])}),
        (TypeError, "column 'potential' expects a 1-D array of float32, got float64 of shape (3,)",
         {"potential": np.ones(3)}),
        (TypeError, "column 'potential' expects a 1-D array of float32, got list", {"potential": [1.0, 1.0, 1.0]}),
        (TypeError, "labels expects a 1-D array of integers, got float64 of shape (2,)", {"labels": np.ones(2)}),
        (TypeError, "labels expects a 1-D array of integers, got int64 of shape (2, 1)",
         {"labels": np.ones((2, 1), np.int64)}),
        (TypeError, "labels expects a 1-D array of integers, got list", {"labels": [0, 1]}),
        (TypeError, "duration expects an integer, got 15.5", {"duration": 15.5}),
        (ValueError, "column 'y' has 2 entries, column 'time' has 3", {"y": col(2, 0)}),
        (ValueError, "column 'potential' has 1 entries, column 'time' has 3", {"potential": np.ones(1, np.float32)}),
        (ValueError, "labels expects one entry for each of 2 samples, got 3", {"labels": np.arange(3)}),
        (ValueError, "offsets expects to start at 0 and end at the 3 events, got 1 and 3",
         {"offsets": np.array([1, 2, 3])}),
        (ValueError, "offsets expects to start at 0 and end at the 3 events, got 0 and 4",
         {"offsets": np.array([0, 2, 4])}),
        (ValueError, "offsets expects to start at 0 and end at the 3 events, got no entries",
         {"offsets": np.empty(0, np.int64)}),
        (ValueError, "offsets must not fall, but entry 2 is 1 after 2", {"offsets": np.array([0, 2, 1, 3])}),
        (ValueError, "event 1 has time -4, expected 0 or more (grid (2, 3, 4))", {"time": np.array([0, -4, 2])}),
        (ValueError, "event 2 has channel 2, expected 0 to 1 (grid (2, 3, 4))", {"channel": col(1, 0, 2)}),
        (ValueError, "event 0 has y 3, expected 0 to 2 (grid (2, 3, 4))", {"y": col(3, 0, 1)}),
        (ValueError, "event 0 has x 65535, expected 0 to 3 (grid (2, 3, 4))", {"x": col(65535, 0, 3)}),
        (ValueError, "event 1 has time 4, outside the duration 4", {"duration": 4}),
        (ValueError, "event 1 has time 4, outside the duration 0", {"duration": 0}),
        (ValueError, "events must be sorted by (time, channel, y, x), but event 1 (4, 0, 0, 0) follows (5, 1, 2, 3)",
         {"time": np.array([5, 4, 2])}),
        (ValueError, "but event 1 (0, 0, 0, 0) follows (0, 1, 2, 3)", {"time": np.array([0, 0, 2])}),
        (ValueError, "but event 1 (0, 1, 0, 0) follows (0, 1, 2, 3)",
         {"time": np.array([0, 0, 2]), "channel": col(1, 1, 0)}),
        (ValueError, "but event 1 (0, 1, 2, 0) follows (0, 1, 2, 3)",
         {"time": np.array([0, 0, 2]), "channel": col(1, 1, 0), "y": col(2, 2, 1)}),
        (ValueError, "but event 2 (2, 0, 1, 3) follows (4, 0, 0, 0)", {"offsets": np.array([0, 0, 3])}),
        (ValueError, "unit expects 'bin' or 'us', got 'ms'", {"unit": "ms"}),
        (ValueError, "shape expects (channels, height, width), got (2, 3)", {"shape": (2, 3)}),
        (ValueError, "shape expects (channels, height, width), got 5", {"shape": 5}),
        (ValueError, "shape expects (channels, height, width), got (2.0, 3, 4)", {"shape": (2.0, 3, 4)}),
        (ValueError, "shape expects three sizes from 1 to 65536, got (2, 0, 4)", {"shape": (2, 0, 4)}),
        (ValueError, "shape expects three sizes from 1 to 65536, got (2, 3, 65537)", {"shape": (2, 3, 65537)}),
    ],
)  # fmt: skip
def test_invalid_fields_are_named(error, message, change):
    with pytest.raises(error) as caught:
        Events(**good(**change))
    assert message in str(caught.value)


def test_an_empty_stimulus_needs_a_duration_too():
    with pytest.raises(ValueError, match="duration expects at least 1, got 0"):
        Events.empty((1, 1, 1), duration=0)


def test_samples_are_sorted_each_on_its_own():
    offsets = np.array([0, 0, 2, 2, 3, 3])  # empty samples first, between and last
    assert len(Events(**good(offsets=offsets))) == 5


ARRAY = np.array([(1, 2, 3, 0)], [("x", "u2"), ("y", "u2"), ("t", "i8"), ("p", "u1")])


@pytest.mark.parametrize(
    ("error", "message", "make"),
    [
        (TypeError, "time expects integers, got float64; convert to bins or microseconds first",
         lambda: Events.from_columns([0.5], [0], [0], [0], shape=(1, 1, 1))),
        (ValueError, "column 'x' has 2 entries, column 'time' has 1",
         lambda: Events.from_columns([0], [0], [0], [0, 0], shape=(1, 1, 1))),
        (TypeError, "column 'time' expects a 1-D array, got shape ()",
         lambda: Events.from_columns(0, 0, 0, 0, shape=(1, 1, 1))),
        (TypeError, "column 'offsets' expects a 1-D array, got shape (1, 2)",
         lambda: Events.from_columns([0], [0], [0], [0], shape=(1, 1, 1), offsets=[[0, 1]])),
        (TypeError, "offsets expects integers, got float64",
         lambda: Events.from_columns([0], [0], [0], [0], shape=(1, 1, 1), offsets=[0.0, 1.0])),
        (ValueError, "column 'potential' has shape (2,), column 'time' has (1,)",
         lambda: Events.from_columns([0], [0], [0], [0], shape=(1, 1, 1), potential=[1.0, 2.0])),
        (ValueError, "event 0 has x 65536, expected 0 to 0",  # before it is cast to uint16, where it would be 0
         lambda: Events.from_columns([0], [0], [0], [65536], shape=(1, 1, 1))),
        (ValueError, "event 1 has y -1, expected 0 to 0",
         lambda: Events.from_columns([0, 0], [0, 0], [0, -1], [0, 0], shape=(1, 1, 1))),
        (ValueError, "event 0 has time -9223372036854775808, expected 0 or more",
         lambda: Events.from_columns(np.array([2**63], np.uint64), [0], [0], [0], shape=(1, 1, 1))),
        (TypeError, "structured events need a field 'p', found ['x', 'y', 't']",
         lambda: Events.from_structured(ARRAY[["x", "y", "t"]], shape=(1, 9, 9))),
        (TypeError, "structured events need a field 't', found int64",
         lambda: Events.from_structured(np.arange(3), shape=(1, 9, 9))),
        (TypeError, "t expects integers, got float64",
         lambda: Events.from_structured(ARRAY.astype([("x", "u2"), ("y", "u2"), ("t", "f8"), ("p", "u1")]),
                                        shape=(1, 9, 9))),
        (ValueError, "latency expects shape (n_samples, C, H, W) or (C, H, W), got (2, 2)",
         lambda: Events.from_latency(np.zeros((2, 2), int))),
        (ValueError, "latency expects times >= 0 or -1 for never, found -2",
         lambda: Events.from_latency(np.full((1, 1, 1), -2))),
        (TypeError, "latency expects integers, got float32",
         lambda: Events.from_latency(np.zeros((1, 1, 1), np.float32))),
        (ValueError, "waves expects shape (T, C, H, W) or (n_samples, T, C, H, W), got (2, 2)",
         lambda: Events.from_waves(np.zeros((2, 2)))),
        (ValueError, "waves expects only zeros and ones", lambda: Events.from_waves(np.full((1, 1, 1, 1), 2))),
        (ValueError, "waves expects only zeros and ones", lambda: Events.from_waves(np.full((1, 1, 1, 1), np.nan))),
        (ValueError, "waves must be cumulative, but one falls to 0 after (sample, t, c, y, x) = (0, 1, 0, 0, 0)",
         lambda: Events.from_waves(np.array([0, 1, 0]).reshape(3, 1, 1, 1))),
        (ValueError, "a pixel fires again; see first_spikes()",
         lambda: Events.from_columns([0, 1], [0, 0], [0, 0], [0, 0], shape=(1, 1, 1)).to_latency()),
        (ValueError, "a pixel fires again; see first_spikes()",
         lambda: Events.from_columns([0, 0], [0, 0], [0, 0], [0, 0], shape=(1, 1, 1)).to_waves()),
        (ValueError, "labels expects one entry for each of 1 samples, got 2",
         lambda: Events.empty((1, 1, 1), 1).with_labels([1, 2])),
        (TypeError, "labels expects integers, got float64", lambda: Events.empty((1, 1, 1), 1).with_labels([1.5])),
        (TypeError, "keep expects 3 booleans, got int64 of shape (3,)", lambda: Events(**good()).where(np.arange(3))),
        (TypeError, "keep expects 3 booleans, got bool of shape (2,)",
         lambda: Events(**good()).where(np.ones(2, bool))),
        (IndexError, "out of bounds", lambda: Events(**good())[2]),
        (IndexError, "one index, slice, list or mask of samples", lambda: Events(**good())[np.array([[0, 1]])]),
        (IndexError, "boolean index did not match", lambda: Events(**good())[np.ones(3, bool)]),
        (ValueError, "concatenate expects at least one batch, got none", lambda: concatenate([])),
        (ValueError, "batch 1 has shape (1, 1, 2) and unit 'bin', batch 0 has (1, 1, 1) and 'bin'",
         lambda: concatenate([Events.empty((1, 1, 1)), Events.empty((1, 1, 2))])),
        (ValueError, "batch 1 has shape (1, 1, 1) and unit 'us', batch 0 has (1, 1, 1) and 'bin'",
         lambda: concatenate([Events.empty((1, 1, 1)), Events.empty((1, 1, 1), unit="us")])),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(error, message, make):
    with pytest.raises(error) as caught:
        make()
    assert message in str(caught.value)
