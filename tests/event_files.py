"""Small writers of formats of event files, made from their descriptions, and a strategy of what to write.

What is written is a list of events ``(t, x, y, p)`` as a reader should give them: microseconds, x to the right, y down.
"""

import struct
import warnings
from itertools import pairwise

from hypothesis import strategies as st


@st.composite
def events(draw, width, height, longest=100_000, start=0, most=30, forward=True):
    """Draw events on a sensor, at most ``longest`` microseconds apart."""
    step = st.one_of(st.integers(0, 3), st.integers(0, 300), st.integers(0 if forward else -longest, longest))
    place = (st.integers(0, width - 1), st.integers(0, height - 1), st.integers(0, 1))
    t, found = start, []
    for dt, *rest in draw(st.lists(st.tuples(step, *place), max_size=most)):
        t += dt
        found.append((t, *rest))
    return found


def atis_bin(events):
    """Return events of 40 bits; row 240 lets 8192 us pass, as often as the time of 23 bits needs it."""
    words, added = [], 0
    for t, x, y, p in events:
        while t - added >= 1 << 23:
            added += 8192
            words.append(bytes([0, 240, 0, 0, 0]))
        words.append(bytes([x, y]) + (p << 23 | t - added).to_bytes(3, "big"))
    return b"".join(words)


def aedat2_header(*lines):
    """Return the header of an AEDAT 2.0 file."""
    return "".join(f"#{line}\r\n" for line in ("!AER-DAT2.0", " This is a raw AE data file", *lines)).encode()


def dvs128(events):
    """Return words of AEDAT 2.0; a DVS128 has its columns from the right, its rows from below and 1 for darker."""
    return b"".join(struct.pack(">II", (127 - y) << 8 | (127 - x) << 1 | 1 - p, t % (1 << 32)) for t, x, y, p in events)


def aedat1(events):
    """Return words of AEDAT 1.0, whose addresses, of a DVS128, have 16 bits."""
    return b"".join(dvs128([event])[2:] for event in events)


def davis346(events):
    """Return words of AEDAT 2.0, with the addresses of a DAVIS346."""
    return b"".join(
        struct.pack(">II", (259 - y) << 22 | (345 - x) << 12 | p << 11, t % (1 << 32)) for t, x, y, p in events
    )


AEDAT3 = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#Start-Time: 2016-09-01\r\n#!END-HEADER\r\n"


def packet(kind, size, bodies, overflow=0, capacity=None):
    """Return a packet of AEDAT 3.1, with room for more records than there are."""
    capacity = len(bodies) if capacity is None else capacity
    head = struct.pack("<hhiiiiii", kind, 1, size, 4, overflow, capacity, len(bodies), len(bodies))
    return head + b"".join(bodies) + bytes(max(0, size * (capacity - len(bodies))))


def aedat3(events, per_packet=3, spare=2):
    """Return packets of polarity events, each followed by one of inertial measurements."""
    whole, runs = b"", [[]]
    for event in events:
        if len(runs[-1]) == per_packet or (runs[-1] and runs[-1][0][0] >> 31 != event[0] >> 31):
            runs.append([])
        runs[-1].append(event)
    for run in filter(None, runs):
        bodies = [struct.pack("<II", 1 | p << 1 | y << 2 | x << 17, t & 0x7FFFFFFF) for t, x, y, p in run]
        whole += packet(1, 8, bodies, run[0][0] >> 31, len(run) + spare) + packet(3, 36, [bytes(36)])
    return whole


def es_header(kind, width, height):
    """Return the header of an Event Stream file."""
    return b"Event Stream" + bytes([2, 0, 0, kind]) + struct.pack("<HH", width, height)


def es_dvs(events, height):
    """Return DVS events of Event Stream, whose rows are from below."""
    whole = b""
    for before, (t, x, y, p) in pairwise([(0, 0, 0, 0), *events]):
        overflows, dt = divmod(t - before[0], 127)
        whole += b"\xff" * overflows + struct.pack("<BHH", dt << 1 | p, x, height - 1 - y)
    return whole


def es_atis(events, height):
    """Return ATIS events of Event Stream, each followed by an exposure measurement."""
    whole = b""
    for before, (t, x, y, p) in pairwise([(0, 0, 0, 0), *events]):
        overflows, dt = divmod(t - before[0], 63)
        whole += b"\xff" * (overflows // 3) + bytes([0xFC | overflows % 3]) * (overflows % 3 > 0)
        whole += struct.pack("<BHH", dt << 2 | p << 1, x, height - 1 - y) + struct.pack("<BHH", 1, 7, 7)
    return whole


def es_colour(events, height):
    """Return colour events of Event Stream, which have no polarity."""
    whole = b""
    for before, (t, x, y, _) in pairwise([(0, 0, 0, 0), *events]):
        overflows, dt = divmod(t - before[0], 254)
        whole += b"\xff" * overflows + struct.pack("<BHHBBB", dt, x, height - 1 - y, 9, 8, 7)
    return whole


def flat_table(identifier, *fields):
    """Return a FlatBuffers table; a field is a number as ``bytes``, or a vector as (count, bytes)."""
    inline, far = b"", b""
    begin = 8 + 4 + 2 * len(fields)  # of the table: after its address, the identifier and the places of its fields
    places = []
    end = 4 + sum(4 if isinstance(field, tuple) else len(field) for field in fields)
    for field in fields:
        places.append(4 + len(inline))
        if isinstance(field, tuple):
            inline += struct.pack("<I", end + len(far) - places[-1])
            far += struct.pack("<I", field[0]) + field[1]
        else:
            inline += field
    vtable = struct.pack(f"<HH{len(fields)}H", 4 + 2 * len(fields), end, *places)
    return struct.pack("<I", begin) + identifier + vtable + struct.pack("<i", begin - 8) + inline + far


STREAM = (
    '<node name="{0}" path="/mainloop/Recorder/outInfo/{0}/"><attr key="typeIdentifier" type="string">{1}</attr>'
    '<node name="info" path="/mainloop/Recorder/outInfo/{0}/info/"><attr key="sizeX" type="int">346</attr>'
    '<attr key="sizeY" type="int">260</attr></node></node>'
)


def aedat4_header(compression=0, end=-1, streams=((0, "EVTS"), (2, "IMUS"), (3, "EVTS"))):
    """Return the header of an AEDAT 4.0 file."""
    text = ("<dv>" + "".join(STREAM.format(*stream) for stream in streams) + "</dv>").encode()
    table = flat_table(b"IOHE", struct.pack("<i", compression), struct.pack("<q", end), (len(text), text))
    return b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(table)) + table


def aedat4_packet(events, stream=0, compress=bytes, count=None):
    """Return a packet of events."""
    bodies = b"".join(struct.pack("<qHHB3x", *event) for event in events)
    table = flat_table(b"EVTS", (len(events) if count is None else count, bodies))
    body = compress(struct.pack("<I", len(table)) + table)
    return struct.pack("<ii", stream, len(body)) + body


def aedat4(events, compress=bytes, per_packet=4):
    """Return packets of events, each followed by one of another stream."""
    runs = [events[i : i + per_packet] for i in range(0, len(events), per_packet)]
    return b"".join(aedat4_packet(run, 0, compress) + struct.pack("<ii", 2, 5) + bytes(5) for run in runs)


def mat_variable(name, rows, columns, kind, data):
    """Return a matrix of doubles as MATLAB 5 writes it; its numbers are stored as ``kind``."""

    def part(kind, content):
        return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)

    body = part(6, struct.pack("<II", 6, 0)) + part(5, struct.pack("<ii", rows, columns)) + part(1, name.encode())
    return part(14, body + part(kind, data))


def drained(recording, size=1 << 16):
    """Return all events of a recording as tuples, and the report of its stream; as one array they are the same."""
    stream = recording.chunks(size)
    found = [event for chunk in stream for event in chunk.to_structured().tolist()]
    if recording.into is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            assert recording.read().tolist() == found
    return found, stream.report
