"""Published networks: their numbers, that they fit together, learn as they say and come back from a folder."""

import dataclasses

import numpy as np
import pytest

from eventsnn import STDP, WTA, Adaptive, Conv, Doubling, Network, Normal, Pool, fit
from eventsnn.encode import EqualBins, ImageEncoder, MaxPool, OnOff, PatchZCA
from eventsnn.models import MODELS, Trained, digits, mozafari2018_caltech, mozafari2018_eth80, spyker_mnist


def bars(n, side=20, seed=0):
    """Two classes: a bright bar across or upright."""
    rng = np.random.default_rng(seed)
    images, labels = np.zeros((n, side, side), np.uint8), rng.integers(0, 2, n)
    for image, label in zip(images, labels, strict=True):
        at = rng.integers(5, side - 6)
        (image if label else image.T)[at : at + 2, 3:-3] = rng.integers(150, 256, side - 6)
    return images, labels


def small():
    """The decision layer of ETH-80 with 2 classes and 20 pixels."""
    model = mozafari2018_eth80()
    layer = dataclasses.replace(model.layers[0], features=6, kernel=4, threshold=5)
    step = dataclasses.replace(model.steps[0], epochs=3)
    return dataclasses.replace(model, size=(20, 20), layers=(layer,), steps=(step,))


@pytest.mark.parametrize("name", MODELS)
def test_encoder_layers_and_steps_fit(name):
    model = MODELS[name]()
    assert model.name == name
    net = Network(model.layers, model.encoder.output_shape(*model.size))
    assert ImageEncoder.from_dict(model.encoder.to_dict()) == model.encoder
    assert [step.layer for step in model.steps] == list(net.trainable)


def test_grids_are_the_published_ones():
    shapes = {name: MODELS[name]().encoder.output_shape(*MODELS[name]().size) for name in MODELS}
    assert shapes["mozafari2018_caltech"] == (4, 26, 41)
    assert shapes["mozafari2018_eth80"] == (4, 31, 31)  # the kernel of 31 sees all of it
    assert shapes["spyker_mnist"] == (6, 28, 28)


def test_mozafari2018():
    """MozafariShallow.py, but for the epochs, of which it takes the best."""
    for model, maps, kernel, threshold, rates, dropout in (
        (mozafari2018_caltech(), 20, 17, 42, ((0.005, -0.0025), (-0.005, 0.0005)), 0.5),
        (mozafari2018_eth80(), 80, 31, 160, ((0.01, -0.0035), (-0.01, 0.0006)), 0.4),
    ):
        assert model.layers == (Conv(maps, kernel, threshold=threshold, init=Normal(0.8, 0.05)),)
        (step,) = model.steps
        assert (step.rule.reward, step.rule.punish) == rates
        assert (step.rule.bounds, step.rule.stabilizer, step.rule.adaptive) == ((0, 1), True, Adaptive(0.2, 0.8, None))
        assert (step.competition, step.dropout, step.shuffle) == (WTA(1), dropout, True)
        assert model.readout is None  # the first spike decides
    assert mozafari2018_caltech().encoder.stages[2] == MaxPool(7, 6, 3)
    assert mozafari2018_eth80().encoder.stages[2] == MaxPool(5, 4, 2)


def test_spyker_mnist():
    """rezghi_mnist_sparse.py."""
    model, init = spyker_mnist(), Normal(0.5, 0.02)
    assert model.layers == (
        Conv(100, 5, padding=2, threshold=16, init=init),
        Pool(2),
        Conv(200, 3, padding=1, threshold=5, init=init),
        Pool(3),
    )
    assert [(s.layer, s.rule, s.competition, s.epochs) for s in model.steps] == [
        (0, STDP(0.0004, -0.0003), WTA(5, radius=3), 1),
        (2, STDP(0.0004, -0.0003), WTA(8, radius=1), 1),
    ]
    assert {s.schedule for s in model.steps} == {Doubling(2000, 1.5, 1.5)}
    assert model.readout.kind == "latency"


def test_a_model_learns_what_fit_learns():
    model, (images, labels) = small(), bars(30)
    events = model.encoder.encode(images, labels)
    trained = model.train(events, seed=4)
    net = Network(model.layers, events.shape, seed=4)
    step = model.steps[0]
    assert step.shuffle
    fit(net, events, layer=0, rule=step.rule, epochs=3, dropout=0.4, shuffle=True, seed=4)
    np.testing.assert_array_equal(trained.network.weights[0], net.weights[0])


def test_a_model_with_whitening_comes_back_from_its_folder(tmp_path):
    images, labels = bars(60)
    model = digits()
    stage = PatchZCA.fit(images / 255, window=5)
    encoder = ImageEncoder([stage, OnOff(0.05)], EqualBins(15))
    conv = dataclasses.replace(model.layers[0], features=8)
    model = dataclasses.replace(
        model, encoder=encoder, size=(20, 20), layers=(conv, model.layers[1]), steps=model.steps[:1]
    )
    trained = model.train(encoder.encode(images / 255, labels))
    trained.save(tmp_path)
    again = Trained.load(tmp_path)
    assert again.encoder == encoder
    new, truth = bars(40, seed=1)
    events = encoder.encode(new / 255, truth)
    found = again.evaluate(events).decisions
    np.testing.assert_array_equal(found, trained.evaluate(events).decisions)
    assert (found == truth).mean() > 0.9
