"""What the command line's arguments mean, and one line for those that mean nothing."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from eventsnn.console import UsageError, describe, printable
from eventsnn.models import CAMERA_MODELS, MODELS

if TYPE_CHECKING:
    from eventsnn.devices import Computed
    from eventsnn.models import Model
    from eventsnn.models.encoders import Encoder
    from eventsnn.readout import Feature, Kind
    from eventsnn.sources import Part

# Which part of a source a command takes; see :func:`chosen_part`.
Split = Annotated[
    str, typer.Option(metavar="train|test|all", help="Part of the data. Default: train, where the source has parts.")
]

# What models, images and recordings a user may name.
NAMES = ", ".join(MODELS | CAMERA_MODELS)
IMAGES = (
    "a folder of idx files (MNIST's format) or with one folder of images per class; an .npz file with the arrays "
    "images, labels and perhaps groups; 'digits'; or 'mnist'"
)
RECORDINGS = f"For {', '.join(CAMERA_MODELS)}: recordings, in a folder for each class"


def one_of(value: str, known: Iterable[str], name: str) -> str:
    """Return ``value`` if it is known, else refuse it and name the nearest."""
    if value not in (names := list(known)):
        near = difflib.get_close_matches(value, names, n=1, cutoff=0.0)[0]
        raise UsageError(f"{name} expects one of {', '.join(names)}, got {value!r}; the nearest is {near!r}")
    return value


def parse_size(text: str, name: str = "--size", example: str = "28x28", form: str = "HxW") -> tuple[int, int] | None:
    """Return the two numbers of a text like ``HxW``, or None of an empty one."""
    if not text:
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None:
        raise UsageError(f"{name} expects {form}, as {example}, got {text!r}")
    return int(match[1]), int(match[2])


def parse_time(text: str, name: str) -> int | None:
    """Return the microseconds of a time as ``1.5s``, ``20ms`` or ``300us``, or None of an empty text."""
    if not text:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(us|ms|s)", text.strip())
    if match is None:
        raise UsageError(f"{name} expects a time with its unit, as 1.5s, 20ms or 300us, got {text!r}")
    microseconds = Decimal(match[1]) * {"us": 1, "ms": 1000, "s": 1_000_000}[match[2]]
    if microseconds != int(microseconds) or microseconds >= 1 << 62:
        raise UsageError(f"{name} expects whole microseconds below 2**62, got {text!r}")
    return int(microseconds)


def parse_span(text: str, name: str = "--time") -> tuple[int, int | None] | None:
    """Return the microseconds of ``START,STOP``, of which each may be left out, or None of an empty text."""
    if not text:
        return None
    parts = text.split(",")
    if len(parts) != 2:
        raise UsageError(f"{name} expects START,STOP, as 10s,12.5s, got {text!r}")
    start, stop = (parse_time(part, name) for part in parts)
    return start or 0, stop


def parse_crop(text: str) -> tuple[int, int, int, int] | None:
    """Return the numbers of ``X0,Y0,X1,Y1``, or None of an empty text."""
    if not text:
        return None
    match = re.fullmatch(r"(\d{1,5}),(\d{1,5}),(\d{1,5}),(\d{1,5})", text)
    if match is None:
        raise UsageError(f"--crop expects X0,Y0,X1,Y1, as 0,0,640,480, got {text!r}")
    x0, y0, x1, y1 = (int(number) for number in match.groups())
    return x0, y0, x1, y1


def chosen_part(split: str, source: str) -> Part:
    """Return the part of a source that is asked for: training data if nothing is said, which may be all that there is.

    Raises
    ------
    UsageError
        If a part is asked for of what has none.
    """
    from eventsnn.sources import is_parted

    part = cast("Part", one_of(split or "train", ("train", "test", "all"), "--split"))
    if split and part != "all" and not is_parted(source):
        expected = "a folder with train and test, one of idx files, an .npz file with x_train and x_test"
        raise UsageError(f"--split {part} expects a source with parts ({expected}), found none in {printable(source)}")
    return part


def feature(kind: str, target: float, regions: tuple[int, int] | None) -> Feature | None:
    """Return what the options ask for, or None where they leave it to the run."""
    from eventsnn.readout import Feature

    if not kind:
        if regions is not None:
            raise UsageError("--regions expects --kind too")
        return None
    try:
        return Feature(cast("Kind", kind), target, regions)
    except ValueError as error:
        raise UsageError(f"--kind, --target: {describe(error)}") from None


def recipe(model: str) -> tuple[Model, int]:
    """Return the model of a name or of a TOML file, and the seed that goes with it."""
    if not model.endswith(".toml"):
        known = MODELS | CAMERA_MODELS
        return known[one_of(model, known, "MODEL")](), 0
    from eventsnn.experiment import Experiment

    experiment = Experiment.load(model)
    return experiment.model, experiment.seed


def default_encoder(source: str) -> str:
    """Return the name of the encoder for images or recordings that nobody has named one for."""
    from eventsnn.camera_sources import holds_recordings

    if source == "digits":
        return source
    return "nmnist" if holds_recordings(source) else "mozafari2019_mnist"


def named_encoder(text: str) -> tuple[Encoder, tuple[int, int] | None]:
    """Return the encoder of a name, of a file, and the size of the images or of the sensor that it is for.

    A file is an experiment (TOML), an event file that the encoder made, or what its ``to_dict`` gives as JSON.
    """
    from eventsnn.sources import encoders, recorded_encoder

    if text.endswith(".toml"):
        model, _ = recipe(text)
        return model.encoder, model.size
    if text.endswith(".json"):
        return _described_encoder(Path(text)), None
    if Path(text).is_file():
        return recorded_encoder(text)
    known = encoders()
    return known[one_of(text, known, "--encoder")]


def _described_encoder(path: Path) -> Encoder:
    from eventsnn.models.encoders import encoder_from_dict

    try:
        return encoder_from_dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{path}: expected an encoder's to_dict() as JSON: {error}") from None


def with_epochs(model: Model, text: str) -> Model:
    """Return the recipe with the epochs of a text like ``2,4,20``; unchanged where it is empty."""
    if not text:
        return model
    try:
        return model.with_epochs([int(number) for number in text.split(",")])
    except ValueError as error:
        raise UsageError(f"--epochs {text!r}: {error}") from None


@contextmanager
def elsewhere(backend: str, devices: str, dask: str, data: str) -> Iterator[dict[str, Any]]:
    """Yield the options ``backend`` and ``computed`` of what runs a network: here, on devices, or on a cluster."""
    if devices and (dask or backend):
        raise UsageError(f"expected --devices or --{'dask' if dask else 'backend'}, got both")
    here = "" if dask else backend  # with --dask it is the workers'
    check_backend(here)  # with which a run is loaded, wherever it is then computed
    with ExitStack() as stack:
        computed: Computed = nullcontext
        if dask:
            computed = _on_cluster(dask, data, backend, stack)
        elif devices:
            computed = _on_devices(devices)
        yield {"backend": here or None, "computed": computed}


def _on_devices(names: str) -> Computed:
    from eventsnn.devices import computed_on, device

    chosen = [name.strip() for name in names.split(",")]
    try:
        return partial(computed_on, [device(name) for name in chosen])
    except (ValueError, RuntimeError) as error:  # no such device, or nothing to use it with
        raise UsageError(f"--devices: {error}") from None


def _on_cluster(address: str, data: str, backend: str, stack: ExitStack) -> Computed:
    from eventsnn import parallel
    from eventsnn.sources import is_event_file

    if not is_event_file(data):
        raise UsageError(f"--dask expects an event file that all workers see, got {data}; 'eventsnn encode' makes one")
    try:
        return partial(parallel.computed_by, stack.enter_context(parallel.connect(address)), backend=backend or None)
    except ModuleNotFoundError as error:
        raise UsageError(f"--dask: {error}") from None


def check_backend(name: str = "") -> None:
    """Refuse a backend that there is not, or whose device or software is missing; by default the environment's."""
    from eventsnn.backends import get

    try:
        get(name or None)
    except (ValueError, RuntimeError) as error:  # RuntimeError: no device, or nothing to use it with
        raise UsageError(f"{'--backend' if name else 'EVENTSNN_BACKEND'}: {error}") from None
