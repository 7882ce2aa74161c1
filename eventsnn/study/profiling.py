"""What sparsity buys a network on data: counts, time and energy of each layer."""

from __future__ import annotations

from eventsnn.batches import BATCH, Data
from eventsnn.network import Network
from eventsnn.profile import Costs, Profile
from eventsnn.profile.counting import INTERVALS, profiled
from eventsnn.train import Progress


def profile(
    net: Network,
    data: Data,
    *,
    stop: int | None = None,
    steps: int | None = None,
    intervals: int = INTERVALS,
    peak: bool | float = False,
    pj_per_operation: float = Costs.pj_per_operation,
    pj_per_mac: float = Costs.pj_per_mac,
    batch_size: int = BATCH,
    progress: Progress | None = None,
) -> Profile:
    """Run a network over data and count what each layer does with each sample.

    What an operation is, and when it is stopped, says :mod:`eventsnn.profile`. The network runs as
    :meth:`Network.run` runs it, in threads that each take their own time, and a layer whose spikes are pooled at once
    once more, to count these. Data in a file go through batch by batch.

    Parameters
    ----------
    net : Network
        On any backend or devices; counts do not depend on them.
    data : Events or EventDataset
        Stimuli on the grid ``net.shape``.
    stop : int, optional
        Run ``net.layers[:stop]`` only.
    steps : int, optional
        Time steps of the dense computation that it is compared with. Default: the duration in bins, or in milliseconds
        where it is in microseconds.
    intervals : int
        Of time, at most, in which spikes are counted: as many as bins where these are fewer.
    peak : bool or float
        Additions a second that a thread of this machine is capable of; ``True`` measures it, in about 50 ms.
    pj_per_operation, pj_per_mac : float
        Picojoules of a synaptic operation and of a multiply-accumulate. Default: a float32 addition, 0.9 pJ, and an
        addition with a multiplication, 3.7 pJ, in 45 nm (M. Horowitz, ISSCC 2014, pages 10-14).
    batch_size : int
        Samples at a time. Time is taken of a batch (with several threads: of each piece of it), and
        shared evenly by its samples.
    progress : callable, optional
        Called as ``progress(done, total, phase)``.

    Returns
    -------
    Profile

    Raises
    ------
    ValueError
        If the data do not fit the network, or a value is out of range.
    """
    first, last = net.check_range(0, stop)
    net.check_input(data.shape)
    costs = Costs(pj_per_operation, pj_per_mac, _peak(peak))

    def report(done: int, of: int) -> None:
        if progress is not None:
            progress(done, of, "profile")

    _, found = profiled(
        *(net, data, first, last),
        keep="nothing",
        batch_size=batch_size,
        steps=steps,
        intervals=intervals,
        costs=costs,
        progress=report,
    )
    return found


def _peak(peak: bool | float) -> float | None:
    if not isinstance(peak, bool):
        return float(peak)
    if not peak:
        return None
    from eventsnn.study.peak import vector_adds_per_second

    return vector_adds_per_second()
