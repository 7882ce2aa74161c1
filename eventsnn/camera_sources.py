"""Recordings of event cameras to event files, as a model's encoder makes samples of them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from eventsnn.convert import find_sources
from eventsnn.encode import CameraEncoder, WindowChannels
from eventsnn.events import Events
from eventsnn.io import EVENT_DTYPE, EventDataset, EventFileError, EventWriter, Recording
from eventsnn.io import open as open_events
from eventsnn.io.images import IMAGE_SUFFIXES
from eventsnn.models.encoders import encode_recordings
from eventsnn.train import Progress

Part = Literal["train", "test", "all"]
Size = tuple[int, int]
CameraEncoding = CameraEncoder | WindowChannels

_PARTS = ("train", "test")


@dataclass(frozen=True)
class Recordings:
    """Some recordings of one camera.

    Parameters
    ----------
    name : str
        For people: what they are.
    paths : list of Path
        Files; or the samples of one event file of a camera, which ``convert`` makes.
    labels : list of int or None
        The class of each, an index into ``classes``.
    classes : list of str
        Names of the classes, in the order of names (of numbers, where all are).
    """

    name: str
    paths: list[Path]
    labels: list[int | None] = field(repr=False)
    classes: list[str]


def find_recordings(source: str, part: Part) -> Recordings:
    """Find the recordings that a user names.

    Parameters
    ----------
    source : str
        A file; a folder of files; one with a folder for each class; or one with folders ``train`` and ``test`` of these
        (as N-MNIST's, in any case), whose classes have the same numbers.
    part : {"train", "test", "all"}
        Of such a folder; others are taken whole.

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder.
    ValueError
        If there are no recordings, or no such part.
    """
    given = Path(source)
    if not given.exists():
        expected = "a recording, a folder of recordings (or with a folder for each class), or an event file"
        raise FileNotFoundError(f"{source}: no such file or folder; expected {expected}")
    roots = parts_of(given)
    found = {name: find_sources([root]) for name, root in roots.items()} if roots else {"": find_sources([given])}
    classes = sorted({name for _, names in found.values() for name in names}, key=_natural)
    number = {name: i for i, name in enumerate(classes)}
    chosen = [name for name in found if part == "all" or not roots or name == part]
    if not chosen:
        raise ValueError(f"{source}: expected a folder {part!r}, found {sorted(roots)}")
    paths: list[Path] = []
    labels: list[int | None] = []
    for files, names in (found[name] for name in chosen):
        paths += [Path(file.path) for file in files]
        labels += [None if file.label is None else number[names[file.label]] for file in files]
    return Recordings(f"{source} ({part})" if roots else source, paths, labels, classes)


def holds_recordings(source: str) -> bool:
    """Tell whether the first file that a user names is a recording or an event file, and not of images."""
    path = Path(source)
    while path.is_dir():
        shown = sorted(inside for inside in path.iterdir() if not inside.name.startswith("."))
        if not shown:
            return False
        path = shown[0]
    if not path.is_file() or path.suffix.lower() in IMAGE_SUFFIXES:
        return False
    try:
        found = open_events(path)
    except EventFileError:
        return False
    if isinstance(found, EventDataset):
        found.close()
    return isinstance(found, Recording | EventDataset)


def is_encoded(source: str) -> bool:
    """Tell whether a source is an event file of samples that some encoder made, and not one of a camera's events."""
    if not Path(source).is_file():
        return False
    try:
        found = open_events(source)
    except EventFileError:
        return False
    if not isinstance(found, EventDataset):
        return False
    with found:
        return found.unit != "us" or found.provenance.get("encoder") is not None


def write_recordings(
    path: Path,
    found: Recordings,
    encoder: CameraEncoding,
    size: Size | None = None,
    progress: Progress | None = None,
    *,
    turned: Mapping[str, bool] | None = None,
) -> None:
    """Encode recordings into an event file, one after another, in memory that the longest sample needs.

    Parameters
    ----------
    path : Path
        The file to make or replace; it appears when it is complete.
    found : Recordings
        Where all have a class, or none. Samples that are cut from one of several are a group.
    encoder : CameraEncoder or WindowChannels
        Goes into the file's provenance, with the source, the SHA-256 of its files, the names of the classes and the
        sensor's height and width (``image_size``).
    size : (int, int), optional
        Height and width of the sensor, where recordings do not say.
    progress : callable, optional
        Called as ``progress(done, total, phase)``.
    turned : mapping, optional
        How events are turned other than their formats usually are: of ``swap_xy``, ``flip_x``, ``flip_y`` and
        ``swap_polarity`` those that are to be as given. It goes into the provenance (``orientation``).

    Raises
    ------
    ValueError, OSError
        If the encoder has a filter to fit, an event file is to be turned, a file is no recording or broken, sensors
        differ, or the file cannot be written; the message names the recording.
    """
    if not encoder.fitted:
        raise ValueError("the encoder has a filter to fit, which encoder.fit(recording) does in Python")
    tell = progress or (lambda *_: None)
    tell(0, len(found.paths), "encode")
    items = _items(found, size, turned or {}, grouped=isinstance(encoder, CameraEncoder))
    first = next(items, None)
    if first is None:
        raise ValueError(f"{found.name}: expected recordings, found none")
    origin: dict[str, Any] = {"source": found.name, "source_sha256": sha256_of(found), "encoder": encoder.to_dict()}
    origin["extra"] = {"classes": first.classes, "image_size": first.sensor}
    if turned:
        origin["extra"]["orientation"] = dict(turned)
    with _naming(first.path):
        none = encode_recordings(encoder, [np.zeros(0, EVENT_DTYPE)], first.sensor[::-1])
    with EventWriter(path, none.shape, none.duration, none.unit, **origin) as writer:
        for item in itertools.chain([first], items):
            if item.sensor != first.sensor:
                sizes = "{1} x {0}, found one of {3} x {2}".format(*first.sensor, *item.sensor)
                raise ValueError(f"{item.path}: expected a sensor of {sizes} (width x height)")
            with _naming(item.path):
                for events in _samples(encoder, item):
                    writer.append(events, None if item.group is None else np.full(len(events), item.group))
            tell(item.number + 1, len(found.paths), "encode")


class _Item(NamedTuple):
    """A recording to encode: its file and that one's number, its events, height and width, class and group."""

    path: Path
    number: int
    events: Recording | EventDataset | Events
    sensor: Size
    label: int | None
    group: int | None
    classes: list[str]


def _items(found: Recordings, size: Size | None, turned: Mapping[str, bool], *, grouped: bool) -> Iterator[_Item]:
    for number, (path, label) in enumerate(zip(found.paths, found.labels, strict=True)):
        source = open_events(path)
        if isinstance(source, Recording):
            recording, sensor = _sized(source, size, turned)
            group = number if grouped and len(found.paths) > 1 else None
            yield _Item(path, number, recording, sensor, label, group, found.classes)
        elif isinstance(source, EventDataset):
            with source:
                if turned:
                    raise ValueError(f"{path}: expected a recording to turn, found an event file; 'convert' turns it")
                stored = _stored(path, number, source, grouped)
                # The folder's class, if it stands for one, is the class.
                yield from (
                    stored if label is None else (item._replace(label=label, classes=found.classes) for item in stored)
                )
        else:
            raise ValueError(f"{path}: holds samples of another kind, expected a recording of a camera")


def _stored(path: Path, number: int, dataset: EventDataset, grouped: bool) -> Iterator[_Item]:
    """Yield the recordings in an event file: one, which may be long, or many samples."""
    if dataset.unit != "us" or dataset.provenance.get("encoder") is not None:
        raise ValueError(f"{path}: holds samples that an encoder made, expected a recording of a camera")
    classes = [str(name) for name in dataset.provenance.get("extra", {}).get("classes") or ()]
    several = len(dataset) > 1
    for k in range(len(dataset)):
        group = k if several and grouped else None
        if dataset.groups is not None:
            group = int(dataset.groups[k])
        yield _Item(path, number, dataset[[k]] if several else dataset, dataset.shape[1:], None, group, classes)


def _sized(recording: Recording, size: Size | None, turned: Mapping[str, bool]) -> tuple[Recording, Size]:
    """Return a recording that knows its sensor, turned, with height and width."""
    if (recording.width is None or recording.height is None) and size is not None:
        recording = recording.adjusted(width=size[1], height=size[0])
    if recording.width is None or recording.height is None:
        raise ValueError(f"{recording.path}: does not say the sensor's size; 'eventsnn encode --size HxW' does")
    recording = recording.adjusted(**turned)
    assert recording.width is not None
    assert recording.height is not None
    return recording, (recording.height, recording.width)


def _samples(encoder: CameraEncoding, item: _Item) -> Iterator[Events]:
    if isinstance(encoder, CameraEncoder):
        yield from encoder.stream(item.events, item.label)
    else:
        # Of a recording of an event file, the class comes with its events.
        yield encoder.encode([item.events], None if item.label is None else [item.label])  # type: ignore[list-item]


def parts_of(folder: Path) -> dict[str, Path]:
    """Return the folders of the training and the test part, if a folder holds these and no others."""
    if not folder.is_dir():
        return {}
    inside = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    found = {path.name.lower(): path for path in inside}
    return {name: found[name] for name in _PARTS if name in found} if set(found) <= set(_PARTS) else {}


def _natural(name: str) -> tuple[int, str]:
    """Sort whole numbers by value, before other names."""
    return (int(name), name) if name.isdecimal() else (1 << 62, name)


def sha256_of(found: Recordings) -> str:
    """Return the hash of the only file, or of the hashes of all."""
    each = []
    for path in found.paths:
        with path.open("rb") as file:
            each.append(hashlib.file_digest(file, "sha256"))
    return each[0].hexdigest() if len(each) == 1 else hashlib.sha256(b"".join(d.digest() for d in each)).hexdigest()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let what is wrong with events name the recording that they are of."""
    try:
        yield
    except EventFileError as error:
        raise error if error.path is not None else EventFileError(error.reason, path, error.offset) from None
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
