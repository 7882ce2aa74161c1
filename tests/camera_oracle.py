"""What filters, cuts and latency rules of cameras mean, event by event in plain Python, and strategies to draw them.

Events are tuples ``(t, x, y, p)``; a grid is ``(channels, height, width)``. Nothing of the package computes here.
"""

import math
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

from eventsnn import encode as en

WIDTH, HEIGHT = 7, 5


def forward(events):
    """Let no time fall."""
    found, latest = [], None
    for t, *rest in events:
        latest = t if latest is None else max(t, latest)
        found.append((latest, *rest))
    return found


def refractory(events, stage):
    """Return which events stay."""
    kept, last = [], {}
    for i, (t, x, y, _) in enumerate(events):
        if (x, y) not in last or t - last[x, y] >= stage.us:
            last[x, y] = t
            kept.append(i)
    return kept


def background(events, stage):
    """Return which events stay."""

    def near(a, b):
        return a[1:3] != b[1:3] and max(abs(a[1] - b[1]), abs(a[2] - b[2])) <= stage.radius

    return [i for i, e in enumerate(events) if any(near(e, f) and e[0] - f[0] <= stage.us for f in events[:i])]


def polarity(event, stage):
    wanted = {"merged": (0, 1), "on": (1,), "off": (0,)}[stage.which]
    return (*event[:3], 0) if event[3] in wanted else None


def crop(event, stage):
    t, x, y, p = event
    inside = stage.x <= x < stage.x + stage.width and stage.y <= y < stage.y + stage.height
    return (t, x - stage.x, y - stage.y, p) if inside else None


def downsample(event, stage):
    t, x, y, p = event
    return (t, x // stage.factor, y // stage.factor, p)


TOGETHER = {
    en.Refractory: refractory,
    en.BackgroundActivity: background,
    en.HotPixels: lambda events, stage: [i for i, e in enumerate(events) if e[1:3] not in stage.pixels],
}
ONE_BY_ONE = {en.Crop: crop, en.Downsample: downsample, en.Polarity: polarity}


def filtered(events, filters):
    """Return ``(number in the recording, event)`` for each event that is left."""
    numbered = list(enumerate(forward(events)))
    for stage in filters:
        if type(stage) in TOGETHER:
            numbered = [numbered[i] for i in TOGETHER[type(stage)]([e for _, e in numbered], stage)]
        else:
            changed = [(n, ONE_BY_ONE[type(stage)](e, stage)) for n, e in numbered]
            numbered = [(n, e) for n, e in changed if e is not None]
    return numbered


def windows(events, filters, cut):
    """Return ``(start, length, label, events)`` of each sample."""
    raw, kept = forward(events), filtered(events, filters)
    if isinstance(cut, en.ByCount):
        return _by_count(kept, cut)
    if isinstance(cut, en.ByTable) and cut.unit == "index":
        rows = zip(cut.starts, cut.ends, cut.labels or [None] * len(cut.starts), strict=True)
        return [_of_index([e for n, e in kept if a <= n < b], label) for a, b, label in rows]
    return [(a, max(b - a, 1), label, [e for _, e in kept if a <= e[0] < b]) for a, b, label in _time_bounds(raw, cut)]


def _time_bounds(raw, cut):
    first, last = (raw[0][0], raw[-1][0]) if raw else (0, 0)
    if isinstance(cut, en.ByTable):
        return list(zip(cut.starts, cut.ends, cut.labels or [None] * len(cut.starts), strict=True))
    if isinstance(cut, en.Whole):
        return [(first, last + 1 if cut.duration is None else first + cut.duration, None)]
    found, start = [], first if cut.origin is None else cut.origin
    while raw and start <= last:
        if cut.incomplete or start + cut.length <= last:
            found.append((start, start + cut.length, None))
        start += cut.step or cut.length
    return found


def _by_count(kept, cut):
    found, k = [], 0
    while k < len(kept):
        part = [e for _, e in kept[k : k + cut.n]]
        if cut.incomplete or len(part) == cut.n:
            found.append(_of_index(part, None))
        k += cut.step or cut.n
    return found


def _of_index(part, label):
    start = part[0][0] if part else 0
    return (start, part[-1][0] - start + 1 if part else 1, label, part)


def spikes(window, latency, shape):
    """Return the spikes ``(time, channel, y, x)`` of a sample, in canonical order."""
    start, length, _, events = window
    if isinstance(latency, en.FirstSpike):
        seen, first = set(), []
        for e in events:
            if e[1:] not in seen:
                first.append(e)
            seen.add(e[1:])
        events = first
    if isinstance(latency, en.FirstSpike | en.EveryEvent):
        bins = latency.bins
        when = (lambda t: t - start) if bins is None else (lambda t: math.floor(Fraction((t - start) * bins, length)))
        return sorted((when(t), p, y, x) for t, x, y, p in events)
    return _ranked(_intensities(start, length, events, latency), latency.rule, shape)


def _intensities(start, length, events, latency):
    found = {}
    for t, x, y, p in events:
        found.setdefault((p, y, x), []).append(t)
    if isinstance(latency, en.TimeSurface):
        last = start + length - 1
        surface = {site: np.float32(math.exp((max(times) - last) / latency.tau)) for site, times in found.items()}
        return {site: value for site, value in surface.items() if value > 0}
    most = latency.saturation or max((len(times) for times in found.values()), default=1)
    return {site: np.float32(min(len(times), most)) / np.float32(most) for site, times in found.items()}


def _ranked(intensities, rule, shape):
    """Return when sites fire, the largest intensity first, equal ones by site."""
    order = sorted(intensities, key=lambda site: (-intensities[site], site))
    if isinstance(rule, en.Rank):
        return sorted((i, *site) for i, site in enumerate(order))
    if isinstance(rule, en.Linear):
        when = {site: min(int((1.0 - float(value)) * rule.bins), rule.bins - 1) for site, value in intensities.items()}
        return sorted((when[site], *site) for site in order)
    size = max(1, len(order) // rule.bins)
    return sorted((i // size, *site) for i, site in enumerate(order) if i // size < rule.bins)


# What may be drawn

steps = st.one_of(st.integers(0, 3), st.integers(-4, 30), st.sampled_from([0, 0, 1000, 9000]))


@st.composite
def recordings(draw, most=40):
    """Draw events whose times run, with ties, gaps and small steps backward."""
    place = st.tuples(st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1), st.integers(0, 1))
    t, events = draw(st.sampled_from([0, -50, 3_000_000_000])), []
    for dt, where in draw(st.lists(st.tuples(steps, place), max_size=most)):
        t += dt
        events.append((t, *where))
    return events


pixels = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=3).map(tuple)
keeping = st.one_of(
    st.builds(en.Refractory, st.integers(1, 40)),
    st.builds(en.BackgroundActivity, st.integers(0, 40), st.integers(1, 2)),
    st.builds(en.HotPixels, pixels),
)
places = st.one_of(
    st.just(en.Crop(1, 0, 4, 5)), st.just(en.Crop(2, 2, 3, 3)), st.builds(en.Downsample, st.integers(1, 2))
)
polarities = st.builds(en.Polarity, st.sampled_from(["merged", "on", "off"]))


@st.composite
def filters(draw):
    """Draw filters that fit on each other: at most one of those that change the grid, anywhere."""
    chosen = draw(st.lists(keeping, max_size=3))
    for one in (places, polarities):
        if draw(st.booleans()):
            chosen.insert(draw(st.integers(0, len(chosen))), draw(one))
    return tuple(chosen)


@st.composite
def tables(draw, unit):
    """Draw a table whose starts never fall."""
    rows = draw(st.lists(st.tuples(st.integers(-60, 200), st.integers(0, 80), st.integers(0, 2)), max_size=4))
    rows.sort()
    labels = [row[2] for row in rows] if draw(st.booleans()) else None
    return en.ByTable([a for a, _, _ in rows], [a + n for a, n, _ in rows], labels, unit)


maybe = st.none() | st.integers(1, 60)
cuts = st.one_of(
    st.builds(en.Whole, maybe),
    st.builds(en.ByTime, st.integers(5, 60), st.none() | st.integers(5, 90), st.none(), st.booleans()),
    st.builds(en.ByCount, st.integers(1, 15), st.none() | st.integers(1, 20), st.booleans()),
    tables("us"),
    tables("index"),
)


@st.composite
def latencies(draw, cut):
    """Draw a rule that goes with a cut."""
    known = st.none() if cut.length is not None else st.nothing()
    bins = known | st.integers(1, 20)
    rule = st.one_of(
        st.builds(en.EqualBins, st.integers(1, 5)), st.builds(en.Linear, st.integers(1, 9)), st.just(en.Rank())
    )
    return draw(
        st.one_of(
            st.builds(en.EveryEvent, bins),
            st.builds(en.FirstSpike, bins),
            st.builds(en.TimeSurface, st.sampled_from([0.5, 20.0, 1e5]), rule),
            st.builds(en.EventCount, rule, st.none() | st.integers(1, 4)),
        )
    )


@st.composite
def encoders(draw):
    """Draw an encoder."""
    cut = draw(cuts)
    return en.CameraEncoder(cut, draw(latencies(cut)), draw(filters()))
