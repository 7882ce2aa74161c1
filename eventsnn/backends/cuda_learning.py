"""One call of ``learn`` on a GPU: presentations are gathered, listed by place, and learnt from in one launch.

Kernels are in ``learn.cu``. Nothing here calls NumPy on what lies on the device.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from eventsnn.backends import Geometry, LeakTable, Lesson
from eventsnn.backends.changes import checked_weight
from eventsnn.backends.competition import Found, compete, nobody
from eventsnn.backends.cuda_rules import with_rule
from eventsnn.backends.cuda_structures import (
    CANDIDATE,
    COLUMNS,
    LAYER,
    LEAK,
    NEVER,
    SIZES,
    SPIKES,
    WIDTH,
    limits_of,
    positions_of,
    sizes_of,
    tables_of,
    too_large,
)
from eventsnn.backends.device import Device, record, structure
from eventsnn.backends.updates import DEPENDENCES, ScaleTable, Update, asks_for, with_all_arguments
from eventsnn.events import Events, replace_fields

if TYPE_CHECKING:
    from eventsnn.backends.cuda import CudaBackend
    from eventsnn.backends.cuda_structures import Batch, Packed

ROUND = 128  #: spikes of a presentation after which it is seen whether its winners are known
_MOST_ROUNDS = 64  # more make more barriers and take more memory
_LARGEST_ROUND = 1 << 16  # ranks within a round have 16 bits in a key
_MOST_THREADS = 1024  # of a block
_NOBODY = ~np.uint64(0)

_CONTEST = record(
    "k radius pointwise rounds round leaky at_end", "cuts best crowd potential size closed won winners at_spike"
)
_PARTS = [("z", SIZES), ("in", SPIKES), ("leak", LEAK), ("layer", LAYER), ("last_time", "i8")]
_LESSON = np.dtype(_PARTS, align=True)
_TEAM = record(pointers="arrived job")
_BOUNDS = "lower lower_punishing upper upper_punishing rate target share floor duration"
_RULE = record(
    "n_coarse n_fine own dependence punishing",
    "plus minus coarse fine scale labels order classes weights limit decides failed asked",
    *((name, "f4") for name in _BOUNDS.split()),
)


class Piece(NamedTuple):
    """Presentations as kernels take them; ``arrays`` are what the structures point to."""

    batch: Batch
    lesson: np.ndarray
    contest: np.ndarray
    rule: np.ndarray
    arrays: tuple[Any, ...]


class Learning:
    """Presentations of samples to one layer.

    Parameters
    ----------
    backend : CudaBackend
        The one whose ``learn`` was called.
    device : Device
        Its device.
    events, order, packed, lesson
        As of ``Backend._learn``.
    """

    def __init__(
        self, backend: CudaBackend, device: Device, events: Events, order: np.ndarray, packed: Packed, lesson: Lesson
    ) -> None:
        update, neurons, xp = lesson.update, lesson.neurons, device.xp
        self._backend, self._events, self._order, self._packed, self._lesson = backend, events, order, packed, lesson
        self._xp, self._device = xp, device if update.function is None else with_rule(device, update.function)
        self._whole = self._sizes = sizes_of(events.shape, neurons.geometry, len(neurons.threshold))
        if lesson.positions is not None:  # what is then gathered of a sample is one window
            window = Geometry(neurons.geometry.kernel)
            self._sizes = sizes_of((events.shape[0], *window.kernel), window, len(neurons.threshold))
        self._leak = backend._leak(neurons.leak)
        limit, punish = _limit_of(lesson), update if lesson.reward is None else lesson.reward.punish
        self._limit = xp.asarray(limit)
        self._quiet = self._quiet_spikes(limit, max(np.float32(update.upper), np.float32(punish.upper)))
        self._given = [xp.asarray(array) for array in _rule_arrays(update, punish)]
        self._classes = None if lesson.reward is None else xp.asarray(lesson.reward.classes)
        self._numbers = _rule_numbers(update, punish, limit, events.duration)
        self._found = nobody(len(order), update.k)
        self._winners, self._at_spike = (xp.asarray(column) for column in self._found)
        maps, rows = len(neurons.threshold), packed.rows.shape[0]
        self._decides = xp.full((min(update.k, maps) if self._online else maps, rows), NEVER, np.uint32)
        self._failed, self._asked = xp.full(maps, _NOBODY, np.uint64), xp.zeros((maps, 6), np.float64)

    def _quiet_spikes(self, limit: np.ndarray, upper: np.float32) -> Any:
        """Return how many spikes surely make nobody fire while the layer learns, on the device; see ``find_quiet``."""
        neurons, adaptation = self._lesson.neurons, self._lesson.update.thresholds
        if neurons.at_end or neurons.leak is not None:
            return None
        lowest = limit.min() if adaptation is None else min(limit.min(), np.float32(adaptation.floor))
        return self._backend.quiet(self._packed, lowest, upper)

    @property
    def _online(self) -> bool:
        return self._lesson.batch == 1 and self._lesson.update.choose is None

    def run(self) -> np.ndarray:
        """Present everything; return the winners."""
        n, batch = len(self._order), self._lesson.batch
        if self._lesson.update.choose is None:
            self._over(0, n, find=True, change=True)
            return self._fetched().winners
        for start in range(0, n, batch):
            part = slice(start, min(start + batch, n))
            self._find_by_user(part)
            self._over(part.start, part.stop, find=False, change=True)
        return self._found.winners

    def find(self) -> Found:
        """Return who wins in each presentation, with the weights as they are."""
        if self._lesson.update.choose is not None:
            self._find_by_user(slice(0, len(self._order)))
            return self._found
        self._over(0, len(self._order), find=True, change=False)
        return self._fetched()

    def change(self, found: Found) -> None:
        """Let winners change weights and thresholds."""
        self._tell(found, slice(0, len(self._order)))
        self._over(0, len(self._order), find=False, change=True)

    def _fetched(self) -> Found:
        """Return what was found on the device, in the memory of the host."""
        winners, potential = (self._xp.asnumpy(column) for column in (self._winners, self._at_spike))
        if self._lesson.positions is not None:  # each was found in the one place of its window
            winners[:, :, 1:3] += _places(self._lesson.positions, self._whole) * (winners[:, :, :1] >= 0)
        return Found(winners, potential)

    def _tell(self, found: Found, part: slice) -> None:
        """Let the device know who won in some presentations."""
        winners = found.winners.copy()
        if self._lesson.positions is not None:
            winners[:, :, 1:3] -= _places(self._lesson.positions[part], self._whole) * (winners[:, :, :1] >= 0)
        self._winners[part] = self._xp.asarray(winners)
        self._at_spike[part] = self._xp.asarray(found.potential)

    def _over(self, start: int, stop: int, *, find: bool, change: bool) -> None:
        """Go through presentations; where the device has not enough memory, through one half and then the other.

        A mini-batch that is split has all its winners found before it changes anything.
        """
        n, batch = stop - start, self._lesson.batch
        if n == 0:
            return
        try:
            self._launch(self._piece(start, stop), find, change)
            return
        except MemoryError as error:
            if n == 1:
                sample = int(self._order[start])
                raise MemoryError(too_large(self._events[sample : sample + 1], self._whole)) from error
        # Here the error is gone, and with it the arrays of what failed.
        middle = start + (max(n // 2 // batch, 1) * batch if find and change and n > batch else n // 2)
        whole = find and change and n <= batch
        for phases in [(True, False), (False, True)] if whole else [(find, change)]:
            for first, last in ((start, middle), (middle, stop)):
                self._over(first, last, find=phases[0], change=phases[1])

    def _launch(self, piece: Piece, find: bool, change: bool) -> None:
        """Find winners, or let them change the layer, or both, in the order of mini-batches."""
        device, n = self._device, len(piece.batch.events)
        told, maps = (piece.lesson, piece.contest), int(self._sizes["maps"][0])
        if find and change and self._online:
            self._launch_online(piece, n)
        else:
            step = self._lesson.batch if find and change else n
            for first in range(0, n, step):
                last = min(first + step, n)
                if find:
                    args, threads = (*told, np.int64(first)), self._most_threads
                    device.launch("find_winners", last - first, *args, shared=CANDIDATE, threads=threads)
                if change:
                    device.launch("apply_winners", maps, *told, piece.rule, np.int64(first), np.int64(last))
        if change:
            self._finish()

    def _launch_online(self, piece: Piece, n: int) -> None:
        """Launch once for all presentations: one block, or several where each of its threads had more than one item."""
        device, xp = self._device, self._xp
        items = positions_of(self._sizes) * int(self._sizes["padded"][0]) // WIDTH
        blocks, threads = min(-(-items // device.threads), device.processors), device.threads
        if items <= self._most_threads or blocks == 1:
            blocks, threads = 1, self._most_threads
        arrived, job = xp.zeros(1, np.uint64), xp.zeros(2, np.int64)
        args = (piece.lesson, piece.contest, piece.rule, structure(_TEAM, arrived, job), np.int64(n))
        device.launch("learn_online", blocks, *args, shared=CANDIDATE, threads=threads, together=blocks > 1)

    @property
    def _most_threads(self) -> int:
        return min(4 * self._device.threads, _MOST_THREADS)

    def _finish(self) -> None:
        """Write thresholds back, and raise what a rule of the user's failed with."""
        threshold, update = self._lesson.neurons.threshold, self._lesson.update
        if update.thresholds is not None:
            limit = self._xp.asnumpy(self._limit)[: len(threshold)]
            threshold[:] = np.where(np.isfinite(limit), limit, threshold)
        if update.function is None:
            return
        failed = self._xp.asnumpy(self._failed) != _NOBODY
        if failed.any():
            asked = min(self._xp.asnumpy(self._asked)[failed].tolist())[2:]  # of the first presentation and winner
            checked_weight(with_all_arguments(update.function, asks_for(update.function)), *asked)
            raise RuntimeError(f"the rule {update.function.__name__} failed on the GPU, for (w, dt, ...) = {asked}")

    def _find_by_user(self, part: slice) -> None:
        """Let the user's competition choose, on the host, among the spikes of some presentations."""
        backend, lesson, update = self._backend, self._lesson, self._lesson.update
        gathered = self._gather(self._whole, self._order[part], None)
        spikes = backend.conv(gathered, self._packed, lesson.neurons)
        if update.active is not None:
            spikes = backend.select(spikes, update.active)
        if update.pointwise:
            spikes = backend.pointwise(spikes)
        positions = None if lesson.positions is None else lesson.positions[part]
        found = Found(*(column[part] for column in self._found))
        done = replace(update, active=None, pointwise=False)
        labels = None if self._events.labels is None else self._xp.asnumpy(self._events.labels)[self._order[part]]
        compete(backend, _fetched(spikes, backend, labels), done, positions, found)
        self._tell(found, part)

    def _gather(self, sizes: np.ndarray, order: np.ndarray, positions: np.ndarray | None) -> Events:
        """Return the samples of ``order``, or of each the window of one output position, as one batch."""
        xp, device, events, n = self._xp, self._device, self._events, len(order)
        columns = (events.time, events.channel, events.y, events.x, events.offsets, None)
        samples, at = xp.asarray(order), None if positions is None else xp.asarray(positions)
        told, counts = (self._whole, structure(SPIKES, *columns), samples, at), xp.zeros(n + 1, np.int64)
        device.launch("count_presented", n, *told, counts, shared=4)
        starts = xp.cumsum(counts)
        total = device.last(starts)
        gathered = {name: xp.empty(total, np.uint16) for name in ("channel", "y", "x")}
        gathered = {"time": xp.empty(total, np.int64)} | gathered
        device.launch("gather_presented", n, *told, starts, structure(COLUMNS, *gathered.values(), None), shared=4)
        shape = tuple(int(sizes[name][0]) for name in ("channels", "height", "width"))
        return Events.unchecked(**gathered, offsets=starts, shape=shape, duration=events.duration, unit=events.unit)

    def _piece(self, start: int, stop: int) -> Piece:
        """Prepare presentations, and allocate all that learning from them takes."""
        lesson, xp, part = self._lesson, self._xp, slice(start, stop)
        positions = None if lesson.positions is None else lesson.positions[part]
        batch = self._backend._batch(self._gather(self._sizes, self._order[part], positions))
        fields = self._backend._fields(self._sizes, batch, self._leak)
        layer = structure(LAYER, *fields, self._packed.rows, self._limit, self._quiet)
        contest, scratch = self._contest(batch, fields, part)
        order = xp.asarray(self._order[part])
        arrays = (*self._given, self._events.labels if self._classes is not None else None, order, self._classes)
        changed = (self._packed.rows, self._limit, self._decides, self._failed, self._asked)
        rule = structure(_RULE, *arrays, *changed, *self._numbers)
        last_time = self._events.duration - 1
        told = structure(_LESSON, self._sizes, batch.spikes, tables_of(self._leak), layer, last_time)
        return Piece(batch, told, contest, rule, (fields, scratch, order))

    def _contest(self, batch: Batch, fields: Any, part: slice) -> tuple[np.ndarray, tuple[Any, ...]]:
        """Return the C structure of a competition, and the arrays that it points to."""
        xp, update, neurons, sizes = self._xp, self._lesson.update, self._lesson.neurons, self._sizes
        n, positions = len(batch.events), positions_of(sizes)
        most = int(np.diff(xp.asnumpy(batch.events.offsets)).max())
        round_ = min(max(ROUND, -(-most // _MOST_ROUNDS)), _LARGEST_ROUND)
        rounds, cuts = 1, None
        if not neurons.at_end:
            rounds = -(-most // round_)
            cuts = xp.empty((n * positions, rounds + 1), np.int32)
            args = (fields.starts, fields.spikes, np.int64(n * positions), np.int32(rounds), np.int32(round_), cuts)
            self._device.for_each("cut_rounds", n * positions * (rounds + 1), sizes, batch.spikes, *args)
        blocks = 1 if self._online else min(n, self._lesson.batch)
        cells = (blocks, positions, int(sizes["padded"][0]))
        scratch = (
            cuts,
            xp.empty((blocks, positions), np.uint64),
            None if update.pointwise else xp.empty((*cells, CANDIDATE), np.uint8),
            xp.empty(cells, np.float32),
            xp.empty(blocks, np.int32),
            xp.empty((blocks, positions), np.uint8),
            xp.empty((blocks, int(sizes["maps"][0])), np.uint8),
            self._winners[part],
            self._at_spike[part],
        )
        how = (update.k, update.radius, int(update.pointwise), rounds, round_)
        return structure(_CONTEST, *scratch, *how, int(neurons.leak is not None), int(neurons.at_end)), scratch


def _limit_of(lesson: Lesson) -> np.ndarray:
    limit, active = limits_of(lesson.neurons), lesson.update.active
    if active is not None:
        limit[: len(active)][~active] = np.inf
    return limit


def _rule_arrays(update: Update, punish: Update) -> list[np.ndarray]:
    """Return rates (2, maps) and the tables of the exponentials."""
    leak = None if update.tau is None else LeakTable(update.tau)
    nothing = np.zeros(1, np.float32)
    tables = (nothing, nothing) if leak is None else (leak.coarse, leak.fine)
    pairs = (update, punish)
    scale = ScaleTable(update.beta).values if "multiplicative" in [u.dependence for u in pairs] else nothing
    return [np.stack([u.plus for u in pairs]), np.stack([u.minus for u in pairs]), *tables, scale]


def _rule_numbers(update: Update, punish: Update, limit: np.ndarray, duration: int) -> list[float]:
    """Return what follows the pointers in the C structure of a rule."""
    leak, pairs, adaptation = None if update.tau is None else LeakTable(update.tau), (update, punish), update.thresholds
    sizes = [0, 0] if leak is None else [len(leak.coarse), len(leak.fine)]
    kinds = [DEPENDENCES.index(u.dependence) for u in pairs]
    bounds = [float(np.float32(value)) for value in (*(u.lower for u in pairs), *(u.upper for u in pairs))]
    levels = [-1.0, 0.0, 0.0, 0.0]
    if adaptation is not None:
        share = adaptation.share(int(np.isfinite(limit).sum()))
        levels = [adaptation.rate, adaptation.target, float(share), adaptation.floor]
    return [*sizes, int(update.function is not None), *kinds, *bounds, *levels, float(duration)]


def _places(positions: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return (y, x) of output positions, shape (n, 1, 2)."""
    width = int(sizes["ow"][0])
    return np.stack([positions // width, positions % width], axis=1)[:, None]


def _fetched(events: Events, backend: CudaBackend, labels: np.ndarray | None) -> Events:
    names = ("time", "channel", "y", "x", "offsets", "potential")
    return replace_fields(events, **{name: backend.fetch(getattr(events, name)) for name in names}, labels=labels)
