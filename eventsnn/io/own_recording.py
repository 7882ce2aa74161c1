"""Recordings of any format, and those that became event files of this package, which are samples to :func:`open`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from eventsnn.io.chunk import Chunk
from eventsnn.io.formats import open as open_events
from eventsnn.io.hdf5 import EventDataset
from eventsnn.io.recording import Recording, Tally


def open_recording(path: str | Path, **options: Any) -> Recording:
    """Open a recording of any format, or an event file of this package that holds one.

    Parameters
    ----------
    path : str or Path
        The file.
    **options
        Of :func:`eventsnn.open`.

    Raises
    ------
    EventFileError
        If the file cannot be read.
    ValueError
        If it holds samples of a data set, or an option does not fit.
    """
    found = open_events(path)
    if isinstance(found, Recording):
        return open_events(path, **options) if options else found  # type: ignore[return-value]
    if not isinstance(found, EventDataset):
        raise ValueError(f"{path}: holds samples of a data set, expected a recording")
    with found:
        recording = _recording_of(found)
    if options.pop("side", None) is not None:
        raise ValueError(f"{path}: is a file of one camera, which takes no side")
    return recording.adjusted(**options)


def _recording_of(dataset: EventDataset) -> Recording:
    """Return the one sample of a file on its source's clock; events are checked as they are read."""
    channels, height, width = dataset.shape
    about = dataset.provenance
    if len(dataset) != 1 or channels != 2 or dataset.unit != "us" or about.get("encoder") is not None:
        found = f"{len(dataset)} samples of {channels} channels, times in {dataset.unit}"
        raise ValueError(
            f"{dataset.path}: expected a recording, found samples of a data set: {found}"
            + (", encoded" if about.get("encoder") is not None else "")
        )
    metadata = {name: text for name, text in about.items() if isinstance(text, str)}
    decode = partial(_decode, dataset.path, dataset.t_offset)
    return Recording(dataset.path, "event file", (width, height), decode, metadata, dataset.n_events)


def _decode(path: Path, offset: int, size: int, tally: Tally) -> Iterator[Chunk]:
    with EventDataset(path) as dataset:
        for piece in dataset.pieces(size=size):
            yield Chunk(piece.time + offset, piece.x, piece.y, piece.channel.astype(np.uint8))
