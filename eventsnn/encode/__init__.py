"""Encoders: images to events."""

from eventsnn.encode.filters import DoG, Gabor, LoG
from eventsnn.encode.intensity import ImageEncoder
from eventsnn.encode.latency import EqualBins, Linear, Rank
from eventsnn.encode.published import (
    falez2019_mnist,
    goupy2022_mnist,
    kheradpisheh2018_mnist,
    mozafari2018,
    mozafari2019_mnist,
    spyker_mnist,
)
from eventsnn.encode.stages import (
    DivideByMax,
    Filter,
    LateralInhibition,
    LocalNormalization,
    MaxPool,
    OnOff,
    Scale,
    Standardize,
)
from eventsnn.encode.whitening import ZCA, FitPatchZCA, FitZCA, PatchZCA

__all__ = [
    "ZCA",
    "DivideByMax",
    "DoG",
    "EqualBins",
    "Filter",
    "FitPatchZCA",
    "FitZCA",
    "Gabor",
    "ImageEncoder",
    "LateralInhibition",
    "Linear",
    "LoG",
    "LocalNormalization",
    "MaxPool",
    "OnOff",
    "PatchZCA",
    "Rank",
    "Scale",
    "Standardize",
    "falez2019_mnist",
    "goupy2022_mnist",
    "kheradpisheh2018_mnist",
    "mozafari2018",
    "mozafari2019_mnist",
    "spyker_mnist",
]
