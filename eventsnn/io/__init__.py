"""Read and write event files, and load images."""

from eventsnn.io._checks import DatasetError
from eventsnn.io.hdf5 import EventDataset, check, info
from eventsnn.io.images import Images, fetch_mnist, load_images, read_idx
from eventsnn.io.writer import EventWriter, write

__all__ = [
    "DatasetError",
    "EventDataset",
    "EventWriter",
    "Images",
    "check",
    "fetch_mnist",
    "info",
    "load_images",
    "read_idx",
    "write",
]
