"""The image front ends of published networks, as encoder values."""

from __future__ import annotations

import math

from eventsnn.encode.filters import DoG, Gabor
from eventsnn.encode.intensity import ImageEncoder
from eventsnn.encode.latency import EqualBins, Linear
from eventsnn.encode.stages import DivideByMax, Filter, LateralInhibition, LocalNormalization, MaxPool, OnOff, Scale


def mozafari2019_mnist() -> ImageEncoder:
    """Return the front end of Mozafari et al. 2019 for MNIST: images of 0 to 255, 6 maps, 15 bins.

    On- and off-centre cells of three sizes (windows 3, 7 and 13, standard deviations of 1/9 and 2/9 of them),
    threshold 50, local normalization of radius 8. The grid is as large as the image.

    References
    ----------
    Mozafari, Ganjtabesh, Nowzari-Dalini, Thorpe and Masquelier, "Bio-inspired digit recognition using
    reward-modulated spike-timing-dependent plasticity in deep convolutional networks", Pattern Recognition
    94 (2019).
    """
    sizes = [(window, window / 9, 2 * window / 9) for window in (3, 7, 13)]
    kernels = [DoG(window, *sigmas) for window, a, b in sizes for sigmas in ((a, b), (b, a))]
    return ImageEncoder((Filter(kernels, padding=6, threshold=50), LocalNormalization(8)), EqualBins(15))


def kheradpisheh2018_mnist() -> ImageEncoder:
    """Return the front end of Kheradpisheh et al. 2018 for MNIST: images of 0 to 255, 2 maps, 15 bins.

    One on- and one off-centre cell (window 7, standard deviations 1 and 2), threshold 50, local normalization
    of radius 8. The grid is as large as the image.

    References
    ----------
    Kheradpisheh, Ganjtabesh, Thorpe and Masquelier, "STDP-based spiking deep convolutional neural networks for
    object recognition", Neural Networks 99 (2018), as run with SpykeTorch.
    """
    kernels = (DoG(7, 1, 2), DoG(7, 2, 1))
    return ImageEncoder((Filter(kernels, padding=3, threshold=50), LocalNormalization(8)), EqualBins(15))


def mozafari2018(pool: int = 7, stride: int = 6, bins: int = 15) -> ImageEncoder:
    """Return the front end of Mozafari et al. 2018: images of 0 to 255, 4 Gabor maps, one spike per position.

    The defaults are those for faces and motorbikes; ETH-80 takes 5, 4 and 15, NORB 5, 4 and 30.

    Parameters
    ----------
    pool, stride : int
        Window of the max-pooling, padded by half of it, and the distance between windows, in pixels.
    bins : int
        Number of time bins.

    References
    ----------
    Mozafari, Kheradpisheh, Masquelier, Nowzari-Dalini and Ganjtabesh, "First-spike-based visual categorization
    using reward-modulated STDP", IEEE Transactions on Neural Networks and Learning Systems 29 (2018).
    """
    kernels = [Gabor(5, orientation) for orientation in (67.5, 112.5, 157.5, 202.5)]
    stages = (
        Scale(1 / 255),
        Filter(kernels, absolute=True),
        MaxPool(pool, stride, pool // 2),
        LateralInhibition((0.15, 0.12, 0.1, 0.07, 0.05)),
    )
    return ImageEncoder(stages, EqualBins(bins), pointwise=True)


def spyker_mnist() -> ImageEncoder:
    """Return the front end of Spyker's own network for MNIST: images of 0 to 255, 6 maps, 15 bins.

    On-centre cells of three sizes, then the off-centre ones, threshold 0.01. What Spyker calls a Laplacian of Gaussian
    of sigma is the difference of two Gaussians of ``sigma / sqrt(2)`` and ``sigma * sqrt(2)``, each of sum 1, in a
    window of 7 pixels; no output is normalized. The grid is as large as the image.

    References
    ----------
    Rezghi Shirsavar, Vahabie and Dehaqani, "Models developed for spiking neural networks", MethodsX 10 (2023),
    and ``rezghi_mnist_sparse.py`` of the program.
    """
    sigmas = (0.471404521, 1.099943882, 2.042752923)
    kernels = [DoG(7, sigma / math.sqrt(2), sigma * math.sqrt(2), "sum") for sigma in sigmas]
    stages = (Scale(1 / 255), Filter(kernels, padding=3, signed=True), OnOff(threshold=0.01))
    return ImageEncoder(stages, EqualBins(15))


def falez2019_mnist(bins: int = 1000) -> ImageEncoder:
    """Return the front end of Falez et al. 2019 for MNIST: images of 0 to 255, 2 maps, nearly continuous time.

    One difference of Gaussians (window 7, standard deviations 1 and 4), its positive parts as on- and its negative
    parts as off-cells, divided by the largest of each image; the latency falls linearly with the intensity. Outputs
    below 0.001, mostly rounding errors, do not fire. The grid is as large as the image.

    Parameters
    ----------
    bins : int
        Time steps of a sample; the published program has floats.

    References
    ----------
    Falez, Tirilly, Bilasco, Devienne and Boulet, "Multi-layered spiking neural network with target timestamp
    threshold adaptation and STDP", IJCNN (2019), and the configuration files of csnn-simulator.
    """
    cells = Filter((DoG(7, 1, 4, "sum"),), padding=3, signed=True)
    return ImageEncoder((Scale(1 / 255), cells, OnOff(0.001), DivideByMax()), Linear(bins))


def goupy2022_mnist() -> ImageEncoder:
    """Return the front end of Goupy et al. 2022 for MNIST: the pixels above 0 themselves, 1 map, 15 bins.

    References
    ----------
    Goupy, Juneau-Fecteau, Garg, Balafrej, Alibart, Frechette, Drouin and Beilliard, "Unsupervised and efficient
    learning in sparsely activated convolutional spiking neural networks enabled by voltage-dependent synaptic
    plasticity", Neuromorphic Computing and Engineering 3 (2023); first as a preprint of 2022.
    """
    return ImageEncoder((), EqualBins(15))
