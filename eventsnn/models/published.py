"""Published networks, ready made, and a small one."""

from __future__ import annotations

from collections.abc import Callable

from eventsnn.encode import DoG, EqualBins, Filter, ImageEncoder, LocalNormalization
from eventsnn.encode import published as front_ends
from eventsnn.layers import Conv, Normal, PointwiseInhibition, Pool, inf
from eventsnn.models.recipe import Model, Step
from eventsnn.plasticity import RSTDP, STDP, WTA, Adaptive, Annealing, Doubling, ThresholdAdaptation
from eventsnn.readout import Feature, LinearReadout


def mozafari2019_mnist(readout: LinearReadout | None = None, *, hurry: float = 1.0) -> Model:
    """Return the MNIST network of Mozafari et al. 2019 (Pattern Recognition 94), as run with SpykeTorch.

    Two layers learn by STDP (2 and 4 epochs, rates doubled every 500 images up to 0.15) and, without a ``readout``,
    a third by reward-modulated STDP, 20 maps for each of 10 classes. The published program runs 680 epochs of the
    third layer; 20 is the default here.

    Parameters
    ----------
    readout : LinearReadout, optional
        Replaces the third layer: a classifier on which of the second layer's pooled neurons fired.
    hurry : float
        Factor of the third layer's four rates; 1 as published.
    """
    doubling = Doubling(every=500, limit=0.15)
    first = Step(0, STDP(0.004, -0.003), WTA(5, radius=3), epochs=2, schedule=doubling)
    second = Step(2, STDP(0.004, -0.003), WTA(8, radius=1), epochs=4, schedule=doubling)
    rates, adaptive = ((0.004, -0.003), (-0.004, 0.0005)), Adaptive(0, 1, 1000)
    reward, punish = ((hurry * plus, hurry * minus) for plus, minus in rates)
    reinforced = RSTDP(reward=reward, punish=punish, bounds=(0.2, 0.8), adaptive=adaptive)
    layers = (
        Conv(30, kernel=5, padding=2, threshold=15),
        Pool(2),
        Conv(250, kernel=3, padding=1, threshold=10),
        Pool(3),
    )
    encoder = front_ends.mozafari2019_mnist()
    if readout is not None:
        return Model("mozafari2019_mnist_svm", encoder, (28, 28), layers, (first, second), readout)
    decision = Conv(200, kernel=5, padding=2, threshold=inf)
    third = Step(4, reinforced, WTA(1), epochs=20)
    name = "mozafari2019_mnist" if hurry == 1 else "mozafari2019_mnist_quick"
    return Model(name, encoder, (28, 28), (*layers, decision), (first, second, third))


def mozafari2019_mnist_quick() -> Model:
    """Return :func:`mozafari2019_mnist` for few epochs: the third layer's rates are twice the published ones.

    Two is the only factor other than 1 that was tried; its better held-out accuracy was seen together with its test
    accuracy, so the choice is not blind. It comes in 10 epochs to where the published rates are after 20.
    """
    return mozafari2019_mnist(hurry=2.0)


def mozafari2019_mnist_svm() -> Model:
    """Return :func:`mozafari2019_mnist` with a linear support vector machine in place of the third layer."""
    return mozafari2019_mnist(LinearReadout(C=0.01))


def kheradpisheh2018_mnist() -> Model:
    """Return the MNIST network of Kheradpisheh et al. 2018 (Neural Networks 99), as run with SpykeTorch.

    Two layers learn by STDP (2 and 20 epochs); the second from pointwise-inhibited spikes, at constant rates. A linear
    support vector machine (C = 2.4) decides from which of the last pooling's neurons fired.
    """
    first = Step(0, STDP(0.004, -0.003), WTA(5, radius=2), epochs=2, schedule=Doubling(every=500, limit=0.15))
    second = Step(2, STDP(0.004, -0.003), WTA(8, radius=1), epochs=20, inhibit_input=True)
    layers = (
        Conv(32, kernel=5, padding=2, threshold=10),
        Pool(2, 2, padding=1),
        Conv(150, kernel=2, padding=1, threshold=1),
        Pool(2, 2, padding=1),
    )
    encoder = front_ends.kheradpisheh2018_mnist()
    return Model("kheradpisheh2018_mnist", encoder, (28, 28), layers, (first, second), LinearReadout(C=2.4))


def mozafari2018_caltech() -> Model:
    """Return the network of Mozafari et al. 2018 for the faces and motorbikes of Caltech-101, as run with SpykeTorch.

    One layer of 10 maps for each of 2 classes, whose first spike decides, learns by reward-modulated STDP on images of
    250 x 160 pixels; half of the maps, drawn anew for each epoch, stay silent. The published program runs 400 epochs;
    with 300 training images the accuracy on held-out training images rises until 800 to 1,100, so here it is 900.
    """
    rule = RSTDP((0.005, -0.0025), (-0.005, 0.0005), (0, 1), stabilizer=True, adaptive=Adaptive(0.2, 0.8, None))
    step = Step(0, rule, WTA(1), epochs=900, dropout=0.5, shuffle=True)
    layer = Conv(20, kernel=17, threshold=42)
    return Model("mozafari2018_caltech", front_ends.mozafari2018(7, 6, 15), (160, 250), (layer,), (step,))


def mozafari2018_eth80() -> Model:
    """Return the network of Mozafari et al. 2018 for ETH-80, as run with SpykeTorch: 8 classes, 128 x 128 pixels.

    Ten maps for each class, each of which sees the whole image. The rates do not fall to 0, so weights go on toward 0
    and 1 and more and more images leave all maps silent: the published program takes the best of 250 epochs on the test
    set; here there are 130, about where the accuracy on a held-out object of the training set is best.
    """
    rule = RSTDP((0.01, -0.0035), (-0.01, 0.0006), (0, 1), stabilizer=True, adaptive=Adaptive(0.2, 0.8, None))
    step = Step(0, rule, WTA(1), epochs=130, dropout=0.4, shuffle=True)
    layer = Conv(80, kernel=31, threshold=160)
    return Model("mozafari2018_eth80", front_ends.mozafari2018(5, 4, 15), (128, 128), (layer,), (step,))


def spyker_mnist() -> Model:
    """Return the MNIST network of the program Spyker (``rezghi_mnist_sparse.py``): two layers that learn by STDP.

    One epoch each, rates times 1.5 every 2,000 images. The published program reduces the latencies of the last pooled
    neurons to 200 principal components for a support vector machine with a Gaussian kernel; here a linear one takes
    the latencies themselves, since it is stored as one weight per neuron. Of 5,000 held-out training images 98.8 %
    were right with weights of this readout from 15,000 others. The published pair is
    ``make_pipeline(PCA(200), SVC(C=2.4)).fit(features(network, data, "latency").toarray(), labels)`` with scikit-learn.
    """
    growth = Doubling(every=2000, limit=1.5, factor=1.5)
    first = Step(0, STDP(0.0004, -0.0003), WTA(5, radius=3), schedule=growth)
    second = Step(2, STDP(0.0004, -0.0003), WTA(8, radius=1), schedule=growth)
    init = Normal(0.5, 0.02)
    layers = (
        Conv(100, kernel=5, padding=2, threshold=16, init=init),
        Pool(2),
        Conv(200, kernel=3, padding=1, threshold=5, init=init),
        Pool(3),
    )
    readout = LinearReadout(C=0.0001, kind="latency")
    return Model("spyker_mnist", front_ends.spyker_mnist(), (28, 28), layers, (first, second), readout)


def falez2019_mnist() -> Model:
    """Return the first layer of the MNIST network of Falez et al. 2019, with a linear support vector machine.

    32 maps of 5x5 learn by multiplicative STDP (0.1, beta 1), each image on one random patch until its first spike;
    thresholds from 8 on, at least 1, are adapted (rate 1) toward firing at 0.75 of the stimulus; all rates are
    multiplied by 0.95 after each epoch. The features are how early each neuron fired before that time, summed over
    regions of each map.

    Notes
    -----
    What differs from the published program was chosen on held-out training images. Five epochs in place of 100: of
    2,000 held-out images 97.5 % were right after 1 epoch of 8,000 others (C = 0.01), 97.8 % after 5 (C = 0.1), 97.7 %
    after 20 (C = 0.01). Regions 6x6
    and C = 0.01 in place of 2x2 and 1: after 5 epochs of 55,000 images 99.1 % of the 5,000 others were right, in place
    of 97.9 %. Features are not scaled to [0, 1]. Initial weights are drawn from a normal distribution, not a uniform.
    """
    rule = STDP(0.1, -0.1, dependence="multiplicative", beta=1)
    step = Step(
        0, rule, WTA(1), epochs=5, schedule=Annealing(0.95), adaptation=ThresholdAdaptation(1, 0.75, 1), patches=True
    )
    layer = Conv(32, kernel=5, threshold=8, init=Normal(0.5, 0.15))
    readout = LinearReadout(C=0.01, kind=Feature("target-time", 0.75, (6, 6)))
    return Model("falez2019_mnist", front_ends.falez2019_mnist(), (28, 28), (layer,), (step,), readout)


def goupy2022_mnist() -> Model:
    """Return a network like that of Goupy et al. 2022 for MNIST: one layer of 70 maps of 7x7, with few spikes.

    It learns from the pixels themselves and stops as soon as the mean of ``w (1 - w)`` is below 0.01. At each position
    only the first map fires; a linear support vector machine (C = 0.005) decides from which pooled neurons did.

    Notes
    -----
    Voltage-dependent plasticity weakens a synapse by 1.9 to 2 times the rate that strengthens it, more the further its
    input is from firing; here it is twice. The published program doubles the rates after 500 updates, of which an
    image brings up to seven; here after 72 images.
    """
    step = Step(0, STDP(0.01, -0.02), WTA(7, radius=3), schedule=Doubling(every=72, limit=0.1), stop_below=0.01)
    layers = (Conv(70, kernel=7, padding=3, threshold=10), PointwiseInhibition(), Pool(3))
    return Model("goupy2022_mnist", front_ends.goupy2022_mnist(), (28, 28), layers, (step,), LinearReadout(C=0.005))


def digits() -> Model:
    """Return a small network for the 8x8 digits that come with scikit-learn, enlarged to 16x16 pixels.

    On- and off-centre cells; two layers learn by STDP; a linear support vector machine decides from the latencies of
    the second layer's pooled neurons.

    Notes
    -----
    Its numbers were chosen by five-fold cross-validation on the training digits, never on the test digits. There the
    decision is right for 99.1 % of held-out digits (98.6 % in the worst fold); from the encoded input 97.0 %; after
    the learnt weights of each map are shuffled, with thresholds at which as many neurons fire, 97.6 %.
    """
    cells = (DoG(7, 7 / 9, 14 / 9), DoG(7, 14 / 9, 7 / 9))
    encoder = ImageEncoder((Filter(cells, padding=3, threshold=5), LocalNormalization(4)), EqualBins(15))
    rule, doubling = STDP(0.004, -0.003), Doubling(every=200, limit=0.15)
    first = Step(0, rule, WTA(5, radius=2), epochs=2, schedule=doubling)
    second = Step(2, rule, WTA(8, radius=1), epochs=4, schedule=doubling)
    layers = (
        Conv(32, kernel=5, padding=2, threshold=9),
        Pool(2),
        Conv(100, kernel=3, padding=1, threshold=8),
        Pool(2),
    )
    return Model("digits", encoder, (16, 16), layers, (first, second), LinearReadout(C=0.002, kind="latency"))


#: models of images that the command line knows by name
MODELS: dict[str, Callable[[], Model]] = {
    function.__name__: function
    for function in (
        mozafari2019_mnist,
        mozafari2019_mnist_quick,
        mozafari2019_mnist_svm,
        kheradpisheh2018_mnist,
        mozafari2018_caltech,
        mozafari2018_eth80,
        spyker_mnist,
        falez2019_mnist,
        goupy2022_mnist,
        digits,
    )
}
