"""One call of ``learn``: arguments made ready for the kernel, online or in mini-batches."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from eventsnn.backends import LeakTable, Lesson, Update
from eventsnn.backends.changes import checked_weight
from eventsnn.backends.competition import Found, compete, nobody
from eventsnn.backends.cpu._bounds import Tables, hold_for, make_slots, make_tables
from eventsnn.backends.cpu._change import Levels, Rates
from eventsnn.backends.cpu._conv import Cells
from eventsnn.backends.cpu._decide import decide_samples
from eventsnn.backends.cpu._fields import Windows, make_fields, make_times
from eventsnn.backends.cpu._learn import Contest, Plan, Result, learn_samples, make_candidates, make_state
from eventsnn.backends.cpu._simd import LANES
from eventsnn.backends.updates import DEPENDENCES, ScaleTable, asks_for, with_all_arguments
from eventsnn.events import Events

if TYPE_CHECKING:
    from eventsnn.backends.cpu import CpuBackend, Packed, Prepared

Scratch = tuple[Windows, Any]  # what one thread writes to: windows, and the rest

_WORTH_TABLES = 32  # presentations; for fewer, making tables of deficits takes longer than doing without
_WORTH_THREADS = 8  # presentations; handing fewer to threads takes longer than finding their winners
_NOTHING = np.empty(0, np.float32)


class Learning:
    """Presentations of samples to one layer."""

    def __init__(
        self, backend: CpuBackend, events: Events, order: np.ndarray, packed: Packed, lesson: Lesson, layer: Prepared
    ) -> None:
        update, reward = lesson.update, lesson.reward
        self._backend, self._events, self._order, self._packed, self._lesson = backend, events, order, packed, lesson
        self._layer = layer
        self._rates = _rates([update, update if reward is None else reward.punish], update, packed)
        self._levels = _levels(update, events.duration, layer.cells)
        self._contest = Contest(update.k, update.radius, update.pointwise)
        self._bound = float(max(packed.blocks.max(), self._rates.upper.max()))  # no weight is ever larger
        self._found = nobody(len(order), update.k)
        self._failed = np.zeros(4)
        self._tables: Tables | None = None

    def run(self) -> np.ndarray:
        """Present everything; return the winners."""
        n, batch, choose = len(self._order), self._lesson.batch, self._lesson.update.choose
        online = batch == 1 and choose is None
        start = self._until_tables() if self._may_decide() else 0
        scratch = self._scratch()
        try:
            if online:
                self._call(start, n, scratch, find=True, change=True)
                return self._found.winners
            with ThreadPoolExecutor(self._backend.threads) as pool:
                find = self._find_by_user if choose is not None else self._finder(pool, scratch)
                for first in range(start, n, batch):
                    stop = min(first + batch, n)
                    find(first, stop)
                    self._call(first, stop, scratch, find=False, change=True)
            return self._found.winners
        finally:
            self._put_back()

    def find(self) -> Found:
        """Return who wins in each presentation with the weights as they are."""
        n = len(self._order)
        if self._lesson.update.choose is not None:
            self._find_by_user(0, n)
            return self._found
        with ThreadPoolExecutor(self._backend.threads) as pool:
            self._finder(pool, self._scratch())(0, n)
        return self._found

    def change(self, found: Found) -> None:
        """Change weights and thresholds as the winners of each presentation say, in order."""
        self._found = Found(*(np.ascontiguousarray(column) for column in found))
        self._call(0, len(self._order), self._scratch(), find=False, change=True)

    def _may_decide(self) -> bool:
        """Tell whether ``decide_samples`` can do this lesson as soon as all weights lie within the rule's bounds."""
        lesson, cells, rates = self._lesson, self._layer.cells, self._rates
        alone = self._contest.k == 1 and lesson.update.choose is None and lesson.positions is None
        same = len(set(rates.lower.tolist())) == len(set(rates.upper.tolist())) == 1
        if not (cells.at_end and len(cells.fine) == 0 and alone and same and len(self._order) >= _WORTH_TABLES):
            return False
        return hold_for(self._events.offsets, self._order, float(rates.lower[0]), float(rates.upper[0]))

    def _until_tables(self) -> int:
        """Present samples until all weights lie within the rule's bounds, and make tables; return how many."""
        n, batch = len(self._order), self._lesson.batch
        start, scratch = 0, None
        while not self._make_tables() and start < n:
            scratch = scratch or self._scratch()
            stop = start
            while stop < n and (stop == start or self._found.winners[start:stop, 0, 0].max() < 0):
                start, stop = stop, min(stop + batch, n)
                self._call(start, stop, scratch, find=True, change=False)
                self._call(start, stop, scratch, find=False, change=True)
            start = stop
        return start

    def _make_tables(self) -> bool:
        """Make tables of deficits if all weights lie within the rule's bounds; return whether they do."""
        lower, upper = self._rates.lower[0], self._rates.upper[0]
        weights = self._backend.unpack(self._packed).reshape(self._layer.sizes.maps, -1)
        if weights.min() < lower or weights.max() > upper:
            return False
        spikes = self._events.n_events / len(self._events)
        self._tables = make_tables(weights, self._layer.cells.limit, float(lower), float(upper), spikes)
        self._call(0, 0, self._scratch(), find=False, change=True)
        return True

    def _put_back(self) -> None:
        """Let the packed weights be those of the tables."""
        if self._tables is not None:
            weights = self._tables.weights.reshape(self._packed.shape)
            self._packed.blocks[:] = self._backend.pack(weights).blocks
            self._packed.forget()

    def _finder(self, pool: ThreadPoolExecutor, scratch: Scratch) -> Callable[[int, int], None]:
        """Return a function that finds the winners of a range of presentations, shared out among threads."""
        scratches = [scratch, *(self._scratch() for _ in range(self._backend.threads - 1))]

        def find(start: int, stop: int) -> None:
            if stop - start < _WORTH_THREADS:
                self._call(start, stop, scratch, find=True, change=False)
                return
            bounds = np.linspace(start, stop, len(scratches) + 1).astype(int).tolist()
            jobs = [(*bound, own) for bound, own in zip(pairwise(bounds), scratches, strict=True)]
            list(pool.map(lambda job: self._call(*job, find=True, change=False), jobs))

        return find

    def _find_by_user(self, start: int, stop: int) -> None:
        lesson, part = self._lesson, slice(start, stop)
        spikes = self._backend.conv(self._events[self._order[part]], self._packed, lesson.neurons)
        positions = None if lesson.positions is None else lesson.positions[part]
        compete(self._backend, spikes, lesson.update, positions, Found(*(column[part] for column in self._found)))

    def _call(self, start: int, stop: int, scratch: Scratch, *, find: bool, change: bool) -> None:
        events, lesson, layer, part = self._events, self._lesson, self._layer, slice(start, stop)
        nobody = np.empty(0, np.int64)
        positions = nobody if lesson.positions is None else lesson.positions[part]
        windows, rest = scratch
        if change:
            self._packed.forget()
        result = Result(self._found.winners[part], self._found.potential[part], self._failed)
        plan = Plan(self._order[part], positions, find, change)
        labels = nobody if events.labels is None else events.labels
        classes = nobody if lesson.reward is None else lesson.reward.classes
        if self._tables is not None:
            status = decide_samples(
                layer.columns, events.offsets, plan, labels, classes, self._tables, False, layer.sizes, windows,
                layer.cells.end, self._rates, rest, result, nobody,
            )  # fmt: skip
        else:
            status = learn_samples(
                layer.columns, events.offsets, plan, labels, classes, self._packed.blocks.ravel(), self._bound,
                layer.sizes, windows, layer.cells, self._contest, self._rates, self._levels, rest, result,
            )  # fmt: skip
        if change and lesson.update.thresholds is not None:
            _write_back(layer.cells, lesson.neurons.threshold)
        if status != 0:
            self._raise()

    def _raise(self) -> None:
        """Call a user's rule as it failed in the kernel, so that its own error comes up."""
        function = self._lesson.update.function
        assert function is not None
        checked_weight(with_all_arguments(function, asks_for(function)), *self._failed.tolist())
        raise RuntimeError(f"the rule {function.__name__} failed when compiled, for (w, dt, ...) = {self._failed}")

    def _scratch(self) -> Scratch:
        """Allocate what one thread writes to."""
        sizes, contest, layer, order = self._layer.sizes, self._contest, self._layer, self._order
        positions, maps = sizes.oh * sizes.ow, sizes.blocks * LANES
        windows = Windows(*(column.copy() for column in layer.windows))
        fields = make_fields(sizes, layer.windows, self._events.offsets, order)
        times = make_times(self._events.offsets, order)
        rows = sizes.block // LANES
        deciding, heard = np.empty(rows, np.int64), np.empty(len(times), np.int32)
        old, new = np.empty(rows, np.float32), np.empty(rows, np.float32)
        if self._tables is not None:
            return windows, (make_slots(sizes, fields, len(times)), deciding, heard, old)
        crowd = positions if contest.pointwise else positions * maps
        state, candidates = make_state(positions, sizes.blocks, maps), make_candidates(crowd)
        run = (fields, state, candidates)
        return windows, (run, deciding, np.empty(contest.k, np.int64), heard, old, new)


def _rates(pairs: list[Update], update: Update, packed: Packed) -> Rates:
    leak = None if update.tau is None else LeakTable(update.tau)
    address = 0
    if update.function is not None:
        from eventsnn.backends.cpu._user import compile_rule

        address = compile_rule(update.function).address
    return Rates(
        np.stack([u.plus for u in pairs]),
        np.stack([u.minus for u in pairs]),
        np.array([u.lower for u in pairs], np.float32),
        np.array([u.upper for u in pairs], np.float32),
        np.array([DEPENDENCES.index(u.dependence) for u in pairs], np.int64),
        _NOTHING if leak is None else leak.coarse,
        _NOTHING if leak is None else leak.fine,
        ScaleTable(update.beta).values,
        address,
    )


def _levels(update: Update, duration: int, cells: Cells) -> Levels:
    adaptation = update.thresholds
    if adaptation is None:
        return Levels(*(np.float32(v) for v in (-1, 0, 0, 0, 1)))
    share = adaptation.share(int(np.isfinite(cells.limit).sum()))
    return Levels(np.float32(adaptation.rate), np.float32(adaptation.target), share, np.float32(adaptation.floor),
                  np.float32(duration))  # fmt: skip


def _write_back(cells: Cells, threshold: np.ndarray) -> None:
    limit = cells.limit[: len(threshold)]
    threshold[:] = np.where(np.isfinite(limit), limit, threshold)
