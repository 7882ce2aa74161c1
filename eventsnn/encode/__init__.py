"""Encoders: images to events, and recordings of event cameras to samples."""

from eventsnn.encode.camera import CameraEncoder, CameraSample
from eventsnn.encode.camera_filters import (
    BackgroundActivity,
    Crop,
    Downsample,
    FindHotPixels,
    HotPixels,
    Polarity,
    Refractory,
)
from eventsnn.encode.camera_latency import EventCount, EveryEvent, FirstSpike, TimeSurface
from eventsnn.encode.cuts import ByCount, ByTable, ByTime, Whole
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
from eventsnn.encode.windows import WindowChannels

__all__ = [
    "ZCA",
    "BackgroundActivity",
    "ByCount",
    "ByTable",
    "ByTime",
    "CameraEncoder",
    "CameraSample",
    "Crop",
    "DivideByMax",
    "DoG",
    "Downsample",
    "EqualBins",
    "EventCount",
    "EveryEvent",
    "Filter",
    "FindHotPixels",
    "FirstSpike",
    "FitPatchZCA",
    "FitZCA",
    "Gabor",
    "HotPixels",
    "ImageEncoder",
    "LateralInhibition",
    "Linear",
    "LoG",
    "LocalNormalization",
    "MaxPool",
    "OnOff",
    "PatchZCA",
    "Polarity",
    "Rank",
    "Refractory",
    "Scale",
    "Standardize",
    "TimeSurface",
    "Whole",
    "WindowChannels",
    "falez2019_mnist",
    "goupy2022_mnist",
    "kheradpisheh2018_mnist",
    "mozafari2018",
    "mozafari2019_mnist",
    "spyker_mnist",
]
