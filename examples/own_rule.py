"""A plasticity rule of your own: a small function of a weight and of the time between input and output spike.

Here a synapse grows the more the less time its input led by, and shrinks by a fixed step otherwise. It is compiled the
first time that it is used, and learns nearly as fast as a built-in rule.
"""

import eventsnn as es


def recency(w, dt):
    if dt < 0:  # after the output spike, or never: then dt is -inf
        return w - 0.03 * w * (1 - w)
    return w + 0.12 * w * (1 - w) / (1 + dt)


model = es.models.digits()
data = {}
for part in ("train", "test"):
    images = es.io.load_images("digits", part, size=model.size)
    data[part] = model.encoder.encode(images.pixels, images.labels)

for name, rule in (("built in, by order alone", es.STDP(0.04, -0.03)), ("recency", es.Custom(recency))):
    net = es.Network([es.Conv(32, kernel=5, padding=2, threshold=9), es.Pool(2)], data["train"].shape, seed=0)
    history = es.fit(net, data["train"], layer=0, rule=rule, competition=es.WTA(5, radius=2), epochs=3)
    svm = es.LinearReadout(C=0.002, kind="latency")
    readout = svm.fit(es.features(net, data["train"], svm.kind), data["train"].labels)
    result = es.evaluate(net, data["test"], readout)
    last = history.epochs[-1]
    print(f"{name}: convergence {last.convergence:.4f}, {result.accuracy:.2%} of the held-out digits right")
