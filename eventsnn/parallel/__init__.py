"""Several machines: the same functions over shards of event files, computed by the workers of a Dask cluster.

Every function takes a ``distributed.Client`` and then what the function of the same name in :mod:`eventsnn` takes, and
returns the same, bit for bit. Workers open event files by their paths, so these must be the same everywhere; they need
the same version of eventsnn. With ``dask-cuda`` there is one worker for each GPU (``backend="cuda"``), else a worker is
as many threads of a CPU as Dask gives it, each with a shard of its own.

A task is a range of samples, and depends on nothing but its arguments, so Dask runs it again when its worker is lost.
Where there is no worker yet, it waits for one. Needs ``pip install 'eventsnn[dask]'``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eventsnn import checks, evaluation, sources, train
from eventsnn import readout as readouts
from eventsnn.batches import BATCH
from eventsnn.encode import ImageEncoder
from eventsnn.history import History
from eventsnn.io import EventDataset, Images
from eventsnn.network import Network
from eventsnn.parallel._cluster import SHARD, Cluster, in_order, write
from eventsnn.parallel._tasks import spikes_of
from eventsnn.sources import Samples

__all__ = ["SHARD", "computed_by", "connect", "decide", "encode", "evaluate", "features", "fit", "run"]

if TYPE_CHECKING:
    from distributed import Client
    from scipy.sparse import csr_array

TIMEOUT = "10s"  #: how long :func:`connect` tries
Stored = str | os.PathLike[str] | EventDataset | Samples


@contextmanager
def connect(address: str) -> Iterator[Client]:
    """Yield a client of the scheduler at an address, as ``tcp://host:8786``.

    Raises
    ------
    ModuleNotFoundError
        If Dask is not installed; the message says how to.
    OSError
        If there is no scheduler.
    """
    with _distributed().Client(address, timeout=TIMEOUT) as client:
        yield client


@contextmanager
def computed_by(
    client: Client,
    net: Network,
    *,
    backend: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    shard: int = SHARD,
) -> Iterator[Network]:
    """Yield the same network, computed by the workers of a cluster wherever its input comes from an event file.

    Parameters
    ----------
    client : distributed.Client
        Of a cluster whose workers see the files.
    net : Network
        Its weights are shared with the network that is yielded, and take part in what that one learns.
    backend : str, optional
        What the workers compute with, as ``"cuda"``. Default: what ``EVENTSNN_BACKEND`` says where they run, else one
        thread of the CPU for each task.
    folder : path, optional
        Where workers see files that are written here: for the spikes of frozen layers. Default: that of the data.
    shard : int
        Events that a task takes, at most about: more on fast devices, so that the scheduler keeps up with them. Results
        do not depend on it.

    Raises
    ------
    ModuleNotFoundError
        If Dask is not installed.
    TypeError
        If ``client`` is something else.
    """
    if not isinstance(client, _distributed().Client):
        raise TypeError(f"client expects a distributed.Client, got {client!r}")
    with ExitStack() as stack:
        remote = net.on(Cluster(client, net.place, backend, folder, shard, stack))
        yield remote
        net.classes = remote.classes


def decide(client: Client, net: Network, data: Stored, classes: Any = None, **options: Any) -> np.ndarray:
    """Let the first spike of the last layer decide; see :func:`eventsnn.decide`.

    Parameters
    ----------
    client, net
        As of :func:`computed_by`, whose ``backend`` and ``shard`` may be among the options.
    data : path, EventDataset or Samples
        An event file that all workers see.
    classes, **options
        As of :func:`eventsnn.decide`.
    """
    with _opened(data) as opened, computed_by(client, net, **_own(options)) as remote:
        return evaluation.decide(remote, opened, classes, **options)


def evaluate(
    client: Client, net: Network, data: Stored, readout: readouts.FittedReadout | None = None, **options: Any
) -> evaluation.Evaluation:
    """Run a network over an event file and report decisions and activity; see :func:`eventsnn.evaluate`.

    Parameters
    ----------
    client, net, data
        As of :func:`decide`.
    readout, **options
        As of :func:`eventsnn.evaluate`, and ``backend`` and ``shard``.
    """
    with _opened(data) as opened, computed_by(client, net, **_own(options)) as remote:
        return evaluation.evaluate(remote, opened, readout, **options)


def features(
    client: Client, net: Network, data: Stored, kind: readouts.Kind | readouts.Feature = "fired", **options: Any
) -> csr_array:
    """Return the features of a layer's output over an event file; see :func:`eventsnn.features`.

    Parameters
    ----------
    client, net, data
        As of :func:`decide`.
    kind, **options
        As of :func:`eventsnn.features`, and ``backend`` and ``shard``.
    """
    with _opened(data) as opened, computed_by(client, net, **_own(options)) as remote:
        return readouts.features(remote, opened, kind, **options)


def run(
    client: Client,
    net: Network,
    data: Stored,
    out: str | os.PathLike[str],
    *,
    start: int = 0,
    stop: int | None = None,
    batch_size: int = BATCH,
    backend: str | None = None,
    progress: train.Progress | None = None,
) -> None:
    """Send an event file through the layers, and write the spikes of the last one to another, without potentials.

    Parameters
    ----------
    client, net, data, backend
        As of :func:`computed_by` and :func:`decide`.
    out : path
        Event file to make or replace; it appears when it is complete.
    start, stop, batch_size
        As of :meth:`eventsnn.Network.run`.
    progress : callable, optional
        Called as ``progress(done, total, phase)``.

    Raises
    ------
    ValueError, OSError
        If the events do not fit, or the file cannot be written; an earlier one is as it was then.
    """
    with _opened(data) as opened, computed_by(client, net, backend=backend) as remote:
        last = remote.check_range(start, stop)[1]
        remote.check_input(opened.shape, start)
        work, report = partial(spikes_of, start, last, False), progress or train.ignore
        shape = remote.shapes[last]
        write(remote, opened, Path(out), work, shape, batch_size, lambda done, total: report(done, total, "run"))


def encode(
    client: Client,
    encoder: ImageEncoder,
    images: Images,
    out: str | os.PathLike[str],
    *,
    progress: train.Progress | None = None,
) -> None:
    """Encode images into an event file; see :func:`eventsnn.sources.write_encoded`.

    Parameters
    ----------
    client : distributed.Client
        Its workers get the images, some at a time, and need no files.
    encoder : ImageEncoder
        Is fitted here if it is not yet.
    images : Images
        From :func:`eventsnn.io.load_images`.
    out : path
        Event file to make or replace; it appears when it is complete.
    progress : callable, optional
        Called as ``progress(done, total, phase)``.

    Raises
    ------
    ValueError, OSError
        If the encoder does not take such images, or the file cannot be written.
    """
    _distributed()
    sources.write_encoded(out, images, encoder, progress, each=partial(in_order, client))


def fit(client: Client, net: Network, data: Stored, *, layer: int, mini_batch: int, **options: Any) -> History:
    """Train one layer in mini-batches whose winners the workers find; see :func:`eventsnn.fit`.

    The frozen layers run once, and their spikes go to a temporary event file that all workers see. For each mini-batch
    the workers get the layer's weights, and return winners and the input in their receptive fields; from these
    the weights are changed here, in the order of samples.

    Parameters
    ----------
    client, net, data
        As of :func:`decide`; the layer changes in place.
    layer : int
        Index of the layer that learns.
    mini_batch : int
        At least 2; for several machines to pay, many more than there are workers.
    **options
        All others of :func:`eventsnn.fit` (``memory`` has no meaning here), and ``backend`` and ``folder`` of
        :func:`computed_by`.

    Raises
    ------
    ValueError, TypeError, OSError
        As :func:`eventsnn.fit`.
    """
    checks.integer("mini_batch", mini_batch, 2)  # online learning has no part that could be shared
    own = _own(options)
    with _opened(data) as opened, computed_by(client, net, **own) as remote:
        return train.fit(remote, opened, layer=layer, mini_batch=mini_batch, **options)


@contextmanager
def _opened(data: Stored) -> Iterator[EventDataset | Samples]:
    if isinstance(data, EventDataset | Samples):
        yield data
        return
    with EventDataset(Path(data)) as opened:
        yield opened


def _own(options: dict[str, Any]) -> dict[str, Any]:
    """Take the options of :func:`computed_by` out of others."""
    return {name: options.pop(name) for name in ("backend", "folder", "shard") if name in options}


def _distributed() -> Any:
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("several machines need Dask: pip install 'eventsnn[dask]'", name=error.name) from None
    return distributed
