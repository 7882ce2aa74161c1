"""Samples that a study trains on and is tested with, before they are encoded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from eventsnn.camera_sources import Recordings, find_recordings, parts_of, sha256_of, write_recordings
from eventsnn.checkpoint import fingerprint
from eventsnn.encode import ImageEncoder
from eventsnn.events import Events
from eventsnn.io import EventDataset, EventWriter, Images
from eventsnn.models import Model
from eventsnn.models.recipe import Encoder
from eventsnn.sources import (
    Part,
    Samples,
    encoder_of,
    has_train_and_test,
    held_out,
    is_event_file,
    open_data,
    read_images,
    write_encoded,
)

_HELD_OUT = 0.2  # of each class, where nothing else is there to test with
_BATCH = 100  # stored recordings encoded at a time


@dataclass(frozen=True)
class Sampled:
    """Labelled samples that wait for an encoder.

    Attributes
    ----------
    samples : int
    sha256 : str
        Of what they are, labels included.
    write : callable
        ``write(encoder, path)`` encodes them into an event file.
    """

    samples: int
    sha256: str
    write: Callable[[Any, Path], None]


@dataclass(frozen=True)
class _Source:
    """Everything that a source has: the names of its classes if they have some, and what takes some of it."""

    names: tuple[str, ...]
    labels: np.ndarray
    groups: np.ndarray | None
    take: Callable[[np.ndarray], Sampled]


def read(model: Model, data: str, test_data: str, counts: tuple[int, int]) -> tuple[Sampled, Sampled, Encoder]:
    """Read what a recipe learns from and is tested with.

    Parameters
    ----------
    model : Model
        The recipe.
    data : str
        Images as :func:`eventsnn.sources.read_images` takes them, or for a recipe of camera events a folder with one
        folder of recordings for each class, perhaps in ``Train`` and ``Test``; or an event file, of what the recipe's
        encoder has made or of recordings.
    test_data : str
        The same; ``""`` for the test part of ``data``, or else the last fifth of each class, which is held out then.
    counts : (int, int)
        Samples to train on and to test with, drawn at random, always the same; 0 for all.

    Returns
    -------
    Sampled, Sampled, Encoder
        To train on, to test with, and the recipe's encoder, fitted to the former.

    Raises
    ------
    OSError, ValueError
        If there is no such source, or it does not fit, or has too few samples.
    """
    train = _source(model, data, "train")
    if test_data or _parted(model, data):
        test, chosen = _source(model, test_data or data, "test"), [np.arange(len(train.labels))]
        chosen.append(np.arange(len(test.labels)))
        if train.names and test.names and train.names != test.names:
            raise ValueError(
                f"{test_data or data}: expected the classes {train.names} to test with, found {test.names}"
            )
    else:
        held = held_out(train.labels, train.groups, _HELD_OUT)
        test, chosen = train, [np.flatnonzero(~held), np.flatnonzero(held)]
    names = ("train", "test")
    drawn = [_drawn(name, indices, n) for name, indices, n in zip(names, chosen, counts, strict=True)]
    return train.take(drawn[0]), test.take(drawn[1]), _fitted(model, data, drawn[0])


def _fitted(model: Model, data: str, chosen: np.ndarray) -> Encoder:
    encoder = model.encoder
    if encoder.fitted or not isinstance(encoder, ImageEncoder):
        return encoder
    if not is_event_file(data):
        return encoder.fit(read_images(data, "train", model.size).pixels[chosen])
    with EventDataset(data) as dataset:
        return encoder_of(dataset, encoder)


def _drawn(name: str, indices: np.ndarray, count: int) -> np.ndarray:
    if len(indices) < max(count, 1):
        raise ValueError(f"{name} expects at most the {len(indices)} samples that there are, got {count}")
    if not count:
        return indices
    drawn: np.ndarray = np.sort(np.random.default_rng(0).permutation(indices)[:count])
    return drawn


def _parted(model: Model, source: str) -> bool:
    """Tell whether a source has a part to test with."""
    if is_event_file(source):
        return False
    return has_train_and_test(source) if isinstance(model.encoder, ImageEncoder) else bool(parts_of(Path(source)))


def _source(model: Model, source: str, part: Part) -> _Source:
    if is_event_file(source):
        return _of_file(model, source)
    if isinstance(model.encoder, ImageEncoder):
        images = read_images(source, part, model.size)
        return _Source(images.names, images.labels, images.groups, lambda chosen: _of_images(images[chosen]))
    if not Path(source).exists():
        raise FileNotFoundError(
            f"data expects a folder of recordings or an event file, for camera events; found none at {source}"
        )
    found = find_recordings(source, part)
    if not found.classes:
        raise ValueError(f"{source}: expected one folder of recordings for each class, found files")
    labels = np.array(found.labels, np.int64)
    return _Source(tuple(found.classes), labels, None, lambda chosen: _of_recordings(_some(found, chosen)))


def _some(found: Recordings, chosen: np.ndarray) -> Recordings:
    return replace(found, paths=[found.paths[i] for i in chosen], labels=[found.labels[i] for i in chosen])


def _of_images(images: Images) -> Sampled:
    return Sampled(len(images), images.sha256, lambda encoder, path: write_encoded(path, images, encoder))


def _of_file(model: Model, path: str) -> _Source:
    """Take samples of an event file: encoded ones, or recordings of a camera."""
    image = isinstance(model.encoder, ImageEncoder)
    if image:
        with open_data(path, "all", model.image_encoder, model.size, Path()):
            pass  # it says so if another encoder has made the file
    dataset = EventDataset(path)
    if dataset.labels is None:
        raise ValueError(f"{path}: expected labels, found none")

    def take(chosen: np.ndarray) -> Sampled:
        samples = Samples(dataset, chosen)

        def write(encoder: Any, path: Path) -> None:
            _write(path, (batch if image else encoder.encode(batch) for batch in samples.batches(_BATCH)))

        return Sampled(len(samples), fingerprint(samples), write)

    return _Source((), dataset.labels, dataset.groups, take)


def _of_recordings(found: Recordings) -> Sampled:
    whole = hashlib.sha256(f"{sha256_of(found)} {found.labels}".encode()).hexdigest()
    return Sampled(len(found.paths), whole, lambda encoder, path: write_recordings(path, found, encoder))


def _write(path: Path, batches: Iterator[Events]) -> None:
    """Write at least one batch as an event file."""
    first = next(batches)
    with EventWriter(path, first.shape, first.duration, first.unit) as writer:
        writer.append(first)
        for batch in batches:
            writer.append(batch)
