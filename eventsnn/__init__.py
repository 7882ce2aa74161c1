"""Exact event-driven simulation of convolutional spiking networks."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

from eventsnn.checkpoint import Checkpoint
from eventsnn.evaluation import Activity, Evaluation, decide, evaluate
from eventsnn.events import Events, concatenate
from eventsnn.history import Epoch, History
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
from eventsnn.readout import Feature, FittedReadout, LinearReadout, features
from eventsnn.train import fit

if TYPE_CHECKING:
    from eventsnn import encode, io, models, plot
    from eventsnn.feature_files import FeatureSet, read_features, write_features
    from eventsnn.io import DatasetError, EventDataset, EventWriter

# These need libraries that take long to import, so they come when they are asked for.
_LATER = {
    "DatasetError": "eventsnn.io",
    "EventDataset": "eventsnn.io",
    "EventWriter": "eventsnn.io",
    "FeatureSet": "eventsnn.feature_files",
    "encode": "eventsnn.encode",
    "io": "eventsnn.io",
    "models": "eventsnn.models",
    "plot": "eventsnn.plot",
    "read_features": "eventsnn.feature_files",
    "write_features": "eventsnn.feature_files",
}

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
    "Custom",
    "DatasetError",
    "Dense",
    "Doubling",
    "Epoch",
    "Evaluation",
    "EventDataset",
    "EventWriter",
    "Events",
    "Feature",
    "FeatureInhibition",
    "FeatureSet",
    "FittedReadout",
    "History",
    "LinearReadout",
    "Network",
    "Normal",
    "PointwiseInhibition",
    "Pool",
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
    "models",
    "plot",
    "read_features",
    "split_evenly",
    "write_features",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'eventsnn' has no attribute {name!r}")
    module = import_module(_LATER[name])
    return module if module.__name__ == f"eventsnn.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LATER])
