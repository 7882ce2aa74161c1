"""Read recordings of event cameras, read and write event files, and load images."""

from eventsnn.io._hdf5_file import DatasetError
from eventsnn.io.arrays import open_arrays
from eventsnn.io.formats import open  # noqa: A004
from eventsnn.io.hdf5 import EventDataset
from eventsnn.io.images import Images, fetch_mnist, load_images, read_idx
from eventsnn.io.inspection import check, info
from eventsnn.io.recording import EVENT_DTYPE, Chunk, EventFileError, Orientation, Recording, Report, Stream
from eventsnn.io.recording_writer import RecordingWriter
from eventsnn.io.spike_samples import SpikeSamples
from eventsnn.io.text import open_text
from eventsnn.io.tonic import TonicSamples, write_tonic
from eventsnn.io.writer import EventWriter, write

__all__ = [
    "EVENT_DTYPE",
    "Chunk",
    "DatasetError",
    "EventDataset",
    "EventFileError",
    "EventWriter",
    "Images",
    "Orientation",
    "Recording",
    "RecordingWriter",
    "Report",
    "SpikeSamples",
    "Stream",
    "TonicSamples",
    "check",
    "fetch_mnist",
    "info",
    "load_images",
    "open",
    "open_arrays",
    "open_text",
    "read_idx",
    "write",
    "write_tonic",
]
