"""Exact event-driven simulation of convolutional spiking networks."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# For type checkers and editors; a program imports each name when it first asks for it.
if TYPE_CHECKING:
    from eventsnn import encode, io, models, parallel, plot, study
    from eventsnn.checkpoint import Checkpoint
    from eventsnn.evaluation import Activity, Evaluation, decide, evaluate
    from eventsnn.events import Events, concatenate
    from eventsnn.feature_files import FeatureSet, read_features, write_features
    from eventsnn.history import Epoch, History
    from eventsnn.io import DatasetError, EventDataset, EventFileError, EventWriter, Recording, RecordingWriter, open  # noqa: A004
    from eventsnn.layers import Conv, Dense, FeatureInhibition, Normal, PointwiseInhibition, Pool, inf
    from eventsnn.network import Network
    from eventsnn.plasticity import (
        RSTDP,
        STDP,
        WTA,
        Adaptive,
        Annealing,
        Competition,
        Custom,
        Doubling,
        Suppression,
        ThresholdAdaptation,
        split_evenly,
    )
    from eventsnn.profile import Costs, LayerProfile, Profile
    from eventsnn.readout import Feature, FittedReadout, LinearReadout, features
    from eventsnn.realtime import Live, LiveWindow, live
    from eventsnn.train import fit

_NAMES = {
    "checkpoint": "Checkpoint",
    "evaluation": "Activity Evaluation decide evaluate",
    "events": "Events concatenate",
    "feature_files": "FeatureSet read_features write_features",
    "history": "Epoch History",
    "io": "DatasetError EventDataset EventFileError EventWriter Recording RecordingWriter open",
    "layers": "Conv Dense FeatureInhibition Normal PointwiseInhibition Pool inf",
    "network": "Network",
    "plasticity": "RSTDP STDP WTA Adaptive Annealing Competition Custom Doubling Suppression ThresholdAdaptation "
    "split_evenly",
    "profile": "Costs LayerProfile Profile",
    "realtime": "Live LiveWindow live",
    "readout": "Feature FittedReadout LinearReadout features",
    "train": "fit",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}
_ROOMS = ("encode", "io", "models", "parallel", "plot", "study")

__all__ = [
    "RSTDP",
    "STDP",
    "WTA",
    "Activity",
    "Adaptive",
    "Annealing",
    "Checkpoint",
    "Competition",
    "Conv",
    "Costs",
    "Custom",
    "DatasetError",
    "Dense",
    "Doubling",
    "Epoch",
    "Evaluation",
    "EventDataset",
    "EventFileError",
    "EventWriter",
    "Events",
    "Feature",
    "FeatureInhibition",
    "FeatureSet",
    "FittedReadout",
    "History",
    "LayerProfile",
    "LinearReadout",
    "Live",
    "LiveWindow",
    "Network",
    "Normal",
    "PointwiseInhibition",
    "Pool",
    "Profile",
    "Recording",
    "RecordingWriter",
    "Suppression",
    "ThresholdAdaptation",
    "concatenate",
    "decide",
    "encode",
    "evaluate",
    "features",
    "fit",
    "inf",
    "io",
    "live",
    "models",
    "open",
    "parallel",
    "plot",
    "read_features",
    "split_evenly",
    "study",
    "write_features",
]


if not TYPE_CHECKING:  # which would then take every name for known

    def __getattr__(name: str) -> Any:
        if name in _ROOMS:
            return import_module(f"eventsnn.{name}")
        if name not in _MODULES:
            raise AttributeError(f"module 'eventsnn' has no attribute {name!r}")
        value = getattr(import_module(f"eventsnn.{_MODULES[name]}"), name)
        globals()[name] = value  # the next time it is found without coming here
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
