"""Whitening that an experiment describes: fitted to the training images alone, and kept from then on."""

import json
from dataclasses import replace

import numpy as np
import pytest

from eventsnn import Events, cli
from eventsnn.encode import ZCA, EqualBins, FitPatchZCA, FitZCA, ImageEncoder, OnOff, PatchZCA, Scale
from eventsnn.experiment import Experiment, model_to_dict
from eventsnn.io import EventDataset, load_images
from eventsnn.layers import Conv
from eventsnn.models import Model, Step, Trained
from eventsnn.plasticity import RSTDP, STDP
from eventsnn.readout import LinearReadout
from eventsnn.sources import held_out

RECIPE = ImageEncoder((Scale(1 / 255), FitPatchZCA(0.02, 3, 1, 50), OnOff()), EqualBins(7))


def photos(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8)).astype(np.uint8)


def fitted_by_hand(images, encoder=RECIPE):
    """Return the recipe's encoder, fitted to images by the stage's own ``fit``."""
    return replace(encoder, stages=(Scale(1 / 255), PatchZCA.fit(images / 255, 0.02, window=3, stride=1), OnOff()))


def close(one, other):
    """Tell whether two encoders differ in the rounding of the fitted weights alone."""
    weights = [encoder.stages[1].weights.array for encoder in (one, other)]
    same = replace(one, stages=()) == replace(other, stages=()) and one.stages[::2] == other.stages[::2]
    return same and np.allclose(*weights, rtol=1e-3, atol=1e-3)


def test_fit_takes_evenly_spaced_images():
    images = photos(120)
    found = RECIPE.fit(images)
    assert close(found, fitted_by_hand(images[np.arange(50) * 120 // 50]))
    assert not close(found, fitted_by_hand(images[:50]))
    assert found == RECIPE.fit(images)
    assert (RECIPE.fitted, found.fitted) == (False, True)
    assert found.fit(photos(3, seed=1)) is found
    assert RECIPE.output_shape(8, 8) == found.output_shape(8, 8)
    assert close(RECIPE.fit(images[:9]), fitted_by_hand(images[:9]))  # fewer than it may take


def test_each_stage_is_fitted_to_what_comes_to_it():
    images = photos(60)
    both = ImageEncoder((Scale(0.1), FitPatchZCA(window=3), Scale(3), FitZCA(0.5, 40), OnOff()), EqualBins(7)).fit(
        images
    )
    before = ImageEncoder(both.stages[:3], EqualBins(7)).intensities(images[np.arange(40) * 60 // 40])
    assert both.stages[3] == ZCA.fit(before, 0.5)


def test_what_is_not_fitted_does_not_encode():
    for encoder in (RECIPE, ImageEncoder((FitZCA(), OnOff()), EqualBins(3))):
        for use in (encoder.encode, encoder.intensities):
            with pytest.raises(ValueError, match=r"ZCA is not fitted yet: ImageEncoder\.fit\(images\)"):
                use(photos(2))
    with pytest.raises(ValueError, match="fit expects at least one image, got none"):
        RECIPE.fit(photos(0))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FitPatchZCA(window=4), "FitPatchZCA: window expects an odd number of pixels, got 4"),
        (lambda: FitPatchZCA(stride=0), "FitPatchZCA: stride expects an integer of at least 1, got 0"),
        (lambda: FitPatchZCA(epsilon=0), "FitPatchZCA: epsilon expects a finite number above 0"),
        (lambda: FitZCA(images=0.5), "FitZCA: images expects an integer of at least 1"),
        (lambda: FitPatchZCA(window=9).output_shape((1, 8, 12)), "FitPatchZCA of window 9 expects images as large"),
    ],
)
def test_wrong_parameters_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def recipe(rule=None):
    rewarded = rule is not None
    layer = Conv(3, kernel=3, threshold=np.inf if rewarded else 4)
    step = Step(0, rule or STDP(0.05, -0.05))
    return Model("whitened", RECIPE, (8, 8), (layer,), (step,), None if rewarded else LinearReadout())


def test_it_can_be_written_as_toml_and_needs_a_fit():
    model = recipe()
    plain = model_to_dict(model)
    stage = plain["encoder"]["stages"][1]
    assert stage == {"type": "FitPatchZCA", "epsilon": 0.02, "window": 3, "stride": 1, "images": 50}
    assert Experiment.from_dict(plain).model == model
    events = Events.from_latency(np.zeros((2, 2, 8, 8), np.int64), duration=7).with_labels(np.arange(2))
    with pytest.raises(ValueError, match="whitened: the encoder is not fitted"):
        model.train(events)
    assert replace(model, encoder=RECIPE.fit(photos(60))).train(events).encoder.fitted


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """Return a folder with an experiment and images in a training and a test part."""
    monkeypatch.chdir(tmp_path)
    labels = np.arange(90) % 3
    np.savez("images.npz", x_train=photos(90), y_train=labels, x_test=photos(30, seed=1), y_test=labels[:30])
    write_toml(tmp_path / "mine.toml", recipe())
    return tmp_path


def write_toml(path, model):
    def toml(value):
        if isinstance(value, dict):
            return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
        return "[" + ", ".join(map(toml, value)) + "]" if isinstance(value, list) else plain(value)

    def plain(value):
        return json.dumps(value).replace("Infinity", "inf")

    path.write_text("\n".join(f"{key} = {toml(value)}" for key, value in Experiment(model).to_dict().items()))


def call(*arguments):
    with pytest.raises(SystemExit) as left:
        cli.main(list(map(str, arguments)))
    return left.value.code or 0


def test_train_fits_to_the_training_images_and_keeps_it(workplace):
    assert call("train", "mine.toml", "--data", "images.npz", "-o", "run") == 0
    trained, images = Trained.load("run"), load_images("images.npz", "train")
    assert trained.encoder == RECIPE.fit(images.pixels)
    test = load_images("images.npz", "test")
    decided = trained.predict(test.pixels)
    result = trained.evaluate(trained.encoder.encode(test.pixels, test.labels))
    assert result.accuracy == (decided == test.labels).mean()
    assert call("evaluate", "run", "--data", "images.npz") == 0


def test_what_is_held_out_is_not_fitted_to(workplace):
    write_toml(workplace / "chooses.toml", recipe(RSTDP((0.1, -0.1), (-0.1, 0.1))))
    assert call("train", "chooses.toml", "--data", "images.npz", "-o", "run", "--validation", "0.5") == 0
    images = load_images("images.npz", "train")
    held = held_out(images.labels, None, 0.5)
    assert Trained.load("run").encoder == RECIPE.fit(images.pixels[~held])


def test_an_event_file_brings_its_fitted_encoder(workplace, capsys):
    assert call("encode", "images.npz", "--encoder", "mine.toml", "-o", "train.h5") == 0
    with EventDataset("train.h5") as data:
        fitted = ImageEncoder.from_dict(data.provenance["encoder"])
    assert fitted == RECIPE.fit(load_images("images.npz", "train").pixels)
    assert call("train", "mine.toml", "--data", "train.h5", "-o", "file") == 0
    assert call("train", "mine.toml", "--data", "images.npz", "-o", "images") == 0
    assert Trained.load("file").encoder == fitted
    logs = [json.loads((workplace / run / "log.json").read_text()) for run in ("file", "images")]
    assert logs[0]["steps"][0]["epochs"][0]["winners"] == logs[1]["steps"][0]["epochs"][0]["winners"]
    assert call("encode", "images.npz", "--split", "test", "--encoder", "train.h5", "-o", "test.h5") == 0
    assert call("evaluate", "file", "--data", "test.h5") == 0
    with EventDataset("test.h5") as data:
        assert ImageEncoder.from_dict(data.provenance["encoder"]) == fitted


def test_test_images_are_not_fitted_to(workplace, capsys):
    for split in ("test", "all"):
        code = call("encode", "images.npz", "--split", split, "--encoder", "mine.toml", "-o", "test.h5")
        assert (code, (workplace / "test.h5").exists()) == (2, False)
        assert "mine.toml is fitted to training images" in capsys.readouterr().err


def test_a_file_that_was_fitted_otherwise_is_refused(workplace, capsys):
    other = replace(RECIPE, stages=(Scale(1 / 255), FitPatchZCA(0.03, 3, 1, 50), OnOff()))
    write_toml(workplace / "other.toml", replace(recipe(), encoder=other))
    for made_by in ("other.toml", "mozafari2018"):
        assert call("encode", "images.npz", "--encoder", made_by, "-o", "train.h5") == 0
        capsys.readouterr()
        assert call("train", "mine.toml", "--data", "train.h5", "-o", "run") == 1
        assert "train.h5: its encoder was not fitted as the model's is to be" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [({}, "plain.h5: does not say which encoder made it"), ({"encoder": {"type": "Retina"}}, "not known here")],
)
def test_an_event_file_that_has_no_encoder_to_give(content, message, workplace, capsys):
    from eventsnn.io import write

    write("plain.h5", RECIPE.fit(photos(9)).encode(photos(2)), **content)
    assert call("encode", "images.npz", "--encoder", "plain.h5", "-o", "new.h5") == 1
    assert message in capsys.readouterr().err
