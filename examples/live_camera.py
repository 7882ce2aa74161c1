"""A camera sees bars move: samples are cut from recordings, a layer learns them, and decides while events come."""

import io

import numpy as np

import eventsnn as es
from eventsnn.encode import BackgroundActivity, ByTime, CameraEncoder, FirstSpike, Refractory

SENSOR = (24, 24)  # width and height
rng = np.random.default_rng(0)


def record(lying, milliseconds=400):
    """Return the events of an upright or lying bar, which crosses the sensor every 24 ms, and of noise."""
    n = 20 * milliseconds
    events = np.zeros(2 * n, es.io.EVENT_DTYPE)
    events["t"] = np.sort(rng.integers(0, 1000 * milliseconds, 2 * n))
    events["x"], events["y"], events["p"] = (rng.integers(0, high, 2 * n) for high in (*SENSOR, 2))
    bar = rng.random(2 * n) < 0.9
    edge = events["t"][bar] // 1000 % SENSOR[0]  # one pixel a millisecond
    events["y" if lying else "x"][bar] = edge
    return events


encoder = CameraEncoder(
    ByTime(8_000),  # windows of 8 ms
    FirstSpike(bins=16),  # the first spike of each pixel, in bins of half a millisecond
    [Refractory(2_000), BackgroundActivity(1_000)],
)
train, test = (
    es.concatenate([encoder.encode(record(lying), lying, sensor=SENSOR) for lying in (0, 1)]) for _ in range(2)
)
es.io.write("bars.h5", train, encoder=encoder)  # the file says how its samples were made

net = es.Network([es.Conv(8, kernel=5, padding=2, threshold=6), es.Pool(4)], train.shape, seed=0)
es.fit(net, train, layer=0, rule=es.STDP(0.02, -0.015), competition=es.WTA(3, radius=2), epochs=3)
readout = es.LinearReadout().fit(es.features(net, train), train.labels)
right = es.evaluate(net, test, readout).accuracy
print(f"{len(train)} windows to learn from; {right:.1%} of the held-out ones right")

# A stream of bytes: a pipe, "tcp://host:port" or a file that still grows would do as well. This one is there at once,
# so that windows wait for those before them, which counts as latency.
stream = io.BytesIO(record(lying=1).tobytes())
with es.live(stream, net, encoder, readout, format="events", sensor=SENSOR) as windows:
    decisions = [(window.decision, window.latency) for window in windows]
lying = np.mean([decision == 1 for decision, _ in decisions])
latency = 1000 * np.median([seconds for _, seconds in decisions])
print(f"live: {len(decisions)} windows, {lying:.1%} of them decided right, half of them within {latency:.1f} ms")
