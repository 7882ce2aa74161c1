"""The models for N-MNIST: they fit together, learn from recordings, come back, and refuse what takes images."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eventsnn.encode import ByTime, CameraEncoder, FirstSpike, WindowChannels
from eventsnn.experiment import model_from_dict, model_to_dict
from eventsnn.layers import Conv, Pool, inf
from eventsnn.models import Model, Trained, digits, nmnist, nmnist_rstdp
from eventsnn.network import Network

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.render_nmnist import section

DTYPE = [("x", "u2"), ("y", "u2"), ("t", "i8"), ("p", "u1")]


def bars(n, side=12, seed=0):
    """Recordings of two classes, at microseconds: a bar across or upright that is seen three times."""
    rng = np.random.default_rng(seed)
    labels, arrays = rng.integers(0, 2, n), []
    for label in labels:
        array = np.zeros(8 * (side - 4), DTYPE)
        along, at = rng.integers(2, side - 2, len(array)), rng.integers(3, side - 4) + rng.integers(0, 2, len(array))
        array["x"], array["y"] = (along, at) if label else (at, along)
        array["t"] = np.sort(rng.integers(0, 3, len(array)) * 105_000 + rng.integers(0, 20_000, len(array)))
        array["p"] = rng.integers(0, 2, len(array))
        arrays.append(array)
    return arrays, labels


def small(model):
    """The model for 12x12 pixels and two classes."""
    conv, pool, *rest = model.layers
    layers = (replace(conv, features=12, threshold=4), pool, *(replace(one, features=6, kernel=3) for one in rest))
    steps = tuple(replace(step, epochs=20 * len(model.steps)) for step in model.steps)
    return replace(model, layers=layers, steps=steps, size=(12, 12))


@pytest.mark.parametrize(("make", "maps"), [(nmnist, 128), (nmnist_rstdp, 64)])
def test_recipes(make, maps):
    model = make()
    assert model.name == make.__name__
    assert model.encoder == WindowChannels(CameraEncoder(ByTime(105_000, origin=0), FirstSpike()), 3)
    assert model.layers[:2] == (Conv(maps, kernel=5, padding=2, threshold=8, leak=20_000.0), Pool(4))
    net = Network(model.layers, model.encoder.output_shape((2, *model.size)))
    assert [step.layer for step in model.steps] == list(net.trainable)
    if model.readout is None:
        assert net.shapes[-1] == (200, 1, 1)
        assert model.layers[-1].threshold == inf


@pytest.mark.parametrize("make", [nmnist, nmnist_rstdp])
def test_a_model_learns_from_recordings_and_comes_back(make, tmp_path):
    model = small(make())
    arrays, labels = bars(120)
    train = model.encoder.encode(arrays, labels, sensor=(12, 12))
    assert (train.shape, train.duration, train.unit) == ((6, 12, 12), 105_000, "us")
    trained = model.train(train)
    assert trained.size == (12, 12)
    others, truth = bars(60, seed=1)
    found = trained.predict(others)
    assert (found == truth).mean() > 0.75
    trained.save(tmp_path)
    again = Trained.load(tmp_path)
    assert again.encoder == model.encoder
    assert (again.predict(others) == found).all()


def test_what_takes_images_says_so():
    model = nmnist()
    with pytest.raises(ValueError, match="nmnist takes recordings of an event camera"):
        _ = model.image_encoder
    assert model_from_dict(model_to_dict(model)) == model
    assert isinstance(model, Model)
    assert digits().image_encoder == digits().encoder


def test_the_section_shows_means_of_the_newest_measurements():
    common = {"processor": "CPU", "load": 1.0, "train_recordings": 1000, "test_recordings": 100}
    run = common | {"model": "m", "train_cpu_seconds": 2.0, "events_a_recording": 4000.0, "input_spikes": 1000.0}
    run |= {"speed": {"spikes_a_second": 2e6, "times_real_time": 300.0}}
    folds = {"cross_validated": 0.95, "shuffled": {"test_accuracy": 0.5, "cross_validated": 0.6}}
    lines = [
        common | {"input": "counts", "test_accuracy": 0.8, "cross_validated": 0.83},
        run | {"seed": 0, "test_accuracy": 0.1} | folds,
        run | {"seed": 0, "test_accuracy": 0.8} | folds,
        run | {"seed": 1, "test_accuracy": 0.9, "load": 3.0} | folds,
    ]
    shown = section(lines).splitlines()
    assert "| linear SVM on counts | 80% | | 83.0% |" in shown
    assert "| `m` | 85.0% ± 7.1% | 80%, 90% | 95.0% |" in shown
    assert "| `m`, learnt weights shuffled | 50.0% ± 0.0% | 50%, 50% | 60.0% |" in shown
    assert "1.0 to 3.0 on the machine" in section(lines)
    assert "STDP adds +35.0 points" in section(lines)
    assert "+12.0 points to the linear machine\non counts" in section(lines)
    assert section(lines[:1]) == ""
