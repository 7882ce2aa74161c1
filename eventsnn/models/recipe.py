"""Recipes and what comes of them: encoder, layers, how each layer learns, and what decides in the end."""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from eventsnn.backends import Backend
from eventsnn.batches import Data
from eventsnn.checkpoint import Checkpoint, fingerprints
from eventsnn.encode import ImageEncoder
from eventsnn.evaluation import Evaluation, evaluate
from eventsnn.history import History
from eventsnn.layers import Layer
from eventsnn.models.encoders import Encoder, check_of_images, encode_recordings, encoder_from_dict, gives
from eventsnn.network import Network
from eventsnn.plasticity import (
    WTA,
    Annealing,
    Competition,
    Doubling,
    Rule,
    Suppression,
    ThresholdAdaptation,
)
from eventsnn.readout import FittedReadout, LinearReadout, features
from eventsnn.targets import replace_file
from eventsnn.train import Progress, fit


@dataclass(frozen=True)
class Step:
    """How one layer learns; the fields are arguments of :func:`eventsnn.fit`."""

    layer: int
    rule: Rule
    competition: WTA | Competition = WTA()
    epochs: int = 1
    schedule: Doubling | Annealing | None = None
    dropout: float = 0.0
    inhibit_input: bool = False
    shuffle: bool = False
    adaptation: ThresholdAdaptation | None = None
    suppression: Suppression | None = None
    patches: bool = False
    mini_batch: int = 1
    stop_below: float | None = None


@dataclass(frozen=True)
class Model:
    """A recipe: everything but the data.

    Parameters
    ----------
    name : str
        Name of the function that made it.
    encoder : ImageEncoder, CameraEncoder or WindowChannels
        Images to events, or recordings of an event camera to samples.
    size : (int, int)
        Height and width of the images, or of the camera's sensor, in pixels.
    layers : tuple of Layer
        From the input on.
    steps : tuple of Step
        In the order in which the layers learn.
    readout : LinearReadout, optional
        Classifier on the last layer's spikes. Default: the first winner of the last layer decides.
    """

    name: str
    encoder: Encoder
    size: tuple[int, int]
    layers: tuple[Layer, ...]
    steps: tuple[Step, ...]
    readout: LinearReadout | None = None

    @property
    def image_encoder(self) -> ImageEncoder:
        """The encoder of a model of images.

        Raises
        ------
        ValueError
            If the model takes recordings of an event camera.
        """
        return check_of_images(self.name, self.encoder)

    def with_epochs(self, epochs: Sequence[int]) -> Model:
        """Return the recipe with other numbers of epochs, one for each step.

        Raises
        ------
        ValueError
            If there is not one positive number for each step.
        """
        if len(epochs) != len(self.steps) or min(epochs, default=0) < 1:
            raise ValueError(f"epochs expects {len(self.steps)} positive numbers for {self.name}, got {list(epochs)}")
        steps = tuple(replace(step, epochs=int(n)) for step, n in zip(self.steps, epochs, strict=True))
        return replace(self, steps=steps)

    def train(
        self,
        data: Data,
        *,
        validation: Data | None = None,
        seed: int = 0,
        backend: Backend | str | None = None,
        devices: Sequence[Backend | str] | None = None,
        progress: Progress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Trained:
        """Train the whole network, layer by layer.

        Parameters
        ----------
        data : Events or EventDataset
            Labelled stimuli, as :attr:`encoder` makes them from images of any one size: a dataset says which, and else
            it follows from their grid. It is what :attr:`Trained.size` will be (the recipe's :attr:`size` for stimuli
            that no images have; the grid's of a camera that the data do not know).
        validation : Events or EventDataset, optional
            Labelled stimuli held out from ``data``. If given, a step whose layer decides keeps the weights of the epoch
            that decides best on them, as :func:`eventsnn.fit` does.
        seed : int
            Of the initial weights, and of dropout.
        backend : Backend or str, optional
            Where to compute.
        devices : sequence of Backend or str, optional
            Several devices instead, as of :class:`eventsnn.Network`.
        progress : callable, optional
            Called as ``progress(done, total, phase)``.
        checkpoint : Checkpoint, optional
            Its path is a folder, made if it is not there, with one file for each step. Training continues from
            what it holds, bit for bit; delete it when the result is safe elsewhere.

        Returns
        -------
        Trained

        Raises
        ------
        ValueError
            If the encoder is not fitted, the data do not fit the network or have no labels, or a checkpoint is broken
            or of another training.
        OSError
            If a checkpoint cannot be written; those before it are still there.
        """
        if not self.encoder.fitted:
            raise ValueError(
                f"{self.name}: the encoder is not fitted: replace it by encoder.fit(images), of these data"
            )
        for which, samples in (("data", data), ("validation", validation)):
            if samples is not None and samples.labels is None:
                raise ValueError(f"{which} expects samples with labels for {self.name}, got none")
        size = _size(self, data)
        net = Network(self.layers, data.shape, seed=seed, backend=backend, devices=devices)
        keeping = _each_step(checkpoint, len(self.steps), data, validation)
        records = [
            fit(
                net,
                data,
                **vars(step),
                validation=validation if step.rule.rewarded and step.layer == net.trainable[-1] else None,
                seed=seed,
                progress=None if progress is None else _named(progress, step.layer),
                checkpoint=kept,
            )
            for step, kept in zip(self.steps, keeping, strict=True)
        ]
        readout = None
        if self.readout is not None:
            if progress is not None:
                progress(0, 1, "linear readout")
            readout = self.readout.fit(features(net, data, self.readout.kind), data.labels)
            if progress is not None:
                progress(1, 1, "linear readout")
        return Trained(self.name, self.encoder, size, net, readout, tuple(records))


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained model: encodes images, decides, and can be saved.

    Attributes
    ----------
    name : str
        Of the recipe.
    encoder : ImageEncoder, CameraEncoder or WindowChannels
        Images to events, or recordings of an event camera to samples.
    size : (int, int)
        Height and width of the images, or of the sensor, that it has learnt from, in pixels.
    network : Network
    readout : FittedReadout or None
        What decides; None: the network itself.
    records : tuple of History
        What each step of training did; empty after :meth:`load`.
    """

    name: str
    encoder: Encoder
    size: tuple[int, int]
    network: Network
    readout: FittedReadout | None
    records: tuple[History, ...] = ()

    @property
    def image_encoder(self) -> ImageEncoder:
        """The encoder of a model of images.

        Raises
        ------
        ValueError
            If the model takes recordings of an event camera.
        """
        return check_of_images(self.name, self.encoder)

    def evaluate(self, data: Data, progress: Progress | None = None) -> Evaluation:
        """Return accuracy and activity over labelled data; see :func:`eventsnn.evaluate`."""
        return evaluate(self.network, data, self.readout, progress=progress)

    def predict(self, images: Any) -> np.ndarray:
        """Return the class of each image or recording, int64 of shape (n,).

        Without a readout -1 where the network stays silent. A readout always decides: where the network stays silent
        by its intercepts alone, which is the same class for all of these; ``evaluate`` counts them.

        Parameters
        ----------
        images : ndarray of uint8, shape (n_images, height, width); or an iterable of recordings
            Grey values of 0 to 255 and of size :attr:`size`. For a model of camera events: what
            :meth:`eventsnn.encode.WindowChannels.encode` takes, as ``[eventsnn.open(path) for path in paths]``;
            structured arrays are taken to be of size :attr:`size`. A ``CameraEncoder`` cuts each into samples, of
            which each has its class here.

        Raises
        ------
        TypeError
            If images are not uint8: whether other numbers are 0 to 1 or 0 to 255 would be a guess.
        ValueError
            If they are of another size.
        """
        if isinstance(self.encoder, ImageEncoder):
            events = self.encoder.encode(_checked(images, self.size))
        else:
            events = encode_recordings(self.encoder, images, self.size[::-1])
        decisions = evaluate(self.network, events, self.readout).decisions
        assert decisions is not None
        return decisions

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``network.h5``, ``readout.h5`` (if there is one) and ``model.json``, each by rename, the last one last.

        Raises
        ------
        OSError
            If a file cannot be written.
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        self.network.save(target / "network.h5")
        if self.readout is not None:
            self.readout.save(target / "readout.h5")
        fields: dict[str, Any] = {"name": self.name, "encoder": self.encoder.to_dict(), "size": list(self.size)}
        fields["readout"] = self.readout is not None
        write_text(target / "model.json", json.dumps(fields, indent=1))

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        backend: Backend | str | None = None,
        devices: Sequence[Backend | str] | None = None,
    ) -> Trained:
        """Read what :meth:`save` wrote, to compute where ``backend`` or ``devices`` say.

        Raises
        ------
        FileNotFoundError
            If the folder does not hold a trained model.
        ValueError
            If a file is not what it should be, or the readout is of another network.
        """
        source = Path(folder)
        description = source / "model.json"
        if not description.is_file():
            raise FileNotFoundError(f"{folder}: not a trained model, there is no model.json")
        try:
            fields = json.loads(description.read_text())
            encoder, size = encoder_from_dict(fields["encoder"]), (int(fields["size"][0]), int(fields["size"][1]))
            name, has_readout = str(fields["name"]), bool(fields["readout"])
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(f"{description}: not the description of a model: {error}") from error
        network = Network.load(source / "network.h5", backend, devices)
        return cls(name, encoder, size, network, _readout(source / "readout.h5", network) if has_readout else None)


def _checked(images: Any, size: tuple[int, int]) -> np.ndarray:
    """Return images, or raise as :meth:`Trained.predict` does."""
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        raise TypeError(f"images expects an array of uint8, got {getattr(images, 'dtype', type(images).__name__)}")
    if images.ndim != 3 or images.shape[1:] != tuple(size):
        raise ValueError("images expects the shape (n_images, {}, {}), got {}".format(*size, images.shape))
    return images


def _readout(path: Path, network: Network) -> FittedReadout:
    """Read the readout of a network."""
    readout = FittedReadout.load(path)
    try:
        readout.check(network.shapes[-1])
    except ValueError as error:
        raise ValueError(f"{path}: a readout of another network: {error}") from None
    return readout


def _each_step(
    checkpoint: Checkpoint | None, steps: int, data: Data, validation: Data | None
) -> list[Checkpoint] | list[None]:
    """Return the checkpoint of each step; the data are looked at once for all."""
    if checkpoint is None:
        return [None] * steps
    if checkpoint.extra is not None:
        raise ValueError("checkpoint of a model expects no extra: nothing of yours is called that would change it")
    known = checkpoint.data or fingerprints((data, validation))
    folder = Path(checkpoint.path)
    folder.mkdir(exist_ok=True)
    return [replace(checkpoint, path=folder / f"step-{i + 1}.h5", data=known) for i in range(steps)]


def _size(model: Model, data: Data) -> tuple[int, int]:
    """Return the size of the images, or of the sensor, that data were made from."""
    size = _recorded_size(data, model.size)
    if isinstance(model.encoder, ImageEncoder):
        return model.encoder.image_size(data.shape, size) or model.size
    return size if gives(model.encoder, size, data.shape) else data.shape[1:]


def _recorded_size(data: Data, usual: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the images that a dataset says it was made from, ``usual`` if it does not."""
    found = getattr(data, "provenance", {}).get("extra", {}).get("image_size", usual)
    try:
        height, width = (operator.index(n) for n in found)
    except (TypeError, ValueError):
        return usual
    return height, width


def _named(progress: Progress, layer: int) -> Progress:
    return lambda done, total, phase: progress(done, total, f"layer {layer}, {phase}")


def write_text(path: Path, text: str) -> None:
    """Write a text file beside its target and rename it into place."""
    replace_file(path, text.encode())
