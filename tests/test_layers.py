import itertools
import json
import math

import numpy as np
import pytest

from eventsnn.backends import get
from eventsnn.events import Events
from eventsnn.layers import (
    Conv,
    Dense,
    FeatureInhibition,
    Normal,
    PointwiseInhibition,
    Pool,
    inf,
    layer_from_dict,
    layer_to_dict,
)

REFERENCE = get("reference")
LAYERS = [
    Conv(30, 5, padding=2, threshold=15),
    Conv(3, (2, 3), stride=(1, 2), padding=(1, 0), threshold=(0.1, 1 / 3, 7.0), leak=20.5, init=Normal(0.5, 0.02)),
    Conv(200, kernel=5, threshold=inf),
    Dense(10, threshold=4.5),
    Pool(3),
    Pool((2, 3), stride=1, padding=(1, 0)),
    PointwiseInhibition(),
    FeatureInhibition([3, 1, 3]),
]


def random_events(rng, shape, n_samples=4, duration=10, silent=0.4):
    latency = rng.integers(0, duration, (n_samples, *shape))
    latency[rng.random(latency.shape) < silent] = -1
    return Events.from_latency(latency, duration=duration)


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (Conv(30, 5, padding=2, threshold=15), (6, 28, 28), (30, 28, 28)),
        (Conv(150, 2, padding=1, threshold=1), (32, 15, 15), (150, 16, 16)),
        (Conv(2, (3, 1), stride=(2, 3), threshold=1), (4, 8, 10), (2, 3, 4)),
        (Pool(3), (250, 14, 14), (250, 4, 4)),
        (Pool(2, stride=2, padding=1), (32, 28, 28), (32, 15, 15)),
        (Pool(7, stride=6), (4, 160, 250), (4, 26, 41)),
        (Dense(10, threshold=1), (3, 4, 5), (10, 1, 1)),
        (PointwiseInhibition(), (3, 4, 5), (3, 4, 5)),
        (FeatureInhibition([2]), (3, 4, 5), (3, 4, 5)),
    ],
)
def test_output_shape(layer, shape, expected):
    assert layer.output_shape(shape) == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv(0, 3, threshold=1), "features expects a positive integer, got 0"),
        (lambda: Conv(2, 0, threshold=1), "kernel expects 1 or more, got 0"),
        (lambda: Conv(2, (3, 3, 3), threshold=1), r"kernel expects an integer or \(vertical, horizontal\)"),
        (lambda: Conv(2, 2.5, threshold=1), "kernel expects an integer"),
        (lambda: Conv(2, 3, stride=0, threshold=1), "stride expects 1 or more"),
        (lambda: Conv(2, 3, padding=-1, threshold=1), "padding expects 0 or more"),
        (lambda: Conv(2, 3, threshold=-1), "threshold expects values of 0 or more, got -1"),
        (lambda: Conv(2, 3, threshold=math.nan), "threshold expects values of 0 or more, got nan"),
        (lambda: Conv(2, 3, threshold=[1, 2, 3]), r"threshold expects one value or 2, one per map, got shape \(3,\)"),
        (lambda: Conv(2, 3, threshold=[1, inf]), "got a mixture"),
        (lambda: Conv(2, 3, threshold=1, leak=0), "leak expects a positive time constant or None, got 0"),
        (lambda: Dense(2, threshold=[1]), "threshold expects one value or 2"),
        (lambda: Pool(2, padding=(0, -1)), "padding expects 0 or more"),
        (lambda: FeatureInhibition([-1]), "maps expects indices of 0 or more, got -1"),
        (lambda: FeatureInhibition([3]).output_shape((3, 1, 1)), "maps expects indices below 3, got 3"),
        (lambda: Conv(2, 5, threshold=1).output_shape((1, 4, 9)), "does not fit into 4x9"),
        (lambda: Normal(0.8, -1), "std >= 0"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_threshold_has_no_default():
    with pytest.raises(TypeError, match="threshold"):
        Conv(30, 5)


def test_neurons_hold_what_the_layer_says():
    neurons = Conv(3, (2, 3), stride=2, padding=(1, 0), threshold=[1, 2, 3], leak=5.0).neurons((4, 6, 6))
    assert neurons.threshold.tolist() == [1, 2, 3]
    assert (neurons.geometry.kernel, neurons.geometry.stride, neurons.geometry.padding) == ((2, 3), (2, 2), (1, 0))
    assert neurons.leak.tau == 5.0
    assert Conv(2, 1, threshold=4).neurons((1, 1, 1)).threshold.tolist() == [4, 4]
    assert Dense(2, threshold=inf).neurons((3, 4, 5)).geometry.kernel == (4, 5)


def test_init_is_drawn_as_described():
    weights = Normal(0.8, 0.05).draw(np.random.default_rng(0), (100, 1000))
    assert weights.dtype == np.float32
    assert weights.mean() == pytest.approx(0.8, abs=1e-3)
    assert weights.std() == pytest.approx(0.05, rel=1e-2)
    assert (Normal(0.25, 0).draw(np.random.default_rng(0), (7,)) == 0.25).all()


def test_dense_with_infinite_threshold_is_a_matrix_product(backend):
    rng = np.random.default_rng(1)
    events = random_events(rng, (2, 3, 4))
    weights = (rng.integers(-8, 9, (5, 2, 3, 4)) / 16).astype(np.float32)  # exact in any order
    spikes = Dense(5, threshold=inf).run(events, backend, weights)
    potential = np.zeros((4, 5))
    potential[spikes.sample_index(), spikes.channel] = spikes.potential
    expected = (events.to_latency() >= 0).reshape(4, -1) @ weights.reshape(5, -1).T.astype(float)
    np.testing.assert_array_equal(potential, np.maximum(expected, 0))
    assert set(spikes.time) == {9}


def test_conv_by_hand():
    # One row of three inputs firing at 0, 1, 2; kernel of two with weights 1 and 2; threshold 1.5.
    events = Events.from_latency(np.array([[[0, 1, 2]]]), duration=3)
    weights = np.array([[[[1, 2]]]], np.float32)
    spikes = Conv(1, (1, 2), threshold=1.5).run(events, REFERENCE, weights)
    # Neuron 0: 1 at time 0, 3 at time 1. Neuron 1: 1 at time 1, 3 at time 2.
    assert list(zip(spikes.x.tolist(), spikes.time.tolist(), spikes.potential.tolist(), strict=True)) == [
        (0, 1, 3.0),
        (1, 2, 3.0),
    ]


def test_pool_takes_the_earliest():
    latency = np.array([[[3, -1, 2, 0], [5, 1, -1, -1]]])
    pooled = Pool(2).run(Events.from_latency(latency, duration=6), REFERENCE)
    assert pooled.to_latency().tolist() == [[[[1, 0]]]]
    assert pooled.duration == 6


def test_pointwise_inhibition_keeps_the_earliest_then_the_largest_potential():
    # Position 0: map 1 is earlier. Position 1: same time, map 1 has the larger potential.
    events = Events.from_columns(
        [2, 1, 4, 4], [0, 1, 0, 1], [0, 0, 0, 0], [0, 0, 1, 1], shape=(2, 1, 2), potential=[9, 1, 1, 2]
    )
    assert PointwiseInhibition().run(events, REFERENCE).to_latency().tolist() == [[[[-1, -1]], [[1, 4]]]]


def test_feature_inhibition_silences_the_listed_maps():
    events = random_events(np.random.default_rng(2), (4, 3, 3))
    latency = FeatureInhibition([2, 0]).run(events, REFERENCE).to_latency()
    expected = events.to_latency()
    expected[:, [0, 2]] = -1
    np.testing.assert_array_equal(latency, expected)


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_dict_round_trip_through_json(layer):
    text = json.dumps(layer_to_dict(layer), allow_nan=False)
    again = layer_from_dict(json.loads(text))
    assert again == layer
    assert type(again) is type(layer)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"type": "LSTM"}, "type of Conv, Dense, .* got 'LSTM'"),
        ({"type": ["Conv"]}, "layer expects a type"),
        ({}, "layer expects a type"),
        ({"type": "Conv", "features": 3}, "Conv does not understand"),
        ({"type": "Pool", "kernel": 2, "ceil": True}, "Pool does not understand"),
        ({"type": "Dense", "features": 3, "threshold": {}}, "Dense does not understand"),
        ({"type": "Conv", "features": 3, "kernel": 2, "threshold": -1}, "threshold expects"),
    ],
)
def test_refuses_dicts(fields, message):
    with pytest.raises(ValueError, match=message):
        layer_from_dict(fields)


def synapses_by_brute_force(layer, events):
    _, out_h, out_w = layer.output_shape(events.shape)
    window = layer.geometry(events.shape)
    counts = np.zeros(len(events), np.int64)
    spikes = zip(events.sample_index(), events.y.tolist(), events.x.tolist(), strict=True)
    for sample, y, x in spikes:
        for oy, ox in itertools.product(range(out_h), range(out_w)):
            ky = y - (oy * window.stride[0] - window.padding[0])
            kx = x - (ox * window.stride[1] - window.padding[1])
            counts[sample] += layer.features * (0 <= ky < window.kernel[0] and 0 <= kx < window.kernel[1])
    return counts


@pytest.mark.parametrize(
    "layer",
    [
        Conv(3, 3, padding=1, threshold=1),
        Conv(2, (2, 3), stride=(1, 2), threshold=1),
        Conv(5, (3, 2), stride=(3, 1), padding=(0, 2), threshold=1),
        Conv(1, 2, stride=5, padding=3, threshold=1),
        Dense(4, threshold=1),
    ],
    ids=repr,
)
def test_synaptic_operations_against_brute_force(layer):
    rng = np.random.default_rng(3)
    events = random_events(rng, (2, 6, 7), n_samples=5)
    events = events.where(events.sample_index() != 2)  # a silent sample
    counted = layer.synaptic_operations(events)
    np.testing.assert_array_equal(counted, synapses_by_brute_force(layer, events))
    assert counted[2] == 0
    assert counted.sum() > 0


def test_synaptic_operations_count_every_event_of_a_camera():
    events = Events.from_columns([0, 5, 9], [0, 0, 0], [1, 1, 1], [1, 1, 1], shape=(1, 3, 3), unit="us")
    assert Conv(2, 3, padding=1, threshold=1).synaptic_operations(events).tolist() == [3 * 9 * 2]
