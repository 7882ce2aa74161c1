"""Encoders: images to events."""

from eventsnn.encode.filters import DoG, Gabor
from eventsnn.encode.intensity import EqualBins, ImageEncoder, Linear, Rank
from eventsnn.encode.published import kheradpisheh2018_mnist, mozafari2018, mozafari2019_mnist
from eventsnn.encode.stages import DivideByMax, Filter, LateralInhibition, LocalNormalization, MaxPool, Scale

__all__ = [
    "DivideByMax",
    "DoG",
    "EqualBins",
    "Filter",
    "Gabor",
    "ImageEncoder",
    "LateralInhibition",
    "Linear",
    "LocalNormalization",
    "MaxPool",
    "Rank",
    "Scale",
    "kheradpisheh2018_mnist",
    "mozafari2018",
    "mozafari2019_mnist",
]
