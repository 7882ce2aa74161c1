"""The training loop written out, on the bundled digits: each step is a value, and the weights are those of fit."""

import numpy as np

import eventsnn as es

images = es.io.load_images("digits", "train", size=(16, 16))[:400]
train = es.models.digits().encoder.encode(images.pixels, images.labels)
rule, competition = es.STDP(0.004, -0.003), es.WTA(5, radius=2)
schedule = es.Doubling(every=200, limit=0.15)


def new_network():
    return es.Network([es.Conv(32, kernel=5, padding=2, threshold=9), es.Pool(2)], train.shape, seed=0)


net, presented = new_network(), 0
for _ in range(2):
    for i in range(len(train)):
        stimulus = train[i]
        spikes = net.run(stimulus, stop=1)
        winners = competition(spikes)  # (map, y, x, time) of each
        now = schedule.rule(rule, presented)
        net.set_weights(0, now(net.weights[0], stimulus, winners, net.neurons(0).geometry))
        presented += 1

fitted = new_network()
es.fit(fitted, train, layer=0, rule=rule, competition=competition, schedule=schedule, epochs=2)
assert np.array_equal(net.weights[0], fitted.weights[0]), "the loop and fit differ"
print(f"{presented} stimuli by hand; all {net.weights[0].size:,} weights equal those of fit, bit for bit")
