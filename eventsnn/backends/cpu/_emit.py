"""Output columns, and sorting a sample's spikes into canonical order."""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable

import numpy as np

from eventsnn.events import Events, Shape
from eventsnn.jit import inner
from eventsnn.memory import empty, kept

#: a spike's key is ``rank of time << bits | map << position_bits | position``; ``y``, ``x`` of each position
Sites = namedtuple("Sites", "position_bits bits y x")
#: keys and potentials of one sample's spikes before sorting, and room to sort them
Pending = namedtuple("Pending", "key potential key2 potential2 digits")
#: columns of the result, longer than what is used
Output = namedtuple("Output", "time channel y x potential")
_BITS = 12  # of the largest digit to sort by
_EXPECTED = 1 << 18  # spikes that a task's first output has room for


def make_pending(capacity):
    """Allocate room for the spikes of one sample."""
    return Pending(
        np.empty(capacity, np.int64),
        np.empty(capacity, np.float32),
        np.empty(capacity, np.int64),
        np.empty(capacity, np.float32),
        np.empty(1 << _BITS, np.int64),
    )


def make_output(capacity):
    """Allocate result columns."""
    kinds = (np.int64, np.uint16, np.uint16, np.uint16, np.float32)
    return Output(*(empty(capacity, kind) for kind in kinds))


def collected(
    run: Callable[[int, Output, np.ndarray], int], events: Events, shape: Shape, with_potential: bool
) -> Events:
    """Call ``run(sample, output, counts)``, which returns the next sample, until there is none; return its spikes.

    ``counts[s]`` becomes the number of spikes of sample ``s``. The first output is for a few samples, and memory that
    is used again; the next one is for as many spikes as the samples so far let expect.
    """
    samples, most = len(events), math.prod(shape)
    offsets = np.zeros(samples + 1, np.int64)
    counts, room = offsets[1:], max(most, min(_EXPECTED, most * samples))
    output = first = kept(("output", room), lambda: make_output(room))
    s = run(0, output, counts)
    while s < samples:
        used = int(counts[:s].sum())
        output = _larger(output, used, max(used + most, int(used / s * samples * 1.1)))
        s = run(s, Output(*(column[used:] for column in output)), counts)
    np.cumsum(counts, out=counts)
    used = int(offsets[-1])
    copy = output is first or 2 * used < len(output.time)  # a few spikes must not keep the memory of many
    columns = output if with_potential else output[:-1]
    return Events.unchecked(
        **{n: c[:used].copy() if copy else c[:used] for n, c in zip(Output._fields, columns, strict=False)},
        offsets=offsets,
        shape=shape,
        duration=events.duration,
        unit=events.unit,
        labels=events.labels,
    )


def _larger(output: Output, used: int, room: int) -> Output:
    """Return columns with room for so many spikes, of which the first ones are those of the output."""
    larger = make_output(room)
    for column, before in zip(larger, output, strict=True):
        column[:used] = before[:used]
    return larger


@inner
def _pass(key, potential, key2, potential2, digits, n, shift, width):
    """Sort stably by the digit of ``width`` bits from ``shift`` on, from the first pair of arrays into the second."""
    last = (1 << width) - 1
    for d in range(last + 1):
        digits[d] = 0
    for i in range(n):
        digits[(key[i] >> shift) & last] += 1
    total = np.int64(0)
    for d in range(last + 1):
        count = digits[d]
        digits[d] = total
        total += count
    for i in range(n):
        d = (key[i] >> shift) & last
        j = digits[d]
        digits[d] = j + 1
        key2[j] = key[i]
        potential2[j] = potential[i]


@inner
def sort(pending, n, low, high):
    """Return the keys, ordered stably by their bits from ``low`` up to ``high``, with their potentials."""
    key, potential, key2, potential2 = pending.key, pending.potential, pending.key2, pending.potential2
    passes = (high - low + _BITS - 1) // _BITS if high > low else 1
    width = (high - low + passes - 1) // passes
    for i in range(passes):
        _pass(key, potential, key2, potential2, pending.digits, n, low + i * width, width)
        key, key2 = key2, key
        potential, potential2 = potential2, potential
    return key, potential


def make_sites(maps, height, width):
    """Return how keys of a grid are built and taken apart."""
    y, x = np.divmod(np.arange(height * width), width)
    position_bits = (height * width - 1).bit_length()
    bits = position_bits + (maps - 1).bit_length()
    return Sites(position_bits, bits, y.astype(np.uint16), x.astype(np.uint16))


@inner
def emit(pending, n, times, n_times, sites, output, at):
    """Sort a sample's pending spikes and write them to the output from ``at`` on.

    Those of one time and map are pending in the order of their positions already.
    """
    high = sites.bits
    while (n_times - 1) >> (high - sites.bits) > 0:
        high += 1
    key, potential = sort(pending, n, sites.position_bits, high)
    for i in range(n):
        site = key[i] & ((1 << sites.bits) - 1)
        position = site & ((1 << sites.position_bits) - 1)
        output.time[at + i] = times[key[i] >> sites.bits]
        output.channel[at + i] = site >> sites.position_bits
        output.y[at + i] = sites.y[position]
        output.x[at + i] = sites.x[position]
        output.potential[at + i] = potential[i]
