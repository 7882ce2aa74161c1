"""An encoder of Prophesee's codec ECF, in its three ways of packing coordinates, and files of it; slow and plain."""

import struct
from itertools import pairwise

import h5py
import numpy as np

ECF = 36559
EVENT_CD = np.dtype(
    {"names": ["x", "y", "p", "t"], "formats": ["<u2", "<u2", "<i2", "<i8"], "offsets": [0, 2, 4, 8], "itemsize": 16}
)


def runs(values):
    """Yield values with how often each comes in a row."""
    bounds = [0, *(np.flatnonzero(np.diff(values)) + 1), len(values)]
    for start, stop in pairwise(bounds):
        if stop > start:
            yield int(values[start]), stop - start


def encode_times(t):
    out, now = b"", int(t[0]) if len(t) else 0
    for value, count in runs(t):
        step = value - now
        if step >= 15:
            nibbles = []
            while step:
                nibbles.append(step & 15)
                step >>= 4
            # steps are taken before events, so what remains of one is 0
            out += bytes(0xF0 | nibble for nibble in nibbles)
        short = count if count < 15 else 15
        out += bytes([step << 4 | short]) + (struct.pack("<H", count) if short == 15 else b"")
        now = value
    return out


def encode_rows(y):
    return b"".join(
        struct.pack("<H", v << 5 | min(n, 31)) + (struct.pack("<H", n) if n >= 31 else b"") for v, n in runs(y)
    )


def encode_columns(x):
    out, i = b"", 0
    while i < len(x):
        base, mask, n = int(x[i]), 0, i + 1
        while n < len(x) and x[n - 1] < x[n] <= base + 5:
            mask |= 1 << (5 - (int(x[n]) - base))
            n += 1
        out += struct.pack("<H", base << 5 | mask)
        i = n
    return out


def encode_polarities(p):
    return b"".join(bytes([v << 7 | min(n, 127)]) + (struct.pack("<H", n) if n >= 127 else b"") for v, n in runs(p))


def padded(values):
    return [[int(v) for v in values[i : i + 4]] + [0] * (4 - len(values[i : i + 4])) for i in range(0, len(values), 4)]


def encode_packed(x, y, p):
    out = b""
    for v in padded(y.astype(int) << 12 | x.astype(int) << 1 | p):
        w0 = v[0] << 8 | v[1] & 0xFF
        w1 = v[1] >> 8 << 16 | v[2] & 0xFFFF
        w2 = v[2] >> 16 << 24 | v[3]
        out += struct.pack("<3I", w0, w1, w2)
    return out


def encode_packed_columns(x, p):
    out = b""
    for v in padded(x.astype(int) << 1 | p):
        out += struct.pack("<3H", v[0] << 4 | v[1] & 15, v[1] >> 4 << 8 | v[2] & 255, v[2] >> 8 << 12 | v[3])
    return out


def encode(t, x, y, p, mode):
    """Return a chunk: mode 2 packs rows, columns and polarities, mode 1 columns and polarities, mode 0 nothing."""
    out = struct.pack("<IQ", len(t) << 2 | mode, int(t[0]) if len(t) else 0) + encode_times(t)
    if mode == 2:
        return out + encode_packed(x, y, p)
    if mode == 1:
        return out + encode_rows(y) + encode_packed_columns(x, p)
    return out + encode_rows(y) + encode_columns(x) + encode_polarities(p)


def write_chunks(path, n, chunks, length, mask=0, filters=(ECF,), **attributes):
    """Write a file of chunks as they are."""
    with h5py.File(path, "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((length,))
        for number in filters:
            plist.set_filter(number, h5py.h5z.FLAG_OPTIONAL)
        kind, space = h5py.h5t.py_create(EVENT_CD), h5py.h5s.create_simple((n,), (h5py.h5s.UNLIMITED,))
        data = h5py.h5d.create(file.create_group("CD").id, b"events", kind, space, plist)
        for number, chunk in enumerate(chunks):
            data.write_direct_chunk((number * length,), chunk, filter_mask=mask)
        file.attrs.update({"version": "1.0", "geometry": "1280x720"} | attributes)
