"""Features in pixel space against SpykeTorch's, against impulses sent through the layers, and what pictures show."""

import dataclasses
import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventsnn
from eventsnn import plot
from eventsnn.encode import (
    ZCA,
    DivideByMax,
    DoG,
    EqualBins,
    Filter,
    Gabor,
    ImageEncoder,
    LocalNormalization,
    LoG,
    OnOff,
    PatchZCA,
    Scale,
    Standardize,
)
from eventsnn.evaluation import Activity, Evaluation
from eventsnn.events import Events
from eventsnn.layers import Conv, Dense, FeatureInhibition, PointwiseInhibition, Pool
from eventsnn.network import Network
from eventsnn.plasticity import RSTDP, STDP
from eventsnn.reconstruct import can_reconstruct, reconstruct
from eventsnn.train import fit

# Features in pixel space


def convolved(image, weights, stride):
    """Return the potentials (maps, OH, OW) of an image (channels, H, W), by definition, in float64."""
    rows, columns = ((n - k) // s + 1 for n, k, s in zip(image.shape[1:], weights.shape[2:], stride, strict=True))
    out = np.empty((len(weights), rows, columns))
    for y, x in np.ndindex(rows, columns):
        field = image[:, y * stride[0] :, x * stride[1] :][:, : weights.shape[2], : weights.shape[3]]
        out[:, y, x] = (weights * field).sum(axis=(1, 2, 3))
    return out


pairs = st.tuples(st.integers(1, 2), st.integers(1, 3))


@given(st.lists(st.tuples(pairs, pairs), min_size=1, max_size=3), st.integers(0, 2**32 - 1))
def test_signed_feature_is_the_answer_to_impulses(windows, seed):
    # The layers without thresholds are linear: a pixel's part in the potential is the answer to that pixel alone.
    size = (1, 1)
    for kernel, stride in reversed(windows):
        size = tuple((n - 1) * s + k for n, s, k in zip(size, stride, kernel, strict=True))
    layers = [Conv(2, kernel, stride=stride, threshold=1) for kernel, stride in windows]
    net, rng = (
        Network([*layers, PointwiseInhibition(), FeatureInhibition([1])], (2, *size)),
        np.random.default_rng(seed),
    )
    for i in net.trainable:
        net.set_weights(i, rng.normal(size=net.weights_shape(i)))
    expected = np.zeros((2, *size))
    for y, x in np.ndindex(*size):
        answer = np.zeros((2, *size))
        answer[:, y, x] = 1
        for i, (_, stride) in enumerate(windows):
            answer = convolved(answer, net.weights[i], stride)
        expected[:, y, x] = answer[:, 0, 0]
    found = reconstruct(net, len(layers) + 1, signed=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_unsigned_takes_the_best_channel_and_never_falls_below_zero():
    net = Network([Conv(2, kernel=(1, 2), threshold=1)], (2, 1, 2))
    net.set_weights(0, np.array([[[[0.5, -3]], [[0.25, 2]]], [[[-1, -2]], [[-3, 0.5]]]]))
    assert reconstruct(net, 0).tolist() == [[[0.5, 2]], [[0, 0.5]]]
    assert reconstruct(net, 0, signed=True).tolist() == [[[0.75, -1]], [[-4, -1.5]]]


@pytest.mark.parametrize(("kernel", "middle"), [(2, 1), (3, 1), (4, 2)])
def test_pooling_puts_the_feature_in_the_middle(kernel, middle):
    net = Network([Pool(kernel)], (1, kernel, kernel))
    expected = np.zeros((kernel, kernel))
    expected[middle, middle] = 1
    assert np.array_equal(reconstruct(net, 0), [expected])


def test_dense_and_chosen_maps():
    net = Network([Pool((1, 2)), Dense(4, threshold=1)], (1, 3, 4))
    whole = reconstruct(net, 1)
    assert whole.shape == (4, 3, 4)
    assert np.array_equal(whole[:, :, 1::2], net.weights[1][:, 0])
    assert not whole[:, :, ::2].any()
    assert np.array_equal(reconstruct(net, 1, maps=[3, 0]), whole[[3, 0]])


def test_normalization_and_scale_leave_features():
    cells = (DoG(3, 0.5, 1), Gabor(7, 30))
    plain = ImageEncoder((Filter(cells, padding=3),), EqualBins(15))
    more = ImageEncoder((Scale(1 / 255), Filter(cells, padding=3), LocalNormalization(2)), EqualBins(15))
    net = Network([PointwiseInhibition()], (2, 9, 9))
    found = reconstruct(net, 0, plain)
    assert found.shape == (2, 7, 7)
    assert np.array_equal(found[0, 2:5, 2:5], np.maximum(cells[0].array(), 0))  # the smaller in the middle
    assert np.array_equal(found[1], np.maximum(cells[1].array(), 0))
    assert np.array_equal(reconstruct(net, 0, more), found)


def test_signed_filters_are_equally_strong():
    cells = (DoG(7, 1, 2), DoG(7, 2, 1))
    found = reconstruct(Network([Pool(1)], (2, 9, 9)), 0, ImageEncoder((Filter(cells),), EqualBins(15)), signed=True)
    assert found[0, 3, 3] == 1
    assert found[1, 3, 3] == -1
    np.testing.assert_allclose(found[0], -found[1], atol=1e-6)


def seen_from_the_middle(encoder, size, channels):
    """Return the intensities of the middle cell of each map for an impulse at each pixel, (channels, size, size)."""
    impulses = np.eye(size * size).reshape(-1, size, size)
    answers = encoder.intensities(impulses)
    assert answers.shape[1] == channels
    return answers[:, :, answers.shape[2] // 2, answers.shape[3] // 2].T.reshape(channels, size, size)


def test_log_filters_with_on_and_off_cells_are_their_answers_to_impulses():
    stages = (Filter([LoG(7, 1), LoG(7, 1.5)], signed=True), OnOff())
    encoder = ImageEncoder(stages, EqualBins(15))
    found = reconstruct(Network([Pool(1)], (4, 9, 9)), 0, encoder)
    np.testing.assert_allclose(found, seen_from_the_middle(encoder, 7, 4), atol=1e-6)
    assert (found.max(axis=(1, 2)) > 0).all()


@pytest.mark.parametrize(("polarity", "channels"), [("both", 2), ("on", 1), ("off", 1)])
def test_whitened_patches_are_their_answers_to_impulses(polarity, channels):
    images = np.random.default_rng(0).random((40, 12, 12)).cumsum(axis=1).cumsum(axis=2)
    white = PatchZCA.fit(images / images.max(), window=5)
    encoder = ImageEncoder((white, OnOff(polarity=polarity)), EqualBins(15))
    net = Network([Pool(1)], (channels, 9, 9))
    expected = seen_from_the_middle(encoder, 15, channels)[:, 5:10, 5:10]  # far from the border, which is continued
    np.testing.assert_allclose(reconstruct(net, 0, encoder), expected, atol=1e-6)
    both = [white.weights.array[0, 0], -white.weights.array[0, 0]]
    signed = {"both": both, "on": both[:1], "off": both[1:]}[polarity]
    assert np.array_equal(reconstruct(net, 0, encoder, signed=True), signed)


def test_standardizing_leaves_features():
    cells = Filter([DoG(3, 1, 2)])
    net = Network([Pool(1)], (1, 9, 9))
    plain, more = (ImageEncoder(stages, EqualBins(2)) for stages in ((cells,), (Standardize(), cells, DivideByMax())))
    assert np.array_equal(reconstruct(net, 0, plain), reconstruct(net, 0, more))


def test_recorded_weights_stand_in_for_the_present_ones():
    net = Network([Conv(2, kernel=3, threshold=1), Pool(2), Conv(3, kernel=2, threshold=1)], (1, 9, 9), seed=1)
    other = Network(net.layers, net.shape, seed=2)
    other.set_weights(0, net.weights[0])
    assert np.array_equal(reconstruct(net, 2, maps=[1], weights=other.weights[2]), reconstruct(other, 2, maps=[1]))
    with pytest.raises(ValueError, match=r"weights expects shape \(3, 2, 2, 2\), or fewer maps, got \(2, 1, 3, 3\)"):
        reconstruct(net, 2, weights=net.weights[0])
    with pytest.raises(ValueError, match="layer expects one that has weights"):
        reconstruct(net, 1, weights=net.weights[0])


@dataclass(frozen=True)
class Negative:
    """A stage of the user's own."""

    def output_shape(self, shape):
        return shape

    def apply(self, block):
        return block.max() - block


def test_reconstruct_refuses():
    net = Network([Conv(3, kernel=2, threshold=1)], (2, 5, 5))
    for layer in (-1, 1):
        with pytest.raises(IndexError, match=f"layer expects 0 to 0, got {layer}"):
            reconstruct(net, layer)
    for maps in ([3], [-1]):
        with pytest.raises(IndexError, match="maps expects indices of 0 to 2"):
            reconstruct(net, 0, maps=maps)
    with pytest.raises(ValueError, match="encoder expects to make 2 channels, makes 1"):
        reconstruct(net, 0, ImageEncoder((Filter([DoG(3, 1, 2)]),), EqualBins(2)))
    with pytest.raises(ValueError, match="expects stages whose features it knows, got Negative"):
        reconstruct(net, 0, ImageEncoder((Negative(),), EqualBins(2)))
    whole = ImageEncoder((ZCA.fit(np.random.default_rng(0).random((9, 5, 5))), OnOff()), EqualBins(2))
    with pytest.raises(ValueError, match="got ZCA, and ZCA makes each pixel of the image in another way"):
        reconstruct(net, 0, whole)
    assert not can_reconstruct(whole)
    assert can_reconstruct(ImageEncoder((Standardize(), Filter([DoG(3, 1, 2)], signed=True), OnOff()), EqualBins(2)))


# Pictures


def spikes(unit="bin", channels=3):
    time, channel, y, x = [0, 2000, 1000], [0, channels - 1, 1], [0, 1, 0], [1, 1, 0]
    if unit == "bin":
        time = [t // 1000 for t in time]
    shape, offsets = (channels, 2, 2), [0, 1, 3]
    return Events.from_columns(
        time, channel, y, x, shape=shape, offsets=offsets, unit=unit, duration=4 if unit == "bin" else 4000
    )


def marks(axes):
    """Return the left end, the height and the colour of each spike drawn."""
    (lines,) = axes.collections
    ends = np.array([segment[0] for segment in lines.get_segments()])
    return ends, [tuple(color) for color in lines.get_colors()]


def png(figure):
    with io.BytesIO() as stream:
        figure.savefig(stream)
        return stream.getvalue()


@pytest.mark.parametrize(("unit", "label"), [("bin", "time (bins)"), ("us", "time (ms)")])
def test_raster_of_one_layer(unit, label):
    axes = plot.raster(spikes(unit), sample=1)
    ends, colors = marks(axes)
    # map 1 at (0, 0) after 1, map 2 at (1, 1) after 2: the first and the last of four neurons of each map
    np.testing.assert_allclose(ends, [[1, 1 + 0.5 / 4], [2, 2 + 3.5 / 4]])
    assert colors[0] != colors[1]
    assert (axes.get_xlabel(), axes.get_ylabel()) == (label, "map")
    assert axes.get_ylim() == (3, 0)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["0", "1", "2"]


def test_raster_on_given_axes():
    figure = plot.raster(spikes()).figure
    axes = figure.subplots(1, 2)
    assert plot.raster(spikes(), -1, ax=axes[1]) is axes[1]
    assert len(marks(axes[1])[0]) == 2
    assert not axes[0].collections


def test_raster_of_many_maps_has_one_colour():
    assert len(set(marks(plot.raster(spikes(channels=9), 1))[1])) == 1


def test_raster_of_layers():
    figure = plot.raster([spikes(), spikes(channels=9), Events.empty((2, 3, 3), 2, duration=4)], 1)
    assert [len(marks(panel)[0]) for panel in figure.axes] == [2, 2, 0]
    assert [panel.get_title("left") for panel in figure.axes] == [
        "layer 0: 2 spikes", "layer 1: 2 spikes", "layer 2: 0 spikes",
    ]  # fmt: skip
    assert len({panel.get_xlim() for panel in figure.axes}) == 1
    assert plot.raster([spikes()], names=["input"]).axes[0].get_title("left") == "input: 1 spikes"
    assert png(figure).startswith(b"\x89PNG")


def test_raster_refuses():
    with pytest.raises(IndexError, match="sample expects an index into 2 samples, got 2"):
        plot.raster(spikes(), 2)
    with pytest.raises(ValueError, match="at least one layer"):
        plot.raster([])
    with pytest.raises(ValueError, match="names expects one for each of 1 layers, got 2"):
        plot.raster([spikes()], names=["a", "b"])
    with pytest.raises(ValueError, match="ax with one layer only, names with several only"):
        plot.raster(spikes(), names=["a"])
    with pytest.raises(ValueError, match="ax with one layer only, names with several only"):
        plot.raster([spikes()], ax=plot.raster(spikes()))


@pytest.mark.parametrize("signed", [True, False])
def test_features_show_the_reconstruction(signed):
    net = Network([Conv(5, kernel=3, threshold=1)], (2, 6, 6), seed=3)
    encoder = ImageEncoder((Filter([DoG(3, 0.5, 1), DoG(3, 1, 0.5)], padding=1),), EqualBins(15))
    figure = plot.features(net, 0, encoder, maps=[4, 1], signed=signed)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["4", "1"]
    for shown, image in zip(axes.images, reconstruct(net, 0, encoder, maps=[4, 1], signed=signed), strict=True):
        assert np.array_equal(shown.get_array(), image)
        lower, upper = shown.get_clim()
        assert upper == np.abs(image).max()
        assert lower == (-upper if signed else 0)
    assert axes.get_title() == "layer 0, Conv(5, kernel=3): learnt features, 5 x 5 pixels"


def test_features_lie_side_by_side():
    net = Network([Dense(7, threshold=1)], (2, 6, 3))
    (axes,) = plot.features(net, 0).axes
    places = [image.get_extent() for image in axes.images]
    assert len(places) == 7
    for left, right, bottom, top in places:
        assert (right - left, bottom - top) == pytest.approx((1, 2))
        assert axes.get_xlim()[0] <= left < right <= axes.get_xlim()[1]
        assert axes.get_ylim()[1] <= top < bottom <= axes.get_ylim()[0]
    for i, (left, _, _, top) in enumerate(places):
        assert all(abs(left - other[0]) > 1 or abs(top - other[3]) > 2 for other in places[i + 1 :])


def test_features_that_are_flat():
    net = Network([Conv(1, kernel=3, threshold=1)], (2, 6, 6))
    net.set_weights(0, np.zeros((1, 2, 3, 3)))
    assert png(plot.features(net, 0)).startswith(b"\x89PNG")


def test_weights_histogram():
    net = Network([Conv(2, kernel=2, threshold=1)], (1, 4, 4))
    net.set_weights(0, np.array([0, 0, 0, 0, 0, 0, 1, 1]).reshape(2, 1, 2, 2))
    axes = plot.weights_histogram(net, 0)
    heights = [bar.get_height() for bar in axes.patches]
    assert (heights[0], heights[-1], sum(heights)) == (75, 25, 100)
    assert axes.get_xlabel() == "weight"
    assert axes.get_ylabel() == "synapses (%)"


def test_spikes_over_time():
    axes = plot.spikes_over_time([spikes(), Events.empty((2, 3, 3), 2, duration=4)], names=["in", "out"])
    first, second = axes.lines
    # 3 spikes, one in each of bins 0 to 2, of 2 samples with 12 neurons
    assert dict(first.get_xydata().tolist()) == pytest.approx({0: 100 / 24, 1: 200 / 24, 2: 300 / 24, 4: 300 / 24})
    assert second.get_ydata().tolist() == [0, 0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["in", "out"]
    assert plot.spikes_over_time(spikes("us")).lines[0].get_xdata().tolist() == [0, 0, 1, 2, 4]
    for nothing in ([], Events.empty((1, 1, 1), 0)):
        with pytest.raises(ValueError, match="at least one layer and one sample"):
            plot.spikes_over_time(nothing)


@pytest.mark.parametrize(("unit", "latest", "label"), [("bin", 3, "time (bins)"), ("us", 4, "time (ms)")])
def test_latency_map(unit, latest, label):
    axes = plot.latency_map(spikes(unit), sample=1, maps=[2, 0, 1])
    third, first, second = (np.ma.filled(image.get_array().astype(float), -1).tolist() for image in axes.images)
    assert third == [[-1, -1], [-1, 2]]  # silent but for one
    assert second == [[1, -1], [-1, -1]]
    assert first == [[-1, -1], [-1, -1]]
    assert [text.get_text() for text in axes.texts] == ["2", "0", "1"]
    assert {image.get_clim() for image in axes.images} == {(0, latest)}
    (bar,) = (other for other in axes.figure.axes if other is not axes)
    assert bar.get_ylabel() == label
    assert png(axes.figure).startswith(b"\x89PNG")


def test_latency_map_takes_the_first_of_many_spikes():
    many = Events.from_columns([1, 3, 3], [0] * 3, [0] * 3, [0, 0, 1], shape=(1, 1, 2), duration=4)
    assert plot.latency_map(many).images[0].get_array().tolist() == [[1, 3]]


def test_latency_map_refuses():
    with pytest.raises(IndexError, match="sample expects an index into 2 samples, got 2"):
        plot.latency_map(spikes(), 2)
    with pytest.raises(IndexError, match=r"maps expects indices of 0 to 2, got \[3\]"):
        plot.latency_map(spikes(), maps=[3])


def test_evolution_has_a_row_for_each_moment():
    net = Network([Conv(20, kernel=3, threshold=1)], (2, 6, 6), seed=3)
    recorded = {"start": net.weights[0], "end": 1 - net.weights[0]}
    (axes,) = plot.evolution(net, 0, recorded, maps=[5, 0]).axes
    expected = [reconstruct(net, 0, maps=[m], weights=w, signed=True)[0] for w in recorded.values() for m in (5, 0)]
    assert np.array_equal([image.get_array() for image in axes.images], expected)
    assert [text.get_text() for text in axes.texts] == ["5", "0", "start", "end"]
    places = [image.get_extent() for image in axes.images]
    assert [place[0] for place in places[:2]] == [place[0] for place in places[2:]]
    assert len(plot.evolution(net, 0, recorded).axes[0].images) == 2 * 16
    with pytest.raises(ValueError, match="at least one moment, got none"):
        plot.evolution(net, 0, {})


def test_evolution_of_the_first_maps_by_presentations():
    net = Network([Conv(20, kernel=3, threshold=1)], (2, 6, 6), seed=3)
    snapshots = {0: net.weights[0][:2], 1600: 1 - net.weights[0][:2]}
    (axes,) = plot.evolution(net, 0, snapshots).axes
    expected = [reconstruct(net, 0, weights=w, signed=True) for w in snapshots.values()]
    assert np.array_equal([image.get_array() for image in axes.images], np.concatenate(expected))
    assert [text.get_text() for text in axes.texts] == ["0", "1", "0", "1,600"]
    assert axes.get_title().endswith("while it learnt, after so many stimuli")
    with pytest.raises(IndexError, match=r"maps expects indices of 0 to 1, got \[2\]"):
        plot.evolution(net, 0, snapshots, maps=[2])
    for wrong in (np.zeros((0, 2, 3, 3)), np.zeros((21, 2, 3, 3)), np.zeros((2, 1, 3, 3)), np.zeros(2)):
        with pytest.raises(ValueError, match=r"weights expects shape \(20, 2, 3, 3\), or fewer maps, got"):
            plot.evolution(net, 0, {"now": wrong})


@pytest.fixture(scope="module")
def histories():
    """Return what two layers' training did: by STDP, then by reward."""
    net = Network([Conv(4, kernel=2, threshold=1), Dense(2, threshold=2)], (3, 2, 2), seed=0)
    data = eventsnn.concatenate([spikes()] * 4)
    first = fit(net, data, layer=0, rule=STDP(0.1, -0.1), epochs=2)
    labelled = dataclasses.replace(data, labels=np.arange(8) % 2)
    return first, fit(net, labelled, layer=1, rule=RSTDP((0.1, -0.1), (-0.1, 0.1)), epochs=3)


def lines(axes):
    return {line.get_label(): line.get_xydata().tolist() for line in axes.lines}


def test_convergence(histories):
    axes = plot.convergence(histories)
    assert lines(axes) == {f"layer {i}": history.curve.tolist() for i, history in enumerate(histories)}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("stimuli presented", "convergence, mean of u (1 - u)")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["layer 0", "layer 1"]


def test_accuracy(histories):
    judged = zip(histories[1].epochs, (0.5, 0.75, 0.25), strict=True)
    record = dataclasses.replace(histories[1], epochs=tuple(dataclasses.replace(e, validation=v) for e, v in judged))
    axes = plot.accuracy([histories[0], record])
    learning = [[i + 1, 100 * epoch.accuracy] for i, epoch in enumerate(histories[1].epochs)]
    held_out = [[1, 50], [2, 75], [3, 25]]
    assert lines(axes) == {"layer 1, while learning": learning, "layer 1, held out": held_out}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "right decisions (%)")
    assert plot.has_accuracy(record)
    assert not plot.has_accuracy(histories[0])
    with pytest.raises(ValueError, match="a layer that learns from labels, found none"):
        plot.accuracy(histories[0])


def test_curves_from_the_log_of_a_run(histories, tmp_path):
    log = {"steps": [history.to_dict() for history in histories]}
    (tmp_path / "log.json").write_text(json.dumps(log))
    expected = lines(plot.convergence(histories))
    for source in (log, tmp_path, str(tmp_path / "log.json")):
        assert lines(plot.convergence(source)) == expected
    for nothing in ({}, {"steps": []}, []):
        with pytest.raises(ValueError, match="found none"):
            plot.convergence(nothing)
    with pytest.raises(FileNotFoundError):
        plot.convergence(tmp_path / "none")


def evaluation(table):
    accuracy = None if table is None else float(np.trace(table) / table.sum())
    samples = 0 if table is None else int(table.sum())
    return Evaluation(samples, 0, accuracy, table, None, Activity("input", 1, 0, 0, 0), ())


def test_confusion():
    axes = plot.confusion(evaluation(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])), names=["a", "b", "c"])
    assert {text.get_text(): text.get_position() for text in axes.texts} == {"3": (0, 0), "1": (1, 0), "4": (1, 1)}
    assert np.array_equal(axes.images[0].get_array(), [[0.75, 0.25, 0], [0, 1, 0], [0, 0, 0]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("decision", "label")
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b", "c"]
    assert axes.get_title() == "accuracy 87.50%, 8 samples"
    with pytest.raises(ValueError, match="labels and decisions, got one without"):
        plot.confusion(evaluation(None))
    with pytest.raises(ValueError, match="names expects one for each of 2 classes, got 1"):
        plot.confusion(evaluation(np.eye(2, dtype=np.int64)), names=["a"])


def test_no_global_state():
    program = (
        "import io, sys, numpy as np, eventsnn as es; from eventsnn import plot\n"
        "assert 'matplotlib' not in sys.modules\n"
        "plot.raster(es.Events.from_latency(np.zeros((1, 2, 2), int))).figure.savefig(io.BytesIO())\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    root = Path(eventsnn.__file__).parents[1]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True)
