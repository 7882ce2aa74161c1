"""Receptive fields of whole samples: vectors of spikes are sifted tile by tile, row by row and place by place."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from eventsnn.backends.cpu._sieve import find_able, is_useful
from eventsnn.jit import inner

_WIDTH = 8  # spikes looked at together
_I64 = ir.IntType(64)
_I32 = ir.IntType(32)
_END = int(np.iinfo(np.int32).max)  # a place that nobody sees
#: for each mask of lanes first those that are in it, in order
_ORDERS = [sorted(range(_WIDTH), key=lambda lane, mask=mask: not mask >> lane & 1) for mask in range(1 << _WIDTH)]
_TILE = 8  # most outputs along a side of a tile

#: a list of spikes: coordinates and ``rank of time << bits | row``; all have room for a vector more
Spikes = namedtuple("Spikes", "y x entry")
#: position ``p`` owns ``entries[start[p]:end[p]]``, none where it is found not ``able`` to fire; ``spikes`` are a
#: sample's, those of a band, a tile and a row
Lists = namedtuple("Lists", "able start end entries spikes band tile row")


def make_lists(sizes, windows, most):
    """Allocate lists for samples of at most ``most`` spikes."""
    seen = int((windows.y_high - windows.y_low).max() * (windows.x_high - windows.x_low).max())
    positions = sizes.oh * sizes.ow
    spikes = [Spikes(*(np.empty(most + _WIDTH, np.int32) for _ in range(3))) for _ in range(4)]
    ends = np.zeros(positions, np.int64), np.zeros(positions, np.int64)
    return Lists(np.zeros(positions, np.bool_), *ends, np.empty(most * seen + _WIDTH, np.int32), *spikes)


@intrinsic
def sift(typingctx, key, n, low, size, source, target, at, less):
    """Copy what lies in ``low:low + size``, of ``n`` spikes, to ``target`` from ``at`` on; return where it ends.

    ``key`` are their coordinates, ``source`` and ``target`` tuples of as many arrays, of which the last are entries:
    these become ``entry - less``. What a vector takes beyond the end is never seen.
    """
    i64 = types.int64
    signature = i64(key, i64, i64, i64, source, target, i64, i64)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = _Lanes(context, builder)
        keys = context.make_array(sig.args[0])(context, builder, args[0]).data
        sources, targets = (_arrays(context, builder, sig.args[i], args[i]) for i in (4, 5))
        low, size, less = (lanes.splat(builder.trunc(args[i], _I32)) for i in (2, 3, 7))
        at = cgutils.alloca_once_value(builder, args[6])
        with cgutils.for_range_slice(builder, ir.Constant(_I64, 0), args[1], ir.Constant(_I64, lanes.width)) as (i, _):
            seen = builder.icmp_unsigned("<", builder.sub(lanes.load(keys, i), low), size)
            end = builder.load(at)
            for k, (data, to) in enumerate(zip(sources, targets, strict=True)):
                values = lanes.load(data, i)
                if k == len(sources) - 1:
                    values = builder.sub(values, less)
                lanes.store(lanes.compress(values, seen), to, end)
            builder.store(builder.add(end, lanes.count(seen)), at)
        end = builder.load(at)
        for to in targets[:-1]:
            lanes.store(lanes.splat(ir.Constant(_I32, _END)), to, end)
        return end

    return signature, codegen


def _arrays(context: Any, builder: Any, kind: Any, value: Any) -> list[Any]:
    arrays = zip(kind, cgutils.unpack_tuple(builder, value), strict=True)
    return [context.make_array(k)(context, builder, a).data for k, a in arrays]


class _Lanes:
    """How many spikes are looked at together: a vector where the machine has AVX2, which can reorder it, else one."""

    def __init__(self, context: Any, builder: Any) -> None:
        self.builder = builder
        self.width = _WIDTH if "+avx2" in context.codegen().magic_tuple()[2] else 1
        self.kind = ir.VectorType(_I32, _WIDTH) if self.width > 1 else _I32

    def splat(self, value: Any) -> Any:
        """Return a value in all lanes."""
        if self.width == 1:
            return value
        none, first = ir.Constant(self.kind, ir.Undefined), ir.Constant(self.kind, [0] * _WIDTH)
        return self.builder.shuffle_vector(self.builder.insert_element(none, value, ir.Constant(_I32, 0)), none, first)

    def _place(self, data: Any, index: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(data, [index]), self.kind.as_pointer())

    def load(self, data: Any, index: Any) -> Any:
        """Return the values from an index on."""
        return self.builder.load(self._place(data, index), align=4)

    def store(self, values: Any, data: Any, index: Any) -> None:
        """Store values from an index on."""
        self.builder.store(values, self._place(data, index), align=4)

    def compress(self, values: Any, seen: Any) -> Any:
        """Return the values that are seen, in the first lanes."""
        if self.width == 1:
            return values
        mask = self.builder.zext(self.builder.bitcast(seen, ir.IntType(_WIDTH)), _I64)
        order = self.builder.load(self.builder.gep(self._table(), [ir.Constant(_I64, 0), mask]))
        kind = ir.FunctionType(self.kind, [self.kind, self.kind])
        permute = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.x86.avx2.permd")
        return self.builder.call(permute, [values, order])

    def _table(self) -> Any:
        """Return the table of ``_ORDERS``, one for the whole module."""
        module, name = self.builder.module, "eventsnn.orders"
        if name not in module.globals:
            kind = ir.ArrayType(self.kind, len(_ORDERS))
            table = ir.GlobalVariable(module, kind, name)
            table.linkage, table.global_constant = "linkonce_odr", True
            table.initializer = ir.Constant(kind, [ir.Constant(self.kind, order) for order in _ORDERS])
        return module.globals[name]

    def count(self, seen: Any) -> Any:
        """Return how many values are seen."""
        if self.width > 1:
            seen = self.builder.ctpop(self.builder.bitcast(seen, ir.IntType(_WIDTH)))
        return self.builder.zext(seen, _I64)


@inner
def _read(columns, begin, end, sizes, bits, spikes, sieved, marks, times):
    """Take a sample's spikes; fill ``times`` with its distinct times and return their number.

    If ``sieved``, spikes are marked in ``marks``; returned is also whether no input spikes twice.
    """
    group, twice, wide = np.int64(-1), np.int64(0), sizes.width + 2 * sizes.pw
    for i in range(np.uint64(len(marks) if sieved else 0)):
        marks[i] = 0
    for e in range(begin, end):
        if group < 0 or columns.time[e] != times[group]:
            group += 1
            times[group] = columns.time[e]
        y, x, i = np.int64(columns.y[e]) + sizes.ph, np.int64(columns.x[e]) + sizes.pw, np.uint64(e - begin)
        c = np.int64(columns.channel[e])
        spikes.y[i] = y
        spikes.x[i] = x
        spikes.entry[i] = (group << bits) + (c * sizes.kh + y) * sizes.kw + x
        if sieved:
            at, bit = np.uint64(y * wide + x), np.int64(1) << (c * sizes.kh + sizes.kh - 1)
            twice |= marks[at] & bit
            marks[at] |= bit
    for i in range(end - begin, end - begin + _WIDTH):
        spikes.y[i] = _END
    return group + 1, twice == 0


@inner
def _side(size):
    """Return into tiles of what side outputs are best divided, so that these are about equal."""
    tiles = (size + _TILE - 1) // _TILE
    return (size + tiles - 1) // tiles


@inner
def _list_tile(n, oy, oy_end, ox, ox_end, sizes, sieved, lists, total):
    """List the ``n`` spikes of a tile by position; return the number of entries so far."""
    tile, row, zero = lists.tile, lists.row, np.int64(0)
    for y in range(oy, oy_end):
        top = y * sizes.sh
        m = sift(tile.y, n, top, sizes.kh, (tile.x, tile.entry), (row.x, row.entry), zero, top * sizes.kw)
        for x in range(ox, ox_end):
            p, left = y * sizes.ow + x, x * sizes.sw
            lists.start[p] = total
            if not sieved or lists.able[p]:
                total = sift(row.x, m, left, sizes.kw, (row.entry,), (lists.entries,), total, left)
            lists.end[p] = total
    return total


@inner
def list_fields(columns, begin, end, sizes, bits, sieve, lists, times):
    """List a sample's spikes by position, as ``rank of time << bits | row``; return the number of distinct times.

    Lists of positions where surely nobody fires stay empty.
    """
    sieved = is_useful(end - begin, sizes, sieve)
    n_times, once = _read(columns, begin, end, sizes, bits, lists.spikes, sieved, sieve.marks, times)
    if sieved:
        find_able(once, sizes, sieve, lists.able)
    spikes, band, tile = lists.spikes, lists.band, lists.tile
    high, wide, zero = _side(sizes.oh), _side(sizes.ow), np.int64(0)
    total = zero
    for oy in range(0, sizes.oh, high):
        oy_end = oy + high if oy + high < sizes.oh else sizes.oh
        reach = (oy_end - oy - 1) * sizes.sh + sizes.kh
        n = sift(spikes.y, end - begin, oy * sizes.sh, reach, spikes, band, zero, zero)
        for ox in range(0, sizes.ow, wide):
            ox_end = ox + wide if ox + wide < sizes.ow else sizes.ow
            reach = (ox_end - ox - 1) * sizes.sw + sizes.kw
            m = sift(band.x, n, ox * sizes.sw, reach, band, tile, zero, zero)
            total = _list_tile(m, oy, oy_end, ox, ox_end, sizes, sieved, lists, total)
    return n_times
