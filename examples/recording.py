"""A recording of a moving bar: from a camera's file to HDF5, to windows of it, and through a network."""

from pathlib import Path

import numpy as np

import eventsnn as es
from eventsnn.convert import convert

# A bar of 2 x 40 pixels crosses a sensor of 128 x 96 twice a second, for two seconds, among noise.
rng = np.random.default_rng(0)
t = np.sort(rng.integers(0, 2_000_000, 60_000))
y, p = rng.integers(28, 68, len(t)), rng.integers(0, 2, len(t))
x = (t // 1000 * 128 // 500 + p) % 128
noise = rng.random(len(t)) < 0.1
x[noise], y[noise] = rng.integers(0, 128, noise.sum()), rng.integers(0, 96, noise.sum())

# A file as Prophesee's cameras write it (DAT): a header, then eight bytes for each event.
words = np.stack([t, p << 28 | y << 14 | x], axis=1).astype("<u4")
header = b"% Version 2\n% Width 128\n% Height 96\n" + bytes([12, 8])
Path("bar.dat").write_bytes(header + words.tobytes())

account = convert(["bar.dat"], "bar.h5")
print(f"{account.written:,} events of {es.open('bar.dat').format} in bar.h5")

net = es.Network([es.Conv(8, kernel=5, threshold=3), es.Pool(4)], shape=(2, 96, 128), seed=0)
with es.EventDataset("bar.h5") as recording:
    for start in range(0, 100_000, 20_000):
        window = recording.between(start, start + 20_000)
        print(f"{start / 1000:3.0f} ms: {window.n_events} events in, {net.run(window).n_events} spikes out")
