"""The published recipes number by number, and what a recipe does: train, select, decide, save and load."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from eventsnn.encode import (
    DivideByMax,
    DoG,
    EqualBins,
    Filter,
    ImageEncoder,
    Linear,
    LocalNormalization,
    MaxPool,
    OnOff,
    Scale,
)
from eventsnn.evaluation import evaluate
from eventsnn.events import Events
from eventsnn.io import EventDataset, load_images, write
from eventsnn.layers import Conv, Dense, Normal, PointwiseInhibition, Pool, inf
from eventsnn.models import (
    MODELS,
    Model,
    Step,
    Trained,
    digits,
    falez2019_mnist,
    goupy2022_mnist,
    kheradpisheh2018_mnist,
    mozafari2019_mnist,
    mozafari2019_mnist_quick,
    mozafari2019_mnist_svm,
    write_text,
)
from eventsnn.network import Network
from eventsnn.plasticity import RSTDP, STDP, WTA, Adaptive, Annealing, Doubling, ThresholdAdaptation
from eventsnn.readout import Feature, LinearReadout, features
from eventsnn.runs import evaluate as evaluate_run
from eventsnn.train import fit

# Recipes


def grids(model):
    shape = model.encoder.output_shape(*model.size)
    return Network(model.layers, shape).shapes


def as_learnt(step):
    """Return the numbers by which a layer learns: rates, winners, radius, epochs."""
    rule, competition = step.rule, step.competition
    return step.layer, rule.a_plus, rule.a_minus, competition.k, competition.radius, step.epochs


def test_mozafari2019_mnist():
    model = mozafari2019_mnist()
    assert (model.name, model.size, model.readout) == ("mozafari2019_mnist", (28, 28), None)
    kernels = (
        DoG(3, 3 / 9, 6 / 9), DoG(3, 6 / 9, 3 / 9), DoG(7, 7 / 9, 14 / 9), DoG(7, 14 / 9, 7 / 9),
        DoG(13, 13 / 9, 26 / 9), DoG(13, 26 / 9, 13 / 9),
    )  # fmt: skip
    stages = (Filter(kernels, padding=6, threshold=50), LocalNormalization(8))
    assert model.encoder == ImageEncoder(stages, EqualBins(15))
    assert model.layers == (
        Conv(30, kernel=5, padding=2, threshold=15),
        Pool(2),
        Conv(250, kernel=3, padding=1, threshold=10),
        Pool(3),
        Conv(200, kernel=5, padding=2, threshold=inf),
    )
    assert all((layer.init.mean, layer.init.std) == (0.8, 0.05) for layer in model.layers[::2])
    first, second, third = model.steps
    assert [as_learnt(step) for step in (first, second)] == [
        (0, 0.004, -0.003, 5, 3, 2),
        (2, 0.004, -0.003, 8, 1, 4),
    ]
    for step in (first, second):
        assert (step.rule.bounds, step.rule.stabilizer, step.competition.pointwise) == ((0, 1), True, True)
        assert (step.schedule, step.dropout, step.inhibit_input) == (Doubling(every=500, limit=0.15), 0, False)
    rule = RSTDP((0.004, -0.003), (-0.004, 0.0005), (0.2, 0.8), stabilizer=False, adaptive=Adaptive(0, 1, 1000))
    assert third == Step(4, rule, WTA(1), epochs=20)
    assert grids(model) == (
        (6, 28, 28), (30, 28, 28), (30, 14, 14), (250, 14, 14), (250, 4, 4), (200, 4, 4),
    )  # fmt: skip


def test_mozafari2019_mnist_with_a_readout():
    whole, model = mozafari2019_mnist(), mozafari2019_mnist_svm()
    assert (model.encoder, model.layers, model.steps) == (whole.encoder, whole.layers[:4], whole.steps[:2])
    assert model.readout == LinearReadout(C=0.01, kind="fired")
    assert mozafari2019_mnist(LinearReadout(C=3)).readout == LinearReadout(C=3)


def test_mozafari2019_mnist_quick_differs_in_the_last_rates_only():
    whole, model = mozafari2019_mnist(), mozafari2019_mnist_quick()
    rule = model.steps[2].rule
    assert (rule.reward, rule.punish) == ((0.008, -0.006), (-0.008, 0.001))
    slow = replace(rule, reward=(0.004, -0.003), punish=(-0.004, 0.0005))
    steps = (*model.steps[:2], replace(model.steps[2], rule=slow))
    assert replace(model, name=whole.name, steps=steps) == whole


def test_kheradpisheh2018_mnist():
    model = kheradpisheh2018_mnist()
    stages = (Filter((DoG(7, 1, 2), DoG(7, 2, 1)), padding=3, threshold=50), LocalNormalization(8))
    assert (model.size, model.encoder) == ((28, 28), ImageEncoder(stages, EqualBins(15)))
    assert model.layers == (
        Conv(32, kernel=5, padding=2, threshold=10),
        Pool(2, 2, padding=1),
        Conv(150, kernel=2, padding=1, threshold=1),
        Pool(2, 2, padding=1),
    )
    first, second = model.steps
    assert as_learnt(first) == (0, 0.004, -0.003, 5, 2, 2)
    assert as_learnt(second) == (2, 0.004, -0.003, 8, 1, 20)
    assert (first.schedule, first.inhibit_input) == (Doubling(every=500, limit=0.15), False)
    assert (second.schedule, second.inhibit_input) == (None, True)
    assert model.readout == LinearReadout(C=2.4, kind="fired")
    assert grids(model)[-1] == (150, 9, 9)


def test_falez2019_mnist():
    model = falez2019_mnist()
    cells = Filter((DoG(7, 1, 4, "sum"),), padding=3, signed=True)
    stages = (Scale(1 / 255), cells, OnOff(0.001), DivideByMax())
    assert (model.size, model.encoder) == ((28, 28), ImageEncoder(stages, Linear(1000)))
    assert model.layers == (Conv(32, kernel=5, threshold=8, init=Normal(0.5, 0.15)),)
    rule = STDP(0.1, -0.1, (0, 1), dependence="multiplicative", tau=None, beta=1)
    adaptation = ThresholdAdaptation(rate=1, target=0.75, floor=1)
    assert model.steps == (
        Step(0, rule, WTA(1), epochs=5, schedule=Annealing(0.95), adaptation=adaptation, patches=True),
    )
    assert model.readout == LinearReadout(C=0.01, kind=Feature("target-time", target=0.75, regions=(6, 6)))
    assert grids(model) == ((2, 28, 28), (32, 24, 24))


def test_falez2019_codes_contrast_as_time():
    """A bright point: its on-cell fires first, at 0; the off-cells around it later, the nearer the earlier."""
    image = np.zeros((28, 28), np.uint8)
    image[14, 14] = 200
    events = falez2019_mnist().encoder.encode(image)
    assert (events.time[0], events.channel[0], events.y[0], events.x[0]) == (0, 0, 14, 14)
    off = {(y, x): t for t, c, y, x in zip(events.time, events.channel, events.y, events.x, strict=True) if c == 1}
    assert 0 < off[14, 17] < 1000
    assert off[14, 17] == off[11, 14] == off[17, 14] == off[14, 11]
    assert off[14, 17] < off[16, 17] < off[17, 17]


def test_goupy2022_mnist():
    model = goupy2022_mnist()
    assert (model.size, model.encoder) == ((28, 28), ImageEncoder((), EqualBins(15)))
    assert model.layers == (Conv(70, kernel=7, padding=3, threshold=10), PointwiseInhibition(), Pool(3))
    (step,) = model.steps
    assert as_learnt(step) == (0, 0.01, -0.02, 7, 3, 1)
    assert (step.schedule, step.stop_below) == (Doubling(every=72, limit=0.1), 0.01)
    assert model.readout == LinearReadout(C=0.005, kind="fired")
    assert grids(model)[-1] == (70, 9, 9)


def test_goupy2022_stops_when_it_has_converged():
    model = goupy2022_mnist()
    images = load_images("digits", "train", size=model.size)
    data = model.encoder.encode(images.pixels, images.labels)
    history = fit(Network(model.layers, data.shape), data, **vars(model.steps[0]))
    assert history.converged
    assert history.epochs[0].presented == history.curve[-1, 0] < len(data)
    assert history.curve[-1, 1] < 0.01 <= history.curve[:-1, 1].min()


def test_digits():
    model = digits()
    cells = (DoG(7, 7 / 9, 14 / 9), DoG(7, 14 / 9, 7 / 9))
    stages = (Filter(cells, padding=3, threshold=5), LocalNormalization(4))
    assert (model.size, model.encoder) == ((16, 16), ImageEncoder(stages, EqualBins(15)))
    assert model.layers == (
        Conv(32, kernel=5, padding=2, threshold=9),
        Pool(2),
        Conv(100, kernel=3, padding=1, threshold=8),
        Pool(2),
    )
    assert [as_learnt(step) for step in model.steps] == [(0, 0.004, -0.003, 5, 2, 2), (2, 0.004, -0.003, 8, 1, 4)]
    assert {step.schedule for step in model.steps} == {Doubling(every=200, limit=0.15)}
    assert model.readout == LinearReadout(C=0.002, kind="latency")
    assert grids(model)[-1] == (100, 4, 4)


def test_digits_are_told_apart():
    model = digits()
    images = [load_images("digits", part, size=model.size) for part in ("train", "test")]
    train, test = (model.encoder.encode(part.pixels, part.labels) for part in images)
    result = model.train(train, seed=1).evaluate(test)
    assert len(test) == 359
    assert result.accuracy >= 0.96
    assert result.silent == 0


def test_models_by_name():
    assert {name: make().name for name, make in MODELS.items()} == {name: name for name in MODELS}
    assert set(MODELS) >= {"mozafari2019_mnist", "mozafari2019_mnist_svm", "kheradpisheh2018_mnist", "digits"}


def test_with_epochs():
    model = mozafari2019_mnist()
    changed = model.with_epochs([1, 7, 3])
    assert [step.epochs for step in changed.steps] == [1, 7, 3]
    assert [step.epochs for step in model.steps] == [2, 4, 20]
    assert changed.with_epochs((2, 4, 20)) == model


@pytest.mark.parametrize("epochs", [[1, 2], [1, 2, 3, 4], [1, 0, 3], [1, 2, -1], []])
def test_with_epochs_refuses(epochs):
    with pytest.raises(ValueError, match="epochs expects 3 positive numbers for mozafari2019_mnist") as caught:
        mozafari2019_mnist().with_epochs(epochs)
    assert str(caught.value).endswith(f"got {epochs}")


# Training, on bars: columns of class 0, rows of class 1

ENCODER = ImageEncoder((Scale(1 / 255),), Linear(8))
FIRST = Step(0, STDP(0.1, -0.08), WTA(2, radius=1), epochs=3, schedule=Doubling(every=10, limit=0.15), dropout=0.2)
REWARD = RSTDP((0.05, -0.04), (-0.05, 0.01), adaptive=Adaptive(0.2, 0.8, None))
LAYERS = (Conv(6, kernel=3, padding=1, threshold=2), Pool(2))
WITH_READOUT = Model("bars", ENCODER, (8, 8), LAYERS, (FIRST,), LinearReadout(C=1, kind="latency"))
REWARDED = Model(
    "rewarded", ENCODER, (8, 8), (*LAYERS, Dense(4, threshold=inf)), (FIRST, Step(2, REWARD, WTA(1), epochs=6))
)
BOTH = pytest.mark.parametrize("model", [WITH_READOUT, REWARDED], ids=lambda model: model.name)


def bars(n, seed=0):
    """Return images of bright bars among dark specks, uint8 (n, 8, 8), and their classes."""
    rng = np.random.default_rng(seed)
    labels, images = rng.integers(0, 2, n), 100 * (rng.random((n, 8, 8)) < 0.1)
    for image, label, place in zip(images, labels, rng.integers(1, 7, n), strict=True):
        (image if label else image.T)[place] = 255
    return images.astype(np.uint8), labels


def encoded(n=40, seed=0):
    return ENCODER.encode(*bars(n, seed))


def noise(n, seed):
    """Return stimuli whose labels mean nothing."""
    rng = np.random.default_rng(seed)
    return ENCODER.encode(rng.integers(0, 256, (n, 8, 8)), rng.integers(0, 2, n))


def same_weights(a, b):
    return all(np.array_equal(a.network.weights[i], b.network.weights[i]) for i in a.network.trainable)


@BOTH
def test_training_learns_bars(model):
    trained = model.train(encoded(100), seed=1)
    images, labels = bars(60, seed=9)
    assert np.mean(trained.predict(images) == labels) >= 0.9
    assert (trained.name, trained.encoder, trained.size) == (model.name, ENCODER, (8, 8))
    assert [len(record.epochs) for record in trained.records] == [step.epochs for step in model.steps]
    assert [record.layer for record in trained.records] == [step.layer for step in model.steps]
    assert json.loads(json.dumps([record.to_dict() for record in trained.records]))[0]["validation"] == []


def test_images_of_another_size(tmp_path):
    """What has learnt from other images than its recipe names takes images of their size, from the shell too."""
    images, labels = bars(20)
    wide = np.repeat(images, 2, axis=2)
    trained = WITH_READOUT.train(ENCODER.encode(wide, labels))
    assert trained.size == (8, 16)
    trained.save(tmp_path / "run")
    for label in (0, 1):
        (tmp_path / "wide" / str(label)).mkdir(parents=True)
    for i, (image, label) in enumerate(zip(wide, labels, strict=True)):
        Image.fromarray(image).save(tmp_path / "wide" / str(label) / f"{i}.png")
    accuracy = evaluate_run(tmp_path / "run", str(tmp_path / "wide"), say=lambda _: None)["accuracy"]
    assert accuracy == np.mean(trained.predict(wide) == labels)
    seen_by_a_camera = Events.from_columns([0, 1], [0, 1], [3, 3], [3, 4], shape=(2, 8, 9), offsets=[0, 1, 2])
    assert WITH_READOUT.train(seen_by_a_camera.with_labels([0, 1])).size == (8, 8)


def test_a_dataset_says_of_what_size_its_images_were(tmp_path):
    """Of images with 9 and with 8 rows the pooled grid is the same."""
    model = replace(WITH_READOUT, encoder=ImageEncoder((Scale(1 / 255), MaxPool(2)), Linear(8)))
    images, labels = bars(20)
    higher = np.concatenate([images, images[:, :1]], axis=1)
    events = model.encoder.encode(higher, labels)
    assert model.train(events).size == (8, 8)
    write(tmp_path / "a.h5", events, extra={"image_size": [9, 8]})
    with EventDataset(tmp_path / "a.h5") as data:
        assert model.train(data).size == (9, 8)


def test_training_is_the_fits_it_names():
    data = encoded()
    trained = REWARDED.train(data, seed=3)
    net = Network(REWARDED.layers, (1, 8, 8), seed=3)
    schedule = Doubling(every=10, limit=0.15)
    fit(net, data, layer=0, rule=FIRST.rule, competition=WTA(2, 1), epochs=3, schedule=schedule, dropout=0.2, seed=3)
    fit(net, data, layer=2, rule=REWARD, competition=WTA(1), epochs=6, seed=3)
    assert all(np.array_equal(trained.network.weights[i], net.weights[i]) for i in (0, 2))
    assert np.array_equal(trained.network.classes, [0, 0, 1, 1])

    readout = WITH_READOUT.train(data, seed=3).readout
    short = Network(LAYERS, (1, 8, 8))
    short.set_weights(0, net.weights[0])
    expected = LinearReadout(C=1, kind="latency").fit(features(short, data, "latency"), data.labels)
    assert np.array_equal(readout.coefficients, expected.coefficients)


def test_inhibited_input():
    def trained(inhibit):
        second = Step(2, STDP(0.1, -0.08), inhibit_input=inhibit)
        return Model("two", ENCODER, (8, 8), (*LAYERS, Dense(4, threshold=3)), (FIRST, second)).train(encoded())

    inhibited, free = trained(True).network.weights, trained(False).network.weights
    assert np.array_equal(inhibited[0], free[0])
    assert not np.array_equal(inhibited[2], free[2])


@BOTH
def test_a_seed_gives_the_same_bits_on_every_backend(model):
    data = encoded(20)
    first = model.train(data, seed=5, backend="reference")
    for _ in range(2):
        assert same_weights(first, model.train(data, seed=5, backend="cpu"))
    assert not same_weights(first, model.train(data, seed=6))


def test_progress():
    seen = []
    WITH_READOUT.train(encoded(), progress=lambda *report: seen.append(report))
    assert all(0 <= done <= total for done, total, _ in seen)
    assert list(dict.fromkeys(phase for *_, phase in seen)) == [
        "layer 0, epoch 1/3", "layer 0, epoch 2/3", "layer 0, epoch 3/3", "linear readout",
    ]  # fmt: skip
    assert seen[-1][:2] == (1, 1)


@BOTH
def test_training_refuses(model):
    unlabelled = ENCODER.encode(bars(4)[0])
    with pytest.raises(ValueError, match=f"data expects samples with labels for {model.name}, got none"):
        model.train(unlabelled)
    with pytest.raises(ValueError, match=r"layer 1 \(Pool\(2\)\) does not fit its input"):
        model.train(ENCODER.encode(np.zeros((2, 1, 1)), [0, 1]))


# Selection on validation data


def test_the_best_epoch_is_kept():
    # Labels that mean nothing: the accuracy on held-out data goes up and down by chance.
    data, held_out = noise(30, seed=4), noise(30, seed=104)
    trained = REWARDED.train(data, validation=held_out)
    assert trained.records[0].validation == ()  # without reward there is nothing to select by
    accuracies = trained.records[1].validation
    best = int(np.argmax(accuracies))  # the first of equals
    assert len(accuracies) == 6
    assert 0 < best < 5
    assert min(accuracies) < accuracies[best] > accuracies[-1]

    until = [REWARDED.with_epochs([3, n]).train(data) for n in range(1, 7)]
    assert [model.evaluate(held_out).accuracy for model in until] == list(accuracies)
    assert [same_weights(trained, model) for model in until].index(True) == best
    assert trained.evaluate(held_out).accuracy == accuracies[best]
    last = REWARDED.train(data)
    assert same_weights(last, until[-1])
    assert not same_weights(last, trained)


def test_validation_leaves_unrewarded_training_alone():
    data = encoded()
    trained = WITH_READOUT.train(data, validation=encoded(10, seed=7))
    assert same_weights(trained, WITH_READOUT.train(data))
    assert [record.validation for record in trained.records] == [()]


def test_validation_without_labels():
    with pytest.raises(ValueError, match="validation expects samples with labels"):
        REWARDED.train(encoded(), validation=ENCODER.encode(bars(4)[0]))


# Deciding


@BOTH
def test_predict_is_evaluate_of_encoded_images(model):
    trained = model.train(encoded())
    images, labels = bars(25, seed=4)
    result = trained.evaluate(ENCODER.encode(images, labels))
    found = trained.predict(images)
    assert found.dtype == np.int64
    assert np.array_equal(found, result.decisions)
    assert np.array_equal(found, evaluate(trained.network, ENCODER.encode(images), trained.readout).decisions)
    assert set(found.tolist()) == {0, 1}
    assert np.array_equal(trained.predict(images[:1]), found[:1])
    with pytest.raises(ValueError, match=r"images expects the shape \(n_images, 8, 8\), got \(25, 7, 8\)"):
        trained.predict(images[:, 1:])
    with pytest.raises(ValueError, match=r"images expects the shape \(n_images, 8, 8\), got \(8, 8\)"):
        trained.predict(images[0])
    for other, name in ((images / 255, "float64"), (images.astype(np.int64), "int64"), (images.tolist(), "list")):
        with pytest.raises(TypeError, match=f"images expects an array of uint8, got {name}"):
            trained.predict(other)


def test_a_black_image_leaves_the_network_silent():
    black = np.zeros((2, 8, 8), np.uint8)
    assert REWARDED.train(encoded()).predict(black).tolist() == [-1, -1]
    trained = WITH_READOUT.train(encoded())
    assert trained.evaluate(ENCODER.encode(black)).silent == 2
    by_intercept = int(trained.readout.intercept[0] > 0)  # of two classes
    assert trained.predict(black).tolist() == [by_intercept] * 2


# Saving and loading


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return a trained model of each kind and the folder that it was saved in."""
    pairs = {}
    for model in (WITH_READOUT, REWARDED):
        trained = model.train(encoded())
        folder = tmp_path_factory.mktemp("models") / "deep" / model.name
        trained.save(folder)
        pairs[model.name] = trained, folder
    return pairs


@pytest.fixture
def folder(saved, tmp_path):
    """Return a copy of the saved model with a readout, to be damaged."""
    return shutil.copytree(saved["bars"][1], tmp_path / "run")


@pytest.mark.parametrize("name", ["bars", "rewarded"])
def test_save_and_load(saved, name, backend):
    trained, folder = saved[name]
    loaded = Trained.load(folder, backend)
    assert loaded.network.backend is backend
    images, _ = bars(30, seed=8)
    assert np.array_equal(loaded.predict(images), trained.predict(images))
    assert same_weights(loaded, trained)
    assert (loaded.name, loaded.size, loaded.encoder, loaded.records) == (name, (8, 8), ENCODER, ())
    files = {"model.json", "network.h5"} | ({"readout.h5"} if name == "bars" else set())
    assert {path.name for path in folder.iterdir()} == files


def test_saving_again_replaces(saved, folder):
    rewarded, _ = saved["rewarded"]
    rewarded.save(folder)
    loaded = Trained.load(folder, "reference")
    assert (loaded.name, loaded.readout) == ("rewarded", None)
    assert same_weights(loaded, rewarded)


def test_load_of_no_model(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(FileNotFoundError, match=r"not a trained model, there is no model\.json"):
            Trained.load(path)


def without(key):
    return lambda fields: {name: value for name, value in fields.items() if name != key}


def having(**values):
    return lambda fields: fields | values


DESCRIPTIONS = {
    "no name": (without("name"), "'name'"),
    "no encoder": (without("encoder"), "'encoder'"),
    "no size": (without("size"), "'size'"),
    "no readout": (without("readout"), "'readout'"),
    "short size": (having(size=[8]), "index out of range"),
    "size of words": (having(size=["a", "b"]), "invalid literal"),
    "not an encoder": (having(encoder={"type": "Nothing"}), "Nothing"),
    "a list": (lambda fields: [fields], "list indices"),
}


@pytest.mark.parametrize("case", DESCRIPTIONS)
def test_load_of_a_wrong_description(folder, case):
    change, message = DESCRIPTIONS[case]
    path = folder / "model.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ValueError, match=r"model\.json: not the description of a model: ") as caught:
        Trained.load(folder)
    assert message in str(caught.value)


def test_load_of_a_description_that_is_not_text(folder):
    path = folder / "model.json"
    for damaged in (path.read_bytes()[:-20], b"\xff\x00\xfe", b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"model\.json: not the description of a model"):
            Trained.load(folder)


def test_a_readout_of_another_network_is_refused_by_name(tmp_path):
    trained = WITH_READOUT.train(encoded())
    trained.save(tmp_path)
    columns = trained.readout.coefficients
    for other in (
        replace(trained.readout, coefficients=columns[:, 1:]),
        replace(trained.readout, kind=Feature(regions=(60, 60))),
    ):
        other.save(tmp_path / "readout.h5")
        with pytest.raises(ValueError, match=r"readout\.h5: a readout of another network: .*expects"):
            Trained.load(tmp_path)


@pytest.mark.parametrize("name", ["network.h5", "readout.h5"])
def test_load_of_missing_and_damaged_files(folder, name):
    path = folder / name
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(FileNotFoundError, match=name):
        Trained.load(folder)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f"{name}: not a file that eventsnn can read"):
        Trained.load(folder)
    other = {"network.h5": "readout.h5", "readout.h5": "network.h5"}[name]
    path.write_bytes(whole if name == other else (folder / other).read_bytes())
    with pytest.raises(ValueError, match=f"{name}: .*format expects"):
        Trained.load(folder)


def test_text_is_replaced_or_left(tmp_path):
    write_text(tmp_path / "a.json", "old")
    write_text(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text() == "new"
    (tmp_path / "b.json").mkdir()
    with pytest.raises(OSError, match=r"b\.json"):
        write_text(tmp_path / "b.json", "text")
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "b.json"}
