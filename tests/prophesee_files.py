"""Small writers of Prophesee's formats, made from the description of their words, and a strategy of what to write.

What is written is a list of steps: ``("event", dt, x, y, p)``, ``("vector", dt, x, y, p, bits)`` with 32 bits from
column ``x`` on, or ``("word", kind)``, which is no event.
"""

from hypothesis import strategies as st

HIGH2, HIGH3 = 1 << 34, 1 << 24  # microseconds after which the times of EVT 2 and EVT 3 begin anew
TRIGGER, MONITORING, UNKNOWN = 0xA, 0xE, 0xC


def steps(longest=3_000_000):
    """Draw steps on a sensor of 1280x720 pixels; ``longest`` is the longest time between two, in microseconds."""
    time = st.one_of(st.integers(0, 3), st.integers(0, 5000), st.integers(0, longest))
    place = (st.integers(0, 1279), st.integers(0, 719), st.integers(0, 1))
    event = st.tuples(st.just("event"), time, *place)
    base = st.integers(0, 1279 - 31)
    vector = st.tuples(st.just("vector"), time, base, *place[1:], st.integers(0, 2**32 - 1))
    other = st.tuples(st.just("word"), st.sampled_from([TRIGGER, MONITORING, UNKNOWN]))
    return st.lists(st.one_of(event, vector, event, other), max_size=20)


def events_of(steps, start=0):
    """Return what a reader should find, as tuples (t, x, y, p)."""
    found, t = [], start
    for kind, *rest in steps:
        if kind == "word":
            continue
        dt, x, y, p, *bits = rest
        t += dt
        places = [i for i in range(32) if bits[0] >> i & 1] if bits else [0]
        found += [(t, x + i, y, p) for i in places]
    return found


def counts_of(steps):
    """Return how many triggers, words of the camera's state and unknown ones there are."""
    kinds = [step[1] for step in steps if step[0] == "word"]
    return tuple(kinds.count(kind) for kind in (TRIGGER, MONITORING, UNKNOWN))


def evt2(steps, start=0):
    """Return EVT 2.0 words as bytes; vectors become single events."""
    words, high, t = [], None, start
    for step in steps:
        if step[0] == "word":
            words.append(step[1] << 28)
            continue
        t += step[1]
        for _, x, y, p in events_of([step]):
            if t >> 6 != high:
                high = t >> 6
                words.append(8 << 28 | high % (1 << 28))
            words.append(p << 28 | t % 64 << 22 | x << 11 | y)
    return b"".join(word.to_bytes(4, "little") for word in words)


def evt21(steps, start=0, legacy=False):
    """Return EVT 2.1 words as bytes."""
    words, high, t = [], None, start
    for kind, *rest in steps:
        if kind == "word":
            words.append(rest[0] << 60 | 0xDEADBEEF)
            continue
        dt, x, y, p, *bits = rest
        t += dt
        if t >> 6 != high:
            high = t >> 6
            words.append((8 << 28 | high % (1 << 28)) << 32)
        words.append((p << 28 | t % 64 << 22 | x << 11 | y) << 32 | (bits[0] if bits else 1))
    if legacy:
        words = [word >> 32 | (word & 0xFFFFFFFF) << 32 for word in words]
    return b"".join(word.to_bytes(8, "little") for word in words)


def evt3(steps, start=0):
    """Return EVT 3.0 words as bytes; TIME_HIGH comes at least every 4 seconds, as every 16 us from a camera."""
    words, high, low, row, t = [], None, None, None, start
    for kind, *rest in steps:
        if kind == "word":
            words.append(rest[0] << 12 | 0x123)
            continue
        dt, x, y, p, *bits = rest
        t += dt
        while high != t >> 12:
            high = t >> 12 if high is None else min(t >> 12, high + 1000)
            words.append(8 << 12 | high % 4096)
            low = 0 if high else None
        if t % 4096 != low:
            low = t % 4096
            words.append(6 << 12 | low)
        if y != row:
            row = y
            words.append(row)
        if bits:
            words += [3 << 12 | p << 11 | x, 4 << 12 | bits[0] & 4095, 4 << 12 | bits[0] >> 12 & 4095]
            words.append(5 << 12 | bits[0] >> 24)
        else:
            words.append(2 << 12 | p << 11 | x)
    return b"".join(word.to_bytes(2, "little") for word in words)


def dat(steps, start=0, version=2):
    """Return DAT words as bytes; version 1 has 9 bits for columns and 8 for rows, which must fit."""
    n_x, n_y, bit = (14, 14, 28) if version == 2 else (9, 8, 17)
    found = events_of(steps, start)
    assert all(x < 1 << n_x and y < 1 << n_y for _, x, y, _ in found)
    words = [(y << n_x | x | p << bit) << 32 | t % (1 << 32) for t, x, y, p in found]
    return b"".join(word.to_bytes(8, "little") for word in words)


def header(**fields):
    """Return lines ``% key value`` as bytes."""
    return "".join(f"% {key} {value}\n" for key, value in fields.items()).encode()
