"""Look at a network while it learns the bundled digits, and afterwards: eight pictures in the current folder."""

import eventsnn as es

model = es.models.digits()
images = es.io.load_images("digits", "train", size=model.size)
train = model.encoder.encode(images.pixels, images.labels)
net = es.Network([es.Conv(32, kernel=5, padding=2, threshold=9), es.Pool(2)], train.shape, seed=0)

history = es.fit(
    net,
    train,
    layer=0,
    rule=es.STDP(0.02, -0.015),
    competition=es.WTA(5, radius=2),
    epochs=5,
)
svm = es.LinearReadout(C=0.002, kind="latency")
readout = svm.fit(es.features(net, train, svm.kind), train.labels)
held_out = es.io.load_images("digits", "test", size=model.size)
test = model.encoder.encode(held_out.pixels, held_out.labels)

first, names = test[0], ["input", "convolution", "pooling"]
layers = [first, *net.run(first, record=True)]
pictures = {
    "raster": es.plot.raster(layers, names=names),
    "evolution": es.plot.evolution(net, 0, history.snapshots, model.encoder, maps=range(10)),
    "features": es.plot.features(net, 0, model.encoder),
    "latency": es.plot.latency_map(layers[1]).figure,
    "weights": es.plot.weights_histogram(net, 0).figure,
    "convergence": es.plot.convergence(history).figure,
    "spikes": es.plot.spikes_over_time([test, *net.run(test, record=True)], names=names).figure,
    "confusion": es.plot.confusion(es.evaluate(net, test, readout)).figure,
}
for name, figure in pictures.items():
    figure.savefig(f"{name}.png")
print("Written: " + ", ".join(f"{name}.png" for name in pictures))
