"""From what a user names to event files: images and recordings are encoded, encoders compared, samples held out."""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from eventsnn import camera_sources, encode
from eventsnn.encode import ImageEncoder
from eventsnn.events import Events, Shape, TimeUnit
from eventsnn.io import EventDataset, EventWriter, Images, fetch_mnist, load_images
from eventsnn.io.images import has_parts, is_npz
from eventsnn.models import CAMERA_MODELS, MODELS
from eventsnn.models.encoders import Encoder, encoder_from_dict, gives, grid_of
from eventsnn.threads import in_turn
from eventsnn.train import Progress

Part = Literal["train", "test", "all"]
Size = tuple[int, int]

_CHUNK = 1000  # images encoded at a time: some tens of megabytes of spikes


def encoders() -> dict[str, tuple[Encoder, Size | None]]:
    """Return the encoders known by name, each with the size of the images, or of the sensor, that its model takes."""
    known: dict[str, tuple[Encoder, Size | None]] = {"mozafari2018": (encode.mozafari2018(), None)}
    for name, make in (MODELS | CAMERA_MODELS).items():
        model = make()
        known[name] = (model.encoder, model.size)
    return known


def read_images(source: str, part: Part, size: Size | None, progress: Progress | None = None) -> Images:
    """Load images; a folder of classes or a file without parts is taken whole, and ``mnist`` is downloaded.

    Raises
    ------
    OSError, ValueError
        As :func:`eventsnn.io.load_images` and :func:`eventsnn.io.fetch_mnist`.
    """
    if progress is not None:
        progress(0, 1, "read images")
    if source == "mnist" and not Path(source).exists():
        source = str(fetch_mnist())
    chosen = None if part == "all" or not has_train_and_test(source) else part
    images = load_images(source, chosen, size=size)
    if not len(images):
        raise ValueError(f"{source}: expected images, found none")
    if progress is not None:
        progress(1, 1, "read images")
    return images


def is_event_file(source: str) -> bool:
    """Tell whether a source is a file of events, and not of images."""
    return Path(source).is_file() and not is_npz(source)


def has_train_and_test(source: str) -> bool:
    """Tell sources with parts, as a folder of idx files or with folders ``train`` or ``test``, from those without."""
    folder = Path(source)
    if is_npz(folder):
        return has_parts(folder)
    if source == "digits" or not folder.is_dir():
        return True
    if any("idx" in path.name for path in folder.iterdir() if path.is_file()):
        return True
    inside = {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}
    return bool(inside) and inside <= {"train", "test"}


def is_parted(source: str) -> bool:
    """Tell sources of images or recordings that have a training or a test part; of what is not there, that it may."""
    return bool(camera_sources.parts_of(Path(source))) or (not is_event_file(source) and has_train_and_test(source))


def _encode(encoder: ImageEncoder, part: tuple[np.ndarray, np.ndarray]) -> Events:
    return encoder.encode(*part)


def write_encoded(
    path: str | os.PathLike[str],
    images: Images,
    encoder: ImageEncoder,
    progress: Progress | None = None,
    *,
    learn: np.ndarray | None = None,
    each: Callable[..., Iterator[Events]] = in_turn,
) -> None:
    """Encode images into an event file, some at a time, so that memory stays bounded.

    Parameters
    ----------
    path : path
        The file to make or replace; it appears when it is complete.
    images : Images
        At least one.
    encoder : ImageEncoder
        Is fitted if it is not yet, and goes into the file's provenance, with the source, its SHA-256, the names of the
        classes, the size of the images (height and width, ``image_size``) and, if it was fitted here, what it was
        before (``fitted_from``).
    progress : callable, optional
        Called as ``progress(done, total, phase)``.
    learn : ndarray of bool, shape (n_images,), optional
        Which images the encoder may be fitted to. Default: all.
    each : callable, optional
        Yields ``work(common, task)`` of all tasks in order, as :func:`eventsnn.threads.in_turn` does here.

    Raises
    ------
    ValueError, OSError
        If the encoder does not take such images, or the file cannot be written.
    """
    extra: dict[str, Any] = {"classes": images.names, "image_size": images.pixels.shape[1:]}
    if not encoder.fitted:
        extra["fitted_from"] = encoder.to_dict()
        encoder = encoder.fit(images.pixels if learn is None else images.pixels[learn])
    shape = encoder.output_shape(*images.pixels.shape[1:])
    origin: dict[str, Any] = {"source": images.source, "source_sha256": images.sha256, "encoder": encoder.to_dict()}
    with EventWriter(Path(path), shape, encoder.latency.duration(shape), **origin, extra=extra) as writer:
        blocks = [slice(start, start + _CHUNK) for start in range(0, len(images), _CHUNK)]
        parts = ((images.pixels[block], images.labels[block]) for block in blocks)
        for block, events in zip(blocks, each(_encode, encoder, parts), strict=True):
            writer.append(events, None if images.groups is None else images.groups[block])
            if progress is not None:
                progress(min(block.stop, len(images)), len(images), "encode")


@contextmanager
def open_data(
    source: str,
    part: Part,
    encoder: Encoder,
    size: Size,
    scratch: Path,
    progress: Progress | None = None,
    *,
    fraction: float = 0.0,
) -> Iterator[EventDataset]:
    """Open an event file, or encode images or recordings into one in ``scratch`` that lives as long as the block.

    Parameters
    ----------
    source : str
        An event file; or what :func:`read_images` takes; or for a camera's encoder what
        :func:`eventsnn.camera_sources.find_recordings` takes.
    part : {"train", "test", "all"}
        Of the images or recordings; an event file is taken whole.
    encoder : ImageEncoder, CameraEncoder or WindowChannels
        The event file must have been made with an equal one. One of images that is not fitted yet is fitted to the
        images, or the file's was fitted from an equal one: see :func:`encoder_of`.
    size : (int, int)
        Height and width that images are rescaled to.
    scratch : Path
        A folder.
    progress : callable, optional
        Called as ``progress(done, total, phase)``.
    fraction : float, optional
        Of each class, what :func:`hold_out` is going to take away: the encoder is not fitted to it.

    Raises
    ------
    OSError, ValueError
        If there is no such source, or it does not fit.
    """
    of_images = isinstance(encoder, ImageEncoder)
    if of_images and source not in ("digits", "mnist") and not Path(source).exists():
        expected = "an event file, a folder or .npz file of images, 'digits' or 'mnist'"
        raise FileNotFoundError(f"{source}: no such file or folder; expected {expected}")
    if is_event_file(source) if of_images else camera_sources.is_encoded(source):
        with EventDataset(source) as dataset:
            _check_encoder(dataset, encoder)
            yield dataset
        return
    path = scratch / "encoded.h5"
    try:
        if isinstance(encoder, ImageEncoder):
            images = read_images(source, part, size, progress)
            write_encoded(path, images, encoder, progress, learn=~held_out(images.labels, images.groups, fraction))
        else:
            found = camera_sources.find_recordings(source, part)
            camera_sources.write_recordings(path, found, encoder, progress=progress)
        with EventDataset(path) as dataset:
            yield dataset
    finally:
        path.unlink(missing_ok=True)


def encoder_of(dataset: EventDataset, encoder: Encoder) -> Encoder:
    """Return an encoder as it was fitted for an event file that :func:`open_data` opened with it."""
    return encoder if encoder.fitted else encoder_from_dict(dataset.provenance["encoder"])


def image_size(dataset: EventDataset, encoder: Encoder, usual: Size) -> Size:
    """Return the size of the images, or the sensor, that an event file was made from, ``usual`` if it does not say.

    Raises
    ------
    ValueError
        If images of this size would not give the file's grid.
    """
    if not isinstance(encoder, ImageEncoder) and not gives(encoder, usual, dataset.shape):
        usual = dataset.shape[1:]  # as far as a file can tell that was not made here
    found = dataset.provenance.get("extra", {}).get("image_size", usual)
    try:
        height, width = (operator.index(n) for n in found)
        grid = grid_of(encoder, (height, width))
    except (TypeError, ValueError) as error:
        expected = "image_size expects a size that the encoder takes"
        raise ValueError(f"{dataset.path}: {expected}, found {found!r}: {error}") from None
    if grid != dataset.shape:
        raise ValueError(
            f"{dataset.path}: {pictures(encoder)} of {height}x{width} pixels expect the grid {grid}, "
            f"found {dataset.shape}; 'eventsnn encode' records the size of the images"
        )
    return height, width


def pictures(encoder: Encoder) -> str:
    """Return what an encoder takes, for people."""
    return "images" if isinstance(encoder, ImageEncoder) else "recordings"


def recorded_encoder(path: str) -> tuple[Encoder, Size | None]:
    """Return the encoder that made an event file, and the size of its images if it says so.

    Raises
    ------
    ValueError
        If it does not say which, or says something else.
    """
    with EventDataset(path) as dataset:
        recorded = dataset.provenance.get("encoder")
        if recorded is None:
            raise ValueError(f"{path}: does not say which encoder made it")
        try:
            encoder = encoder_from_dict(recorded)
        except ValueError as error:
            raise ValueError(f"{path}: made by an encoder that is not known here ({error})") from None
        if "image_size" not in dataset.provenance.get("extra", {}):
            return encoder, None
        return encoder, image_size(dataset, encoder, (0, 0))


def encoder_name(recorded: Any) -> str | None:
    """Return the name of the encoder that an event file's provenance describes, if it is a known one."""
    try:
        encoder = encoder_from_dict(recorded)
    except ValueError:
        return None
    return next((name for name, (known, _) in encoders().items() if known == encoder), None)


def _check_encoder(dataset: EventDataset, encoder: Encoder) -> None:
    recorded = dataset.provenance.get("encoder")
    wanted = encoder_name(encoder.to_dict()) or "one of its own"
    hint = f"the model expects {wanted}; 'eventsnn encode' makes such a file from {pictures(encoder)}"
    if recorded is None:
        raise ValueError(f"{dataset.path}: does not say which encoder made it, {hint}")
    try:
        found = encoder_from_dict(recorded)
    except ValueError as error:
        raise ValueError(f"{dataset.path}: made by an encoder that is not known here ({error}), {hint}") from None
    if not encoder.fitted:
        if not found.fitted or dataset.provenance.get("extra", {}).get("fitted_from") != _as_json(encoder):
            raise ValueError(f"{dataset.path}: its encoder was not fitted as the model's is to be, {hint}")
    elif found != encoder:
        name = encoder_name(recorded)
        made = "another encoder" if name is None else f"the encoder {name}"
        raise ValueError(f"{dataset.path}: made by {made}, {hint}")


def _as_json(encoder: Encoder) -> Any:
    return json.loads(json.dumps(encoder.to_dict()))


@dataclass(frozen=True, eq=False)
class Samples:
    """Some samples of an event file, in the order of the file, read when they are needed.

    Parameters
    ----------
    dataset : EventDataset
        Stays open as long as this is used.
    indices : ndarray of int64, shape (n_samples,)
        Ascending.
    """

    dataset: EventDataset
    indices: np.ndarray

    @property
    def shape(self) -> Shape:
        """Grid (channels, height, width)."""
        return self.dataset.shape

    @property
    def unit(self) -> TimeUnit:
        """What times count."""
        return self.dataset.unit

    @property
    def duration(self) -> int:
        """Length of every stimulus."""
        return self.dataset.duration

    @property
    def labels(self) -> np.ndarray | None:
        """Class of each sample."""
        labels = self.dataset.labels
        return None if labels is None else labels[self.indices]

    @property
    def n_events(self) -> int:
        """Number of spikes in these samples."""
        return int(np.diff(self.dataset.offsets)[self.indices].sum())

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.indices)

    def batches(self, size: int) -> Iterator[Events]:
        """Yield the samples in order, ``size`` at a time."""
        return (self.dataset[self.indices[start : start + size]] for start in range(0, len(self), size))

    def load(self) -> Events:
        """Return all samples."""
        return self.dataset[self.indices]


def hold_out(dataset: EventDataset, fraction: float) -> tuple[Samples, Samples]:
    """Part a data set in two: the last ``fraction`` of each class is held out, whole groups where there are groups.

    Returns
    -------
    Samples, Samples
        For training, and held out.

    Raises
    ------
    ValueError
        If there are no labels, or one of the two would be empty.
    """
    if dataset.labels is None:
        raise ValueError(f"{dataset.path}: expected labels, found none")
    held = held_out(dataset.labels, dataset.groups, fraction)
    if held.all() or not held.any():
        raise ValueError(f"validation expects a part of the {len(held)} samples, {fraction:g} of each class is not one")
    return Samples(dataset, np.flatnonzero(~held)), Samples(dataset, np.flatnonzero(held))


def held_out(labels: np.ndarray, groups: np.ndarray | None, fraction: float) -> np.ndarray:
    """Return which samples are held out: the last ``fraction`` of each class.

    Where there are groups, whole ones are held out, at least one of each class that has several.

    Parameters
    ----------
    labels : ndarray of int64, shape (n_samples,)
        Classes.
    groups : ndarray of int64, shape (n_samples,), or None
        Which samples of a class belong together.
    fraction : float
        From 0, none, to 1.

    Returns
    -------
    ndarray of bool, shape (n_samples,)
    """
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels) if fraction else ():
        members = np.flatnonzero(labels == label)
        numbers = np.arange(len(members)) if groups is None else groups[members]
        units, first = np.unique(numbers, return_index=True)
        units = units[np.argsort(first)]  # in the order of the data
        count = round(fraction * len(units))
        if groups is not None and len(units) > 1:
            count = max(1, count)
        held[members[np.isin(numbers, units[len(units) - count :])]] = True
    return held
