"""Thresholds that find themselves: they start too low, and follow who wins, and when, to a target time.

With Falez et al. 2019: one random patch of each digit at a time, rates that shrink with the epochs, and features that
say how early a neuron fired before the target time.
"""

import numpy as np

import eventsnn as es

TARGET = 0.7  # of the duration

model = es.models.digits()
data = {}
for part in ("train", "test"):
    images = es.io.load_images("digits", part, size=model.size)
    data[part] = model.encoder.encode(images.pixels, images.labels)
train = data["train"]

net = es.Network([es.Conv(32, kernel=5, padding=2, threshold=2), es.Pool(2)], train.shape, seed=0)


def report(moment):
    first = net.backend.pointwise(net.run(train, stop=1))  # at each place, that is in each patch
    when = first.time.mean() / train.duration
    low, high = net.thresholds[0].min(), net.thresholds[0].max()
    print(f"{moment}: thresholds {low:.1f} to {high:.1f}, the first spike of a patch at {when:.2f}")


report("start")
es.fit(
    net,
    train,
    layer=0,
    rule=es.STDP(0.1, -0.1, dependence="multiplicative", beta=1),
    adaptation=es.ThresholdAdaptation(rate=0.2, target=TARGET, floor=1),
    schedule=es.Annealing(0.9),
    patches=True,
    epochs=6,
    on_epoch=lambda epoch: report(f"convergence {epoch.convergence:.3f}, {np.count_nonzero(epoch.winners)} maps win"),
)
for feature in (es.Feature("target-time", TARGET, regions=(2, 2)), es.Feature("latency", regions=(4, 4))):
    svm = es.LinearReadout(C=0.1, kind=feature)
    readout = svm.fit(es.features(net, train, feature), train.labels)
    print(f"{feature.kind}: {es.evaluate(net, data['test'], readout).accuracy:.2%} of the held-out digits right")
